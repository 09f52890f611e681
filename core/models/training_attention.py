"""Attention for training on the CPU, with dropout, for a few sequences at a time.

T' rows (tokens and appended rows), S' rows of the source, H heads, D head size.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .attention_layout import Layout
from .dropout import keep_mask, random_bits, round_probability
from .packing import PackedBatch


def attend_in_training(qkv: Tensor, batch: PackedBatch, *, causal: bool, dropout: float, scale: float) -> Tensor:
    """Attention with dropout and gradients, (T', 3, H, D) -> (T', H, D)."""
    return _attend(batch.training_layout(len(qkv), qkv.shape[2], causal), dropout, scale, qkv)


def attend_across_in_training(q: Tensor, kv: Tensor, batch: PackedBatch, *, dropout: float, scale: float) -> Tensor:
    """The same of every sequence over its source, (T', H, D) and (S', 2, H, D) -> (T', H, D)."""
    return _attend(batch.cross_training_layout(len(q), len(kv), q.shape[1]), dropout, scale, q, kv)


def _attend(layout: Layout, dropout: float, scale: float, *inputs: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):  # it would cast every small product back and forth
        return _TrainingAttention.apply(layout, round_probability(dropout), scale, *inputs)  # pyright: ignore[reportReturnType]


class _TrainingAttention(torch.autograd.Function):
    """Groups of sequences one after the other, so that their scores stay in the processor's cache."""

    @staticmethod
    def forward(ctx: Any, layout: Layout, dropout: float, scale: float, *inputs: Tensor) -> Tensor:
        rows, *_, heads, size = inputs[0].shape
        arranged = _take(inputs, layout.inputs_to_groups)
        out = arranged.new_zeros(len(layout.outputs_to_groups) + 1, size)
        saved: list[Tensor] = []
        for group in layout.groups:
            q, k, v = _cast(group.qkv(arranged), group.dtype(out.dtype))
            weights = torch.baddbmm(group.mask.to(q.dtype), q, k.transpose(1, 2), alpha=scale).softmax(dim=-1)
            saved.append(weights)
            if dropout:
                bits = random_bits(weights.shape)
                saved.append(bits)
                weights = keep_mask(bits, dropout, weights.dtype).mul_(weights)
                v = v * (1 / (1 - dropout))
            group.out(out).copy_(torch.bmm(weights, v))
        ctx.save_for_backward(arranged, *saved)
        ctx.layout, ctx.shapes, ctx.dropout, ctx.scale = layout, [x.shape for x in inputs], dropout, scale
        return out.index_select(0, layout.outputs_from_groups).view(rows, heads, size)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides the parameter names
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        arranged, *saved = ctx.saved_tensors
        layout, size = ctx.layout, arranged.shape[-1]
        grad_out = _take(grad_outputs, layout.outputs_to_groups)
        grad_arranged = arranged.new_zeros(len(arranged) + 1, size)
        remaining = iter(saved)
        for group in layout.groups:
            weights = next(remaining)
            q, k, v = _cast(group.qkv(arranged), weights.dtype)
            grad = group.out(grad_out).to(weights.dtype)
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
            for part, grad_part in zip(group.qkv(grad_arranged), (grad_q, grad_k, grad_v), strict=True):
                part.copy_(grad_part)
        together = grad_arranged.index_select(0, layout.inputs_from_groups)
        parts = together.split([shape.numel() // size for shape in ctx.shapes])
        return None, None, None, *(part.view(shape) for part, shape in zip(parts, ctx.shapes, strict=True))


def _cast(parts: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    return tuple(part.to(dtype) for part in parts)


def _take(tensors: tuple[Tensor, ...], index: Tensor) -> Tensor:
    """Vectors of several tensors (..., D), one after the other, by index; the one past the end gives zeros."""
    size = tensors[0].shape[-1]
    rows = [one.reshape(-1, size) for one in tensors]
    return torch.cat([*rows, rows[0].new_zeros(1, size)]).index_select(0, index)
