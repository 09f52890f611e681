"""Attention for training on the CPU, with dropout, for a few sequences at a time.

T' rows (tokens and appended rows), H heads, D head size.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .attention_layout import Layout
from .dropout import keep_mask, random_bits, round_probability
from .packing import PackedBatch


def attend_in_training(qkv: Tensor, batch: PackedBatch, *, causal: bool, dropout: float, scale: float) -> Tensor:
    """Attention with dropout and gradients, (T', 3, H, D) -> (T', H, D)."""
    dropout = round_probability(dropout)
    layout = batch.training_layout(len(qkv), qkv.shape[2], causal)
    with torch.autocast("cpu", enabled=False):  # it would cast every small product back and forth
        return _TrainingAttention.apply(qkv, layout, dropout, scale)  # pyright: ignore[reportReturnType]


class _TrainingAttention(torch.autograd.Function):
    """Groups of sequences one after the other, so that their scores stay in the processor's cache."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, layout: Layout, dropout: float, scale: float) -> Tensor:
        rows, _, heads, size = qkv.shape
        arranged = _take(qkv.reshape(-1, size), layout.qkv_to_groups)
        out = arranged.new_zeros(len(layout.to_groups) + 1, size)
        saved: list[Tensor] = []
        for group in layout.groups:
            q, k, v = group.qkv(arranged)
            weights = torch.baddbmm(group.mask.to(q.dtype), q, k.transpose(1, 2), alpha=scale).softmax(dim=-1)
            saved.append(weights)
            if dropout:
                bits = random_bits(weights.shape)
                saved.append(bits)
                weights = keep_mask(bits, dropout, weights.dtype).mul_(weights)
                v = v * (1 / (1 - dropout))
            group.rows_of(out).copy_(torch.bmm(weights, v))
        ctx.save_for_backward(arranged, *saved)
        ctx.layout, ctx.shape, ctx.dropout, ctx.scale = layout, qkv.shape, dropout, scale
        return out.index_select(0, layout.from_groups).view(rows, heads, size)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides the parameter names
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        arranged, *saved = ctx.saved_tensors
        layout, size = ctx.layout, arranged.shape[-1]
        grad_out = _take(grad_outputs[0].reshape(-1, size), layout.to_groups)
        grad_arranged = arranged.new_zeros(len(arranged) + 1, size)
        remaining = iter(saved)
        for group in layout.groups:
            weights = next(remaining)
            q, k, v = group.qkv(arranged)
            grad = group.rows_of(grad_out).to(weights.dtype)
            if ctx.dropout:
                mask = keep_mask(next(remaining), ctx.dropout, weights.dtype)
                grad = grad * (1 / (1 - ctx.dropout))
                grad_v = torch.bmm((weights * mask).transpose(1, 2), grad)
                grad_weights = mask.mul_(torch.bmm(grad, v.transpose(1, 2)))
            else:
                grad_v = torch.bmm(weights.transpose(1, 2), grad)
                grad_weights = torch.bmm(grad, v.transpose(1, 2))
            grad_scores = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
            grad_q = torch.bmm(grad_scores, k * ctx.scale)
            grad_k = torch.bmm(grad_scores.transpose(1, 2), q * ctx.scale)
            parts = group.rows_of(grad_arranged, 3).chunk(3)
            for part, grad_part in zip(parts, (grad_q, grad_k, grad_v), strict=True):
                part.copy_(grad_part)
        return grad_arranged.index_select(0, layout.qkv_from_groups).view(ctx.shape), None, None, None


def _take(rows: Tensor, index: Tensor) -> Tensor:
    """Rows by index; the index one past the end gives zeros."""
    return F.pad(rows, (0, 0, 0, 1)).index_select(0, index)
