"""What BERT and GPT-2 share: self-attention over a packed batch, and the feed-forward layer.

Attention is that of Vaswani et al. 2017 (https://arxiv.org/abs/1706.03762). Nothing here names a model.

Shapes: B sequences, T tokens in all, C hidden size, H heads, D head size (C / H), n tokens of one sequence.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .packing import PackedBatch

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


def attend(
    q: Tensor, k: Tensor, v: Tensor, batch: PackedBatch, *, causal: bool, dropout: float, scale: float
) -> Tensor:
    """Scaled dot-product attention of every sequence with itself, (T, H, D) each -> (T, H, D).

    On the CPU, one call for each run of sequences of equal length. On CUDA in half precision and without dropout,
    the variable-length kernel; elsewhere the sequences are padded in here and nowhere else.
    """
    if q.device.type == "cpu":
        return _attend_by_run(q, k, v, batch, causal, dropout, scale)
    half = q.dtype in (torch.bfloat16, torch.float16)
    if q.device.type == "cuda" and half and dropout == 0 and (varlen := _variable_length_kernel()):
        longest, offsets = max(batch.lengths), batch.cu_seqlens
        window = (-1, 0) if causal else (-1, -1)
        return varlen(q, k, v, offsets, offsets, longest, longest, scale=scale, window_size=window)
    return _attend_padded(q, k, v, batch, causal, dropout, scale)


@cache
def _variable_length_kernel() -> Callable[..., Tensor] | None:
    """Torch's kernel for packed sequences, where this version's takes the options that we need."""
    from torch.nn.attention import varlen

    wanted = {"scale", "window_size"}
    return varlen.varlen_attn if wanted <= inspect.signature(varlen.varlen_attn).parameters.keys() else None


def _attend_by_run(
    q: Tensor, k: Tensor, v: Tensor, batch: PackedBatch, causal: bool, dropout: float, scale: float
) -> Tensor:
    outputs = []
    for start, count, length in batch.runs:
        # (count * n, H, D) -> (count, H, n, D)
        run = (x[start : start + count * length].unflatten(0, (count, length)).transpose(1, 2) for x in (q, k, v))
        out = F.scaled_dot_product_attention(*run, dropout_p=dropout, is_causal=causal, scale=scale)
        outputs.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)


def _attend_padded(
    q: Tensor, k: Tensor, v: Tensor, batch: PackedBatch, causal: bool, dropout: float, scale: float
) -> Tensor:
    longest = max(batch.lengths)
    lengths = batch.cu_seqlens.diff()
    inside = torch.arange(longest, device=q.device) < lengths[:, None]  # (B, n)
    rows = torch.repeat_interleave(torch.arange(len(batch), device=q.device), lengths, output_size=len(q))
    padded = (
        x.new_zeros(len(batch), longest, *x.shape[1:]).index_put((rows, batch.position_ids), x) for x in (q, k, v)
    )
    mask = inside[:, None, None, :]
    if causal:
        mask = mask & torch.ones(longest, longest, dtype=torch.bool, device=q.device).tril()
    out = F.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in padded), attn_mask=mask, dropout_p=dropout, scale=scale
    )
    return out.transpose(1, 2)[rows, batch.position_ids]


def attention_weights(q: Tensor, k: Tensor, *, causal: bool, scale: float) -> Tensor:
    """The attention weights of one sequence, (n, H, D) twice -> (H, n, n); each row sums to 1."""
    scores = torch.einsum("qhd,khd->hqk", q, k) * scale
    if causal:
        future = torch.ones(len(q), len(q), dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(future, -math.inf)
    return scores.softmax(dim=-1)


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

    def forward(self, x: Tensor, batch: PackedBatch, trace: Trace | None = None) -> Tensor:
        """(T, C) -> (T, C); with a trace the weights are computed in the open and kept there."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(-3)  # (T, H, D) each
        dropout = self.dropout if self.training else 0.0
        if trace is None:
            out = attend(q, k, v, batch, causal=self.causal, dropout=dropout, scale=self.scale)
        else:
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
        return self.out(out.flatten(-2))


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
