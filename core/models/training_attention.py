"""Attention for training on the CPU: neighbours of similar length are computed together."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .dropout import keep_bits, keep_mask
from .packing import PackedBatch

SCORES_AT_ONCE = 2**18  # attention scores of one piece: with what is made from them, about a core's cache


VECTOR = 16  # lengths are rounded up to it: softmax over 12 numbers takes 7 times as long as over 16


SHORT = 64  # tokens: below that oneDNN's kernel for every new shape in half precision costs more than it saves


@dataclass(frozen=True)
class _Piece:
    """Neighbouring sequences whose attention is computed at once, as if all were of one length."""

    start: int  # where its rows stand in a layout with one row for each token and head
    stop: int
    length: int
    mask: Tensor  # added to the scores: -inf at the keys that are not seen

    def of(self, laid: Tensor, parts: int = 1) -> Tensor:
        """The piece's rows of a layout with so many for each token and head, (parts * count * H, length, D)."""
        return laid[parts * self.start : parts * self.stop].view(-1, self.length, laid.shape[-1])

    def qkv(self, laid: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, (count * H, length, D) each."""
        part = self.of(laid, 3)
        dtype = torch.promote_types(part.dtype, torch.float32) if self.length <= SHORT else part.dtype
        return part.to(dtype).chunk(3)


@dataclass(frozen=True)
class _Layout:
    """Where rows of D numbers stand when the pieces lie one after another, with the heads before the tokens."""

    pieces: tuple[_Piece, ...]
    rows: Tensor  # which of the T * H rows stands where; a row that is too much takes the one after the last
    places: Tensor  # where each of the T * H rows stands; one that no sequence owns is after the last
    qkv_rows: Tensor  # the same for T * 3 * H rows, a piece's queries before its keys before its values
    qkv_places: Tensor


@lru_cache(maxsize=4)  # of the last few batches: every layer asks
def _layout(batch: PackedBatch, tokens: int, heads: int, causal: bool) -> _Layout:
    """Cuts a batch into pieces of neighbours of about equal length whose scores fit in the cache."""
    pieces, rows, qkv_rows, first, start = [], [], [], 0, 0
    head, part = torch.arange(heads)[:, None], torch.arange(3)[:, None, None, None]
    rounded = [-(-length // VECTOR) * VECTOR for length in batch.lengths]
    while first < len(batch):
        length = rounded[first]
        last, most = first + 1, first + max(1, SCORES_AT_ONCE // (heads * length * length))
        while last < min(most, len(batch)) and rounded[last] == length:
            last += 1
        inside = torch.arange(length)
        beyond = inside >= torch.tensor(batch.lengths[first:last])[:, None]  # (count, length)
        token = (batch.cu_seqlens[first:last, None] + inside).masked_fill_(beyond, tokens)[:, None]
        rows.append((token * heads + head).clamp_(max=tokens * heads).flatten())
        qkv_rows.append(((token * 3 + part) * heads + head).clamp_(max=tokens * 3 * heads).flatten())
        unseen = beyond.repeat_interleave(heads, dim=0)[:, None]
        if causal:  # what is beyond the end comes after every token
            unseen = torch.ones(length, length, dtype=torch.bool).triu_(1)
        stop = start + len(rows[-1])
        pieces.append(_Piece(start, stop, length, torch.zeros(unseen.shape).masked_fill_(unseen, -math.inf)))
        first, start = last, stop
    of_one, of_three = torch.cat(rows), torch.cat(qkv_rows)
    return _Layout(
        tuple(pieces), of_one, _places(of_one, tokens * heads), of_three, _places(of_three, tokens * 3 * heads)
    )


def _places(rows: Tensor, count: int) -> Tensor:
    """Where each of `count` rows stands among `rows`; after the last if nowhere."""
    return torch.full((count + 1,), len(rows)).index_copy_(0, rows, torch.arange(len(rows)))[:-1]


def _take(rows: Tensor, index: Tensor) -> Tensor:
    """Rows by index; the one after the last is zero."""
    return F.pad(rows, (0, 0, 0, 1)).index_select(0, index)


class _TrainingAttention(torch.autograd.Function):
    """Attention with dropout for training on the CPU, a few sequences at a time so that scores stay in the cache.

    torch's own kernel for the CPU knows no dropout; what it falls back to takes 2 to 5 times as long.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, batch: PackedBatch, causal: bool, dropout: float, scale: float) -> Tensor:
        tokens, _, heads, size = qkv.shape
        layout = _layout(batch, tokens, heads, causal)
        laid = _take(qkv.reshape(-1, size), layout.qkv_rows)
        out = laid.new_zeros(len(layout.rows) + 1, size)
        kept: list[Tensor] = []
        for piece in layout.pieces:
            q, k, v = piece.qkv(laid)
            weights = torch.baddbmm(piece.mask.to(q.dtype), q, k.transpose(1, 2), alpha=scale).softmax(dim=-1)
            kept.append(weights)
            if dropout:
                bits = keep_bits(weights.shape)
                kept.append(bits)
                weights = keep_mask(bits, dropout, weights.dtype).mul_(weights)
                v = v * (1 / (1 - dropout))
            piece.of(out).copy_(torch.bmm(weights, v))
        ctx.save_for_backward(laid, *kept)
        ctx.layout, ctx.shape, ctx.dropout, ctx.scale = layout, qkv.shape, dropout, scale
        return out.index_select(0, layout.places).view(tokens, heads, size)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides the names
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        laid, *kept = ctx.saved_tensors
        layout, size = ctx.layout, laid.shape[-1]
        grad_out = _take(grad_outputs[0].reshape(-1, size), layout.rows)
        grad_laid = laid.new_zeros(len(laid) + 1, size)
        saved = iter(kept)
        for piece in layout.pieces:
            weights = next(saved)
            q, k, v = piece.qkv(laid)
            grad = piece.of(grad_out).to(weights.dtype)
            if ctx.dropout:
                mask = keep_mask(next(saved), ctx.dropout, weights.dtype)
                grad = grad * (1 / (1 - ctx.dropout))
                grad_v = torch.bmm((weights * mask).transpose(1, 2), grad)
                grad_weights = mask.mul_(torch.bmm(grad, v.transpose(1, 2)))
            else:
                grad_v = torch.bmm(weights.transpose(1, 2), grad)
                grad_weights = torch.bmm(grad, v.transpose(1, 2))
            grad_scores = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            grad_q = torch.bmm(grad_scores, k * ctx.scale)
            grad_k = torch.bmm(grad_scores.transpose(1, 2), q * ctx.scale)
            for whole, part in zip(piece.of(grad_laid, 3).chunk(3), (grad_q, grad_k, grad_v), strict=True):
                whole.copy_(part)
        return grad_laid.index_select(0, layout.qkv_places).view(ctx.shape), None, None, None, None
