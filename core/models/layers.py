"""What BERT and GPT-2 share: self-attention over a packed batch, and the feed-forward layer.

Attention is that of Vaswani et al. 2017 (https://arxiv.org/abs/1706.03762). Nothing here names a model.

Shapes: B sequences, T tokens in all, C hidden size, H heads, D head size (C / H), n tokens of one sequence.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import attend, attend_alone, attention_weights
from .packing import PackedBatch

if TYPE_CHECKING:
    from .cache import LayerCache

ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


@dataclass
class Trace:
    """What a forward pass is asked to keep for someone who wants to look inside."""

    hidden_states: list[Tensor] = field(default_factory=list)  # (T, C) after the embeddings and after each block
    attentions: list[tuple[Tensor, ...]] = field(default_factory=list)  # a block's weights, (H, n, n) a sequence


TRAINING_ROWS = 32
ROWS = 64


def pad_rows(x: Tensor) -> Tensor:
    """(T, C) -> (T', C): zeros below, up to a multiple of some number of rows, where that saves memory.

    On the CPU oneDNN keeps kernels for every number of rows it meets, in training in half precision (1400 MB of memory
    against 940 after 60 short batches) and in prediction with packed weights; a few rows are left as they are.
    """
    if x.device.type != "cpu":
        return x
    if x.requires_grad:
        multiple = TRAINING_ROWS if torch.is_autocast_enabled("cpu") else 1
    else:
        multiple = 1 if len(x) <= ROWS else ROWS if len(x) <= 16 * ROWS else 4 * ROWS
    return F.pad(x, (0, 0, 0, -len(x) % multiple)) if len(x) % multiple else x


class SelfAttention(nn.Module):
    """Multi-head self-attention over a packed batch.

    Args:
        hidden_size: C.
        num_heads: H, a divisor of C.
        dropout: chance that an attention weight is dropped in training.
        causal: each token sees itself and what stands before it, instead of its whole sequence.
        scale: what the dot products are multiplied by; 1 / sqrt(D) if left out.
    """

    def __init__(
        self, hidden_size: int, num_heads: int, dropout: float, *, causal: bool, scale: float | None = None
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.causal = causal
        self.scale = (hidden_size // num_heads) ** -0.5 if scale is None else scale
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)

    def forward(
        self,
        x: Tensor,
        batch: PackedBatch,
        trace: Trace | None = None,
        cache: "LayerCache | None" = None,
        only: Tensor | None = None,
    ) -> Tensor:
        """(T, C) -> (T, C); with a trace the weights are computed in the open and kept there.

        With `only`, one token of each sequence that sees all of it, (B, C) for these.

        With a cache every token sees what its row of the cache holds too, and there is neither trace nor dropout.
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (T, 3, H, D)
        dropout = self.dropout if self.training else 0.0
        if cache is not None:
            out = cache.attend(qkv[: batch.num_tokens].to(cache.kept.dtype), self.scale).to(qkv.dtype)
            out = F.pad(out, (0, 0, 0, 0, 0, len(x) - len(out))) if len(x) > len(out) else out
        elif only is not None and not self.training and not torch.is_grad_enabled() and x.device.type == "cpu":
            return self.out(attend_alone(qkv, batch, only, scale=self.scale).flatten(-2))
        elif trace is None:
            out = attend(qkv, batch, causal=self.causal, dropout=dropout, scale=self.scale)
        else:
            q, k, v = qkv.unbind(-3)
            weights = tuple(
                attention_weights(one_q, one_k, causal=self.causal, scale=self.scale)
                for one_q, one_k in zip(batch.split(q), batch.split(k), strict=True)
            )
            trace.attentions.append(weights)
            out = torch.cat(
                [
                    torch.einsum("hqk,khd->qhd", F.dropout(one, dropout), one_v)
                    for one, one_v in zip(weights, batch.split(v), strict=True)
                ]
            )
        out = out.flatten(-2)
        return self.out(out if only is None else out[only])


def set_dropout(network: nn.Module, dropout: float) -> None:
    """Gives every dropout in a network this chance; its configuration keeps the model's own."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
        elif isinstance(module, SelfAttention):
            module.dropout = dropout


class FeedForward(nn.Module):
    """Two linear layers with an activation between them, token by token.

    Args:
        hidden_size: C.
        intermediate_size: the width between the two.
        activation: a key of ACTIVATIONS.
    """

    def __init__(self, hidden_size: int, intermediate_size: int, activation: str) -> None:
        super().__init__()
        self.up = nn.Linear(hidden_size, intermediate_size)
        self.activation = ACTIVATIONS[activation]
        self.down = nn.Linear(intermediate_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(T, C) -> (T, C)."""
        return self.down(self.activation(self.up(x)))


# Published name of an activation -> ours (ACTIVATIONS in layers.py).
HF_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
}


def take_selected(hidden: Tensor, batch: PackedBatch | None) -> Tensor:
    """The vectors of the batch's selected tokens, (S, C); all of them where none are selected."""
    return hidden if batch is None or batch.selected is None else hidden[batch.selected]


def init_weights(module: nn.Module, std: float) -> None:
    """The published initialisation: matrices normal with standard deviation `std`, biases zero, norms one."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            init_matrix(part.weight, std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


def init_matrix(weight: Tensor, std: float) -> None:
    """Draws a matrix, unless it is on the meta device: then its weights are about to come from a file."""
    if not weight.is_meta:
        nn.init.normal_(weight, std=std)


def embedding(rows: int, size: int) -> nn.Embedding:
    """An embedding that leaves the drawing to `init_weights`.

    nn.Embedding draws at once; on the meta device that makes torch import its compiler, which takes a second.
    """
    return nn.Embedding(rows, size, _weight=torch.empty(rows, size))
