"""The layers that BERT and GPT-2 share: self-attention over a packed batch, and the feed-forward layer.

Vaswani et al. 2017, https://arxiv.org/abs/1706.03762.

B batch, T tokens, C hidden, H heads, D head size (C / H). T' is T plus the rows that `pad_rows` appends.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import attend, attend_at
from .cache import LayerCache
from .cross_attention import CrossAttention
from .linear import Linear, uses_onednn
from .packing import PackedBatch


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its approximation with tanh."""
    return F.gelu(x, approximate="tanh")


# Functions with a name, so that a pickled network still has the same ones.
ACTIVATIONS = {
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "relu": F.relu,
    "silu": F.silu,
}


class SelfAttention(nn.Module):
    """Multi-head self-attention over a packed batch.

    Args:
        hidden_size: C.
        num_heads: H, a divisor of C.
        dropout: probability that an attention weight is dropped in training.
        causal: a token attends to itself and earlier tokens, instead of its whole sequence.
        scale: factor of the dot products. Default: 1 / sqrt(D).
    """

    def __init__(
        self, hidden_size: int, num_heads: int, dropout: float, *, causal: bool, scale: float | None = None
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.causal = causal
        self.scale = (hidden_size // num_heads) ** -0.5 if scale is None else scale
        self.qkv = Linear(hidden_size, 3 * hidden_size)
        self.out = Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, batch: PackedBatch, cache: LayerCache | None = None) -> Tensor:
        """(T', C) -> (T', C). With a cache, a token also attends to the cached tokens of its row."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (T', 3, H, D)
        out = attend(qkv, batch, **self._options()) if cache is None else cache.attend(qkv, self.scale)  # (T', H, D)
        return self.out(out.flatten(-2))  # (T', C)

    def forward_at(self, x: Tensor, batch: PackedBatch, rows: Tensor) -> Tensor:
        """(T', C) -> (B, C): `forward` at one token per sequence, which attends to the whole sequence."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (T', 3, H, D)
        out = attend_at(qkv, batch, rows, **self._options())  # (B, H, D)
        return self.out(out.flatten(-2))  # (B, C)

    def _options(self) -> dict[str, Any]:
        return {"causal": self.causal, "dropout": self.dropout if self.training else 0.0, "scale": self.scale}


class FeedForward(nn.Module):
    """Two linear layers with an activation in between, applied to each token.

    Args:
        hidden_size: C.
        intermediate_size: width between the two linear layers.
        activation: a key of ACTIVATIONS.
    """

    def __init__(self, hidden_size: int, intermediate_size: int, activation: str) -> None:
        super().__init__()
        self.up: nn.Linear = Linear(hidden_size, intermediate_size)
        self.activation = ACTIVATIONS[activation]
        self.down = Linear(intermediate_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(T, C) -> (T, C)."""
        return self.down(self.activation(self.up(x)))


# Multiples that the number of rows is rounded up to on the CPU.
TRAINING_MULTIPLE = 32
INFERENCE_MULTIPLE = 64


def pad_rows(x: Tensor) -> Tensor:
    """(T, C) -> (T', C): appends rows of zeros on the CPU, so that fewer different row counts occur.

    oneDNN caches a kernel per row count in training (in half precision 1400 MB of memory against 940 after 60 short
    batches) and in inference with packed weights. Up to INFERENCE_MULTIPLE rows are left unpadded in inference.
    """
    if x.device.type != "cpu":
        return x
    rows, multiple = len(x), INFERENCE_MULTIPLE
    if x.requires_grad:
        multiple = TRAINING_MULTIPLE if torch.is_autocast_enabled("cpu") or uses_onednn(x) else 1
    elif rows <= multiple:
        multiple = 1
    elif rows > 16 * multiple:
        multiple *= 4
    return F.pad(x, (0, 0, 0, -rows % multiple)) if rows % multiple else x


def set_dropout(network: nn.Module, dropout: float) -> None:
    """Sets the probability of every dropout in a network; the network's configuration is unchanged."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
        elif isinstance(module, SelfAttention | CrossAttention):
            module.dropout = dropout


def init_weights(module: nn.Module, std: float) -> None:
    """The published initialization: matrices normal with standard deviation `std`, biases 0, norms 1."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            init_matrix(part.weight, std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


def init_matrix(weight: Tensor, std: float) -> None:
    """Fills a matrix with normal random numbers; on the meta device it is left to be loaded from a file."""
    if not weight.is_meta:
        nn.init.normal_(weight, std=std)


def new_embedding(rows: int, size: int) -> nn.Embedding:
    """An uninitialized embedding for `init_weights` to fill.

    nn.Embedding initializes itself; on the meta device that makes torch import its compiler, which takes a second.
    """
    return nn.Embedding(rows, size, _weight=torch.empty(rows, size))
