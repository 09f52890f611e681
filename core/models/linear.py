"""Linear layers whose training in fp32 on the CPU uses the kernels of oneDNN.

T rows, C inputs, N outputs.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..cpu import has_avx512, has_onednn


class Linear(nn.Linear):
    """`nn.Linear` that trains with `product`, for the layers of a block: most of the arithmetic of a model."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., C) -> (..., N)."""
        if self.training and torch.is_grad_enabled() and uses_onednn(input):
            return _Linear.apply(input, self.weight, self.bias)  # pyright: ignore[reportReturnType]
        return super().forward(input)


class _Linear(torch.autograd.Function):
    """(T, C), matrix (N, C), bias (N,) -> (T, N)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides the parameter names
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        (x, weight), (grad,) = ctx.saved_tensors, grad_outputs
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            product(grad, weight.T) if needs_x else None,
            product(grad.T, x.T) if needs_weight else None,
            grad.sum(dim=0) if needs_bias else None,
        )


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """`a @ b.T + bias`, (T, C) and (N, C) -> (T, N); the result has no gradient."""
    if uses_onednn(a):
        return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return F.linear(a, b, bias)


def uses_onednn(x: Tensor) -> bool:
    """Whether `product` calls oneDNN: in fp32 on a processor with AVX-512.

    torch itself computes in fp32 with MKL, which does not use AVX-512 on AMD's processors: on a core of an EPYC
    (Zen 5) 110 GFLOP/s against 230.
    """
    # oneDNN creates a kernel for each number of rows: `pad_rows` (layers.py) leaves few.
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.dim() == 2
        and x.numel() > 0
        and not torch.is_autocast_enabled("cpu")
        and _is_fast()
    )


@cache
def _is_fast() -> bool:
    return has_onednn() and has_avx512()
