"""The number of parameters of a model, by matrix, and the memory that it needs.

Memory is computed, not measured: as in Rajbhandari et al. 2020 (ZeRO, https://arxiv.org/abs/1910.02054, section 3.1)
and, for activations, Korthikanti et al. 2022 (https://arxiv.org/abs/2205.05198, section 4).

Shapes: T tokens, n tokens of a text, C hidden size, H heads.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from ...core.models.bert import MaskedLMHead, PretrainingHead
from ...core.models.gpt2 import GPT2Config, LanguageModelHead
from ...core.models.heads import Config, Network

FP32 = 4  # bytes per number
HALF = 2
ADAMW = 16  # bytes per parameter in fp32: weight, gradient, and AdamW's two moments
TRAINING_TOKENS = 8192  # in a batch, for the estimate of activations: 32 texts of 256 tokens


@dataclass(frozen=True)
class Matrix:
    """A parameter tensor, or one that every layer has."""

    name: str  # "backbone.blocks.{i}.attn.qkv.weight"
    shape: tuple[int, ...]
    count: int  # of such tensors

    @property
    def size(self) -> int:
        """Number of parameters of one tensor."""
        return math.prod(self.shape)

    @property
    def parameters(self) -> int:
        """Number of parameters of all of them."""
        return self.size * self.count


@dataclass(frozen=True)
class MemoryEstimate:
    """The memory for one way to use a model."""

    purpose: str
    bytes: int
    calculation: str  # in words


@dataclass(frozen=True)
class Parameters:
    """The parameters of a model."""

    matrices: tuple[Matrix, ...]
    total: int
    memory: tuple[MemoryEstimate, ...]


def count_parameters(network: Network, *, tokens: int = TRAINING_TOKENS) -> Parameters:
    """Counts parameters; those that two modules share count once.

    Args:
        network: backbone and head.
        tokens: T, in a training batch.
    """
    shapes: dict[tuple[str, tuple[int, ...]], int] = {}
    for name, parameter in network.named_parameters():  # a tied parameter occurs once
        key = re.sub(r"(?<=\.)\d+(?=\.)", "{i}", name), tuple(parameter.shape)
        shapes[key] = shapes.get(key, 0) + 1
    matrices = tuple(Matrix(name, shape, count) for (name, shape), count in shapes.items())
    total = sum(one.parameters for one in matrices)
    return Parameters(matrices, total, tuple(_memory(network.config, network.head, total, tokens)))


def _memory(config: Config, head: nn.Module | None, total: int, tokens: int) -> Iterator[MemoryEstimate]:
    millions = f"{total / 1e6:,.1f} million"
    yield MemoryEstimate("weights, fp32", FP32 * total, f"{FP32} bytes x {millions}")
    yield MemoryEstimate("weights, bf16 or fp16", HALF * total, f"{HALF} bytes x {millions}")
    if isinstance(config, GPT2Config):
        length, layers, size = config.max_positions, config.num_layers, config.hidden_size
        product = f"2 x {layers} layers x {size:,} numbers x {FP32} bytes x {length:,} tokens"
        yield MemoryEstimate("cache of one full context, fp32", 2 * layers * size * FP32 * length, product)
    parts = f"{ADAMW} bytes x {millions}: weights, gradients, two moments"
    yield MemoryEstimate("training with AdamW, fp32", ADAMW * total, parts)
    length = min(256, config.max_positions)
    activations = estimate_activations(config, tokens, length, vocabulary=_is_over_vocabulary(head))
    how = f"estimate for a batch of {tokens:,} tokens in texts of {length}, stored for the backward pass"
    yield MemoryEstimate("activations in training, fp32", activations, how)


def estimate_activations(config: Config, tokens: int, length: int, *, vocabulary: bool) -> int:
    """The bytes that a forward pass in fp32 stores for the backward pass, with dropout (Korthikanti et al.).

    A layer stores 34 T C + 5 T n H bytes with 16-bit numbers. Of these, 2 T C + T n H are dropout masks of one byte
    per element; the rest doubles in fp32. Its 16 T C for the feed-forward layer assume an intermediate size of 4 C.

    Args:
        config: of the model.
        tokens: T, in total.
        length: n, of each text.
        vocabulary: whether logits over the vocabulary and their softmax are stored.
    """
    size, inner = config.hidden_size, config.intermediate_size
    linear = 2 * (16 * size + 4 * inner) + 2 * size
    attention = (2 * 4 + 1) * config.num_heads * length
    logits = 2 * FP32 * config.vocab_size if vocabulary else 0
    return tokens * (config.num_layers * (linear + attention) + logits)


def _is_over_vocabulary(head: nn.Module | None) -> bool:
    return isinstance(head, LanguageModelHead | MaskedLMHead | PretrainingHead)
