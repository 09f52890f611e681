"""The cross-entropy over a vocabulary, for some tokens at a time: the logits of all tokens may exceed the memory.

The gradient is computed with the loss, so that logits are neither kept for the backward pass nor computed again, as in
Hsu et al. 2024 (Liger Kernel, https://arxiv.org/abs/2410.10989, section 3.2).

S target tokens, N any vectors, C hidden, V vocabulary.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .linear import product, uses_onednn
from .packing import PackedBatch

LOGITS_AT_ONCE = {"cpu": 2**23}  # 32 MB in fp32
LOGITS_AT_ONCE_ON_DEVICE = 2**27  # larger products use a GPU better
MULTIPLE = 32  # of the tokens at once on the CPU
MIN_ROWS = 256  # tokens at once: for fewer, reading the output matrix takes longer than computing with it


@dataclass(frozen=True, eq=False)
class TokenLosses:
    """What a language-modeling head returns for a batch with targets."""

    total: Tensor  # (), the sum of the losses, smoothed if the head smooths; it alone has a gradient
    losses: Tensor  # (S,), the cross-entropy at each target token
    correct: Tensor | None  # (S,), whether the target is the most likely token; None where gradients are computed

    def __len__(self) -> int:
        return len(self.losses)


def over_vocabulary(
    x: Tensor, lm_head: nn.Module, vocab_size: int, batch: PackedBatch | None, label_smoothing: float = 0.0
) -> Tensor | TokenLosses:
    """The output of a language-modeling head: the losses of a batch that has targets, otherwise logits.

    Args:
        x: the input of the output matrix at the selected tokens, (S, C), or any vectors, (N, C).
        lm_head: the output matrix, a linear layer.
        vocab_size: V, the number of its outputs.
        batch: the tokens.
        label_smoothing: in training, the share of the target distribution that is spread over all tokens (Szegedy et
            al. 2016, https://arxiv.org/abs/1512.00567); Vaswani et al. use 0.1.
    """
    if batch is None or batch.target_ids is None:
        return lm_head(x)
    if torch.is_grad_enabled():
        parameters = lm_head.weight, lm_head.bias
        total, losses = _SummedCrossEntropy.apply(x, *parameters, (batch.target_ids, label_smoothing))  # pyright: ignore[reportGeneralTypeIssues]
        return TokenLosses(total, losses, None)
    losses, correct = [], []
    ids = batch.target_ids
    for rows, targets in _chunks(vocab_size, x, ids):
        logits = lm_head(rows).float()
        losses.append(F.cross_entropy(logits, targets, reduction="none"))
        correct.append(logits.argmax(dim=-1) == targets)
    every = torch.cat(losses)
    return TokenLosses(every.sum(), every, torch.cat(correct))


class _SummedCrossEntropy(torch.autograd.Function):
    """(S, C), matrix (V, C), bias (V,), targets (S,) with their smoothing -> the sum, and the losses (S,)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, smoothed: tuple[Tensor, float]
    ) -> tuple[Tensor, Tensor]:
        ids, smoothing = smoothed
        kind = x.device.type
        casts = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if casts else x.dtype
        needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        matrix = weight.to(dtype)
        shift = None if bias is None else bias.to(dtype)
        grad_x = torch.empty_like(x) if needs_x else None
        grad_weight = grad_bias = None
        losses = torch.empty(len(x), device=x.device)
        spread = torch.zeros((), device=x.device)  # the sum over all tokens of the vocabulary
        chunks = _chunks(len(weight), x.to(dtype), ids[:, None], losses, grad_x)
        with torch.autocast(kind, enabled=False) if casts else nullcontext():
            for tokens, targets, found, grad_tokens in chunks:
                rows = _pad(tokens)
                grad = product(rows, matrix, shift).log_softmax(dim=-1, dtype=torch.float32)
                scores, padding = grad.tensor_split([len(tokens)])
                found.copy_(-scores.gather(1, targets)[:, 0])
                if smoothing:
                    spread -= scores.sum()
                scores.exp_().scatter_add_(1, targets, scores.new_full(targets.shape, smoothing - 1.0))
                if smoothing:
                    scores -= smoothing / len(weight)
                padding.zero_()
                if needs_bias:
                    grad_bias = grad.sum(dim=0) if grad_bias is None else grad_bias.add_(grad.sum(dim=0))
                grad = grad.to(dtype)
                if grad_tokens is not None:
                    grad_tokens.copy_(product(grad, matrix.T)[: len(tokens)])
                if needs_weight:
                    grad_weight = _add_product(grad_weight, grad.T, rows, weight.dtype)
        ctx.mark_non_differentiable(losses)
        ctx.gradients = grad_x, grad_weight, grad_bias
        total = losses.sum()
        return total if not smoothing else (1 - smoothing) * total + smoothing / len(weight) * spread, losses

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides the parameter names
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        gradients, factor = ctx.gradients, grad_outputs[0]
        del ctx.gradients  # they are changed in place: a second backward pass is an error
        if factor.device.type != "cpu" or factor != 1:
            gradients = [None if one is None else one.mul_(factor) for one in gradients]
        return *gradients, None


def _chunks(vocab_size: int, *tensors: Tensor | None) -> Any:
    """Splits tensors (S, ...) into as few equal parts as have LOGITS_AT_ONCE logits, or MIN_ROWS rows, each."""
    first = tensors[0]
    assert first is not None
    at_once = max(MIN_ROWS, LOGITS_AT_ONCE.get(first.device.type, LOGITS_AT_ONCE_ON_DEVICE) // vocab_size)
    count = max(1, -(-len(first) // at_once))
    parts = [[None] * count if one is None else one.tensor_split(count) for one in tensors]
    return zip(*parts, strict=True)


def _pad(rows: Tensor) -> Tensor:
    """Appends rows of zeros on the CPU, so that oneDNN, which creates a kernel per row count, needs fewer of them."""
    return F.pad(rows, (0, 0, 0, -len(rows) % MULTIPLE)) if rows.device.type == "cpu" else rows


def _add_product(total: Tensor | None, a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """`total` plus a matrix product, in the precision of the total."""
    if total is None:
        return product(a, b.T).to(dtype)
    return total.addmm_(a, b) if a.dtype == dtype and not uses_onednn(a) else total.add_(product(a, b.T))
