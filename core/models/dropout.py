"""Dropout that draws 16-bit random masks on the CPU."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def random_bits(shape: Sequence[int]) -> Tensor:
    """Uniformly random int16 numbers for `keep_mask`.

    Four elements share one 64-bit draw: a Bernoulli draw per element is the slowest part of dropout on a CPU.
    """
    count = math.prod(shape)
    draws = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    return draws.view(torch.int16)[:count].view(shape)


def round_probability(dropout: float) -> float:
    """The multiple of 2^-16 below 1 that is nearest to a probability: what 16 bits can express."""
    return min(round(dropout * 2**16), 2**16 - 1) / 2**16


def keep_mask(bits: Tensor, dropout: float, dtype: torch.dtype) -> Tensor:
    """1 for an element that is kept and 0 for one that is dropped, in the dtype it is multiplied with.

    Args:
        bits: from `random_bits`.
        dropout: the probability, a result of `round_probability`.
        dtype: of the mask.
    """
    largest_kept = round((1 - dropout) * 2**16) - 1 - 2**15  # at most the largest int16: a larger number would wrap
    return torch.le(bits, largest_kept, out=torch.empty(bits.shape, dtype=dtype))


class _CPUDropout(torch.autograd.Function):
    """Dropout that saves two bytes per element for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dropout: float) -> Tensor:
        bits = random_bits(x.shape)
        ctx.save_for_backward(bits)
        ctx.dropout = dropout
        return keep_mask(bits, dropout, x.dtype).mul_(x).mul_(1 / (1 - dropout))

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides the parameter names
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, None]:
        (bits,), (grad,) = ctx.saved_tensors, grad_outputs
        return keep_mask(bits, ctx.dropout, grad.dtype).mul_(grad).mul_(1 / (1 - ctx.dropout)), None


class Dropout(nn.Dropout):
    """nn.Dropout, several times faster on a CPU; there the probability is rounded to a multiple of 2^-16."""

    def forward(self, input: Tensor) -> Tensor:
        """Any shape -> the same shape; the identity outside training."""
        if self.training and 0 < self.p < 1 and input.device.type == "cpu":
            return _CPUDropout.apply(input, round_probability(self.p))  # pyright: ignore[reportReturnType]
        return super().forward(input)
