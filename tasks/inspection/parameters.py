"""How many parameters a model has, matrix by matrix, and how much memory it needs.

Memory is counted as in Rajbhandari et al. 2020 (ZeRO, https://arxiv.org/abs/1910.02054, section 3.1) and, for the
activations, Korthikanti et al. 2022 (https://arxiv.org/abs/2205.05198, section 4): nothing is measured.

Shapes: T tokens, C hidden size, H heads, V vocabulary.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from ...core.models.bert import MaskedLMHead, PretrainingHead
from ...core.models.gpt2 import GPT2Config, LanguageModelHead
from ...core.models.heads import Config, Network

FP32 = 4  # bytes a number
HALF = 2
ADAMW = 16  # bytes a parameter in fp32: itself, its gradient, and AdamW's two moments
TRAINING_TOKENS = 8192  # what an estimate of activations is for: 32 texts of 256 tokens


@dataclass(frozen=True)
class Matrix:
    """A parameter, or one that every layer has."""

    name: str  # "backbone.blocks.{i}.attn.qkv.weight"
    shape: tuple[int, ...]
    times: int  # how many of them there are

    @property
    def each(self) -> int:
        """The numbers in one of them."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def parameters(self) -> int:
        """The numbers in all of them."""
        return self.each * self.times


@dataclass(frozen=True)
class Need:
    """What a way to use a model needs in memory."""

    what: str
    bytes: int
    how: str  # the sum, for people


@dataclass(frozen=True)
class Parameters:
    """What a model consists of."""

    matrices: tuple[Matrix, ...]
    total: int
    memory: tuple[Need, ...]


def count_parameters(network: Network, *, tokens: int = TRAINING_TOKENS) -> Parameters:
    """Every parameter once, also where two modules share it, and the memory that comes of them.

    Args:
        network: backbone and head.
        tokens: in a batch, for training.
    """
    shapes: dict[tuple[str, tuple[int, ...]], int] = {}
    for name, parameter in network.named_parameters():  # a tied one is there once
        key = re.sub(r"(?<=\.)\d+(?=\.)", "{i}", name), tuple(parameter.shape)
        shapes[key] = shapes.get(key, 0) + 1
    matrices = tuple(Matrix(name, shape, times) for (name, shape), times in shapes.items())
    total = sum(one.parameters for one in matrices)
    return Parameters(matrices, total, tuple(_needs(network.config, network.head, total, tokens)))


def _needs(config: Config, head: nn.Module | None, total: int, tokens: int) -> Iterator[Need]:
    millions = f"{total / 1e6:,.1f} million"
    yield Need("weights, fp32", FP32 * total, f"{FP32} bytes x {millions}")
    yield Need("weights, bf16 or fp16", HALF * total, f"{HALF} bytes x {millions}")
    if isinstance(config, GPT2Config):
        length, layers, size = config.max_positions, config.num_layers, config.hidden_size
        sum_of = f"2 x {layers} layers x {size:,} numbers x {FP32} bytes x {length:,} tokens"
        yield Need("cache of one full context, fp32", 2 * layers * size * FP32 * length, sum_of)
    training = ADAMW * total
    yield Need("training with AdamW, fp32", training, f"{ADAMW} bytes x {millions}: weights, gradients, two moments")
    length = min(256, config.max_positions)
    activations = estimate_activations(config, tokens, length, vocabulary=_over_vocabulary(head))
    how = f"estimate for {tokens:,} tokens at once in texts of {length}, kept for the way back"
    yield Need("activations in training, fp32", activations, how)


def estimate_activations(config: Config, tokens: int, length: int, *, vocabulary: bool) -> int:
    """The bytes that a forward pass in fp32 keeps for the way back, with dropout, as Korthikanti et al. count them.

    A layer keeps 34 T C + 5 T n H bytes with 16-bit numbers, of which 2 T C + T n H are the masks of dropout, a byte
    each, and the rest doubles; its 16 T C for the feed-forward layer are those of an intermediate size of 4 C.

    Args:
        config: of the model.
        tokens: T, in all.
        length: n, of each text.
        vocabulary: whether there are logits over the vocabulary, kept with their softmax.
    """
    size, inner = config.hidden_size, config.intermediate_size
    linear = 2 * (16 * size + 4 * inner) + 2 * size
    attention = (2 * 4 + 1) * config.num_heads * length
    logits = 2 * FP32 * config.vocab_size if vocabulary else 0
    return tokens * (config.num_layers * (linear + attention) + logits)


def _over_vocabulary(head: nn.Module | None) -> bool:
    return isinstance(head, LanguageModelHead | MaskedLMHead | PretrainingHead)
