"""What BERT and GPT-2 share: self-attention over a packed batch, and the feed-forward layer.

Attention is that of Vaswani et al. 2017 (https://arxiv.org/abs/1706.03762). Nothing here names a model.

Shapes: B sequences, T tokens in all, C hidden size, H heads, D head size (C / H), n tokens of one sequence.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

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


def keep_bits(shape: Sequence[int]) -> Tensor:
    """Uniformly random 16-bit numbers, int16: below a threshold means kept.

    One 64-bit draw decides four elements; drawing a Bernoulli number for each is the slowest part of dropout on a CPU.
    """
    count = math.prod(shape)
    draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    return draws.view(torch.int16)[:count].view(shape)


def keep_mask(bits: Tensor, dropout: float, dtype: torch.dtype) -> Tensor:
    """1 where an element is kept, 0 where it is dropped, in the dtype that it is multiplied with."""
    threshold = round((1 - dropout) * 2**16) - 2**15
    return torch.lt(bits, threshold, out=torch.empty(bits.shape, dtype=dtype))


class _CPUDropout(torch.autograd.Function):
    """Dropout on the CPU, keeping two bytes an element for the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dropout: float) -> Tensor:
        bits = keep_bits(x.shape)
        ctx.save_for_backward(bits)
        ctx.dropout = dropout
        return keep_mask(bits, dropout, x.dtype).mul_(x).mul_(1 / (1 - dropout))

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides the names
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, None]:
        (bits,), (grad,) = ctx.saved_tensors, grad_outputs
        return keep_mask(bits, ctx.dropout, grad.dtype).mul_(grad).mul_(1 / (1 - ctx.dropout)), None


class Dropout(nn.Dropout):
    """nn.Dropout, several times faster on a CPU; the chance is rounded to a multiple of 2^-16."""

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same; the identity outside training."""
        if self.training and 0 < self.p < 1 and input.device.type == "cpu":
            return _CPUDropout.apply(input, self.p)  # pyright: ignore[reportReturnType]
        return super().forward(input)


def attend(
    q: Tensor, k: Tensor, v: Tensor, batch: PackedBatch, *, causal: bool, dropout: float, scale: float
) -> Tensor:
    """Scaled dot-product attention of every sequence with itself, (T, H, D) each -> (T, H, D).

    On the CPU, one call for each run of sequences of equal length. On CUDA in half precision and without dropout,
    the variable-length kernel; elsewhere the sequences are padded in here and nowhere else.
    """
    if q.device.type == "cpu":
        if q.requires_grad and torch.is_grad_enabled():
            out = _TrainingAttention.apply(q, k, v, batch, causal, dropout, scale)
            return out  # pyright: ignore[reportReturnType]
        return _attend_by_run(q, k, v, batch, causal, dropout, scale)
    half = q.dtype in (torch.bfloat16, torch.float16)
    if q.device.type == "cuda" and half and dropout == 0 and (varlen := _variable_length_kernel()):
        longest, offsets = max(batch.lengths), batch.cu_seqlens
        window = (-1, 0) if causal else (-1, -1)
        return varlen(q, k, v, offsets, offsets, longest, longest, scale=scale, window_size=window)
    return _attend_padded(q, k, v, batch, causal, dropout, scale)


@cache
def _variable_length_kernel() -> Callable[..., Any] | None:
    """Torch's kernel for packed sequences, where this version's takes the options that we need."""
    from torch.nn.attention import varlen

    wanted = {"scale", "window_size"}
    return varlen.varlen_attn if wanted <= inspect.signature(varlen.varlen_attn).parameters.keys() else None


def _attend_by_run(
    q: Tensor, k: Tensor, v: Tensor, batch: PackedBatch, causal: bool, dropout: float, scale: float
) -> Tensor:
    sizes = [count * length for _, count, length in batch.runs]
    outputs = []
    for (_, count, length), *run in zip(batch.runs, q.split(sizes), k.split(sizes), v.split(sizes), strict=True):
        # (count * n, H, D) -> (count, H, n, D)
        run = (x.unflatten(0, (count, length)).transpose(1, 2) for x in run)
        out = F.scaled_dot_product_attention(*run, dropout_p=dropout, is_causal=causal, scale=scale)
        outputs.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)


SCORES_AT_ONCE = 2**20  # attention scores of one piece: with what is made from them, about a core's cache
SHORT = 64  # tokens: below that a call costs more than its arithmetic, so that neighbours are joined even if padded


@dataclass(frozen=True)
class _Piece:
    """Neighbouring sequences whose attention is computed at once, as `count` sequences of `length` tokens."""

    tokens: slice
    count: int
    length: int
    places: Tensor | None  # where each token stands among count * length; None where the lengths are all equal
    absent: Tensor | None  # (count, 1, 1, length): -inf at the keys that are not there

    def by_head(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """(T, H, D) -> (count * H, length, D) of this piece."""
        x = x[self.tokens].to(dtype)
        if self.places is not None:
            x = x.new_zeros(self.count * self.length, *x.shape[1:]).index_copy_(0, self.places, x)
        return x.unflatten(0, (self.count, self.length)).transpose(1, 2).flatten(0, 1)

    def put(self, whole: Tensor, x: Tensor) -> None:
        """(count * H, length, D) -> the piece's part of (T, H, D)."""
        x = x.unflatten(0, (self.count, -1)).transpose(1, 2).flatten(0, 1)
        whole[self.tokens] = x if self.places is None else x[self.places]


@lru_cache(maxsize=4)  # of the last few batches: every layer asks, and asks again on the way back
def _pieces(batch: PackedBatch, heads: int) -> tuple[_Piece, ...]:
    """Cuts a batch into pieces whose scores fit in the cache: equal lengths, or short ones within a factor of two."""
    pieces, first, start = [], 0, 0
    while first < len(batch):
        length = batch.lengths[first]
        shortest = length // 2 if length <= SHORT else length
        last, most = first + 1, first + max(1, SCORES_AT_ONCE // (heads * length * length))
        while last < min(most, len(batch)) and shortest <= batch.lengths[last] <= length:
            last += 1
        lengths = batch.lengths[first:last]
        places = absent = None
        if min(lengths) < length:
            places = torch.tensor([i * length + j for i, n in enumerate(lengths) for j in range(n)])
            beyond = torch.arange(length) >= torch.tensor(lengths)[:, None]
            absent = torch.zeros(len(lengths), length).masked_fill_(beyond, -math.inf)[:, None, None]
        pieces.append(_Piece(slice(start, start + sum(lengths)), len(lengths), length, places, absent))
        first, start = last, start + sum(lengths)
    return tuple(pieces)


class _TrainingAttention(torch.autograd.Function):
    """Attention with dropout for training on the CPU, a few sequences at a time so that scores stay in the cache.

    torch's own kernel for the CPU knows no dropout; what it falls back to takes 2 to 5 times as long.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, batch: PackedBatch, causal: bool, dropout: float, scale: float
    ) -> Tensor:
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        kept: list[Tensor] = []
        for piece in _pieces(batch, q.shape[1]):
            # oneDNN makes a new kernel for every new shape of a half-precision product: too dear for short sequences.
            dtype = torch.promote_types(q.dtype, torch.float32) if piece.length <= SHORT else q.dtype
            piece_q, piece_k, piece_v = (piece.by_head(x, dtype) for x in (q, k, v))
            scores = torch.bmm(piece_q * scale, piece_k.transpose(1, 2))
            if causal:
                scores += scores.new_full((piece.length, piece.length), -math.inf).triu_(1)
            if piece.absent is not None:
                scores.unflatten(0, (piece.count, -1)).add_(piece.absent)
            weights = scores.softmax(dim=-1)
            kept.append(weights)
            if dropout:
                bits = keep_bits(weights.shape)
                kept.append(bits)
                weights = keep_mask(bits, dropout, dtype).mul_(weights)
                piece_v = piece_v * (1 / (1 - dropout))
            piece.put(out, torch.bmm(weights, piece_v))
        ctx.save_for_backward(q, k, v, *kept)
        ctx.batch, ctx.dropout, ctx.scale = batch, dropout, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides the names
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        grads = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v)]
        saved = iter(kept)
        for piece in _pieces(ctx.batch, q.shape[1]):
            weights = next(saved)
            piece_q, piece_k, piece_v, grad = (piece.by_head(x, weights.dtype) for x in (q, k, v, *grad_outputs))
            if ctx.dropout:
                mask = keep_mask(next(saved), ctx.dropout, weights.dtype)
                grad = grad * (1 / (1 - ctx.dropout))
                grad_v = torch.bmm((weights * mask).transpose(1, 2), grad)
                grad_weights = mask.mul_(torch.bmm(grad, piece_v.transpose(1, 2)))
            else:
                grad_v = torch.bmm(weights.transpose(1, 2), grad)
                grad_weights = torch.bmm(grad, piece_v.transpose(1, 2))
            grad_scores = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            grad_q = torch.bmm(grad_scores, piece_k * ctx.scale)
            grad_k = torch.bmm(grad_scores.transpose(1, 2), piece_q * ctx.scale)
            for whole, part in zip(grads, (grad_q, grad_k, grad_v), strict=True):
                piece.put(whole, part)
        return *grads, None, None, None, None


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

    def forward(
        self, x: Tensor, batch: PackedBatch, trace: Trace | None = None, cache: "LayerCache | None" = None
    ) -> Tensor:
        """(T, C) -> (T, C); with a trace the weights are computed in the open and kept there.

        With a cache every token sees what its row of the cache holds too, and there is neither trace nor dropout.
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(-3)  # (T, H, D) each
        dropout = self.dropout if self.training else 0.0
        if cache is not None:
            out = cache.attend(q, k, v, self.scale)
        elif trace is None:
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
