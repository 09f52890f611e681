"""The number of parameters of a model, by matrix, and the memory that it needs (memory.py of training).

T tokens.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ...core.models.bert import BertConfig
from ...core.models.heads import Config, Network
from ...core.training.memory import ADAMW, FP32, HALF, estimate_activations

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
    return Parameters(matrices, total, tuple(_memory(network.config, total, tokens)))


def _memory(config: Config, total: int, tokens: int) -> Iterator[MemoryEstimate]:
    millions = f"{total / 1e6:,.1f} million"
    yield MemoryEstimate("weights, fp32", FP32 * total, f"{FP32} bytes x {millions}")
    yield MemoryEstimate("weights, bf16 or fp16", HALF * total, f"{HALF} bytes x {millions}")
    if not isinstance(config, BertConfig):
        length, layers, size = config.max_positions, config.num_layers, config.hidden_size
        product = f"2 x {layers} layers x {size:,} numbers x {FP32} bytes x {length:,} tokens"
        yield MemoryEstimate("cache of one full context, fp32", 2 * layers * size * FP32 * length, product)
    parts = f"{ADAMW} bytes x {millions}: weights, gradients, two moments"
    yield MemoryEstimate("training with AdamW, fp32", ADAMW * total, parts)
    length = min(256, config.max_positions)
    activations = estimate_activations(config, tokens, length)
    how = f"estimate for a batch of {tokens:,} tokens in texts of {length}, stored for the backward pass"
    yield MemoryEstimate("activations in training, fp32", activations, how)
