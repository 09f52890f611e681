"""Attention within each sequence of a packed batch: the kernels, and which of them runs when.

B batch, T tokens, H heads, D head size; R sequences of n tokens each in a run, or of n positions in a padded rectangle
(P positions in all). T' is T plus the rows that `pad_rows` (layers.py) appends on the CPU; their output is zero.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cpu import has_amx
from .attention_layout import SHORT
from .packing import PackedBatch
from .training_attention import attend_in_training

HALF = (torch.bfloat16, torch.float16)
FLASH_GENERATIONS = (8, 9, 10, 12)  # major compute capabilities: A100 and RTX 30 and 40, H100, B200, RTX 50
MAX_FLASH_HEAD_SIZE = 192  # above it, the backward pass with dropout needs more shared memory than RTX 30 and 40 have
MAX_FLASH_DROPOUT = 0.9  # it rounds the share that is kept to 1/256, but scales by the exact one
PRODUCT_SCORES = 2**20  # attention scores per matrix product: they fit in the processor's cache


def attend(qkv: Tensor, batch: PackedBatch, *, causal: bool, dropout: float, scale: float) -> Tensor:
    """Scaled dot-product attention of every sequence with itself, (T', 3, H, D) -> (T', H, D).

    Args:
        qkv: queries, keys and values.
        batch: the sequences.
        causal: a token attends to itself and earlier tokens only.
        dropout: probability that an attention weight is dropped.
        scale: factor of the dot products.
    """
    kernel = choose_kernel(qkv, causal=causal, dropout=dropout)
    return kernel(qkv, batch, causal=causal, dropout=dropout, scale=scale)


def attend_at(qkv: Tensor, batch: PackedBatch, rows: Tensor, *, causal: bool, dropout: float, scale: float) -> Tensor:
    """`attend` at one token per sequence, which attends to the whole sequence: (T', 3, H, D) -> (B, H, D).

    Args:
        qkv: as in `attend`.
        batch: as in `attend`.
        rows: the token of each sequence, (B,); the last one where attention is causal.
        causal: as in `attend`.
        dropout: as in `attend`.
        scale: as in `attend`.
    """
    kernel = choose_kernel(qkv, causal=causal, dropout=dropout, single_query=True)
    if kernel is attend_single_query:
        return attend_single_query(qkv, batch, rows, scale=scale)
    return kernel(qkv, batch, causal=causal, dropout=dropout, scale=scale)[rows]


def choose_kernel(qkv: Tensor, *, causal: bool, dropout: float, single_query: bool = False) -> Callable[..., Tensor]:
    """The fastest kernel: the first row that applies.

    | device | precision | when                        | kernel              | why                                   |
    |--------|-----------|-----------------------------|---------------------|---------------------------------------|
    | CPU    | any       | training                    | attend_in_training  | torch's kernel has no dropout; its    |
    |        |           |                             |                     | fallback takes 2 to 5 times as long   |
    | CPU    | any       | inference, one query per    | attend_single_query | skips all other queries; in half      |
    |        |           | sequence                    |                     | precision torch's kernel takes 5      |
    |        |           |                             |                     | times as long for a single query      |
    | CPU    | half      | inference, not causal, on a | attend_by_products  | takes 2/3 of the time of torch's      |
    |        |           | processor without AMX       |                     | kernel from 64 tokens on              |
    | CPU    | any       | otherwise                   | attend_by_runs      | torch's kernel without padding; with  |
    |        |           |                             |                     | AMX it takes 1/2 to 2/3 of the time   |
    |        |           |                             |                     | of attend_by_products                 |
    | CUDA   | half      | where `has_flash_attention` | attend_packed       | one call for all sequences without    |
    |        |           |                             |                     | padding, with dropout and gradients:  |
    |        |           |                             |                     | torch's jagged nested tensors make    |
    |        |           |                             |                     | the same call, but find the longest   |
    |        |           |                             |                     | sequence by waiting for the device    |
    | any    | any       | otherwise                   | attend_padded       | supports everything; few calls for    |
    |        |           |                             |                     | sequences of similar length, because  |
    |        |           |                             |                     | launching a kernel takes its time     |
    """
    half = qkv.dtype in HALF
    if qkv.device.type == "cpu":
        if qkv.requires_grad and torch.is_grad_enabled():
            return attend_in_training
        if single_query and dropout == 0 and not torch.is_grad_enabled():
            return attend_single_query
        if half and not causal and dropout == 0 and not has_amx():
            return attend_by_products
        return attend_by_runs
    return attend_packed if has_flash_attention(qkv, dropout) else attend_padded


def has_flash_attention(qkv: Tensor, dropout: float) -> bool:
    """Whether torch's flash attention for packed sequences can compute this attention, forward and backward.

    It needs half precision, a build of torch that contains it, and an NVIDIA GPU of a generation that it was built for
    (FLASH_GENERATIONS). AMD's GPUs have another attention behind the same operator.
    """
    return (
        qkv.device.type == "cuda"
        and qkv.dtype in HALF
        and qkv.shape[-1] % 8 == 0
        and qkv.shape[-1] <= MAX_FLASH_HEAD_SIZE
        and dropout <= MAX_FLASH_DROPOUT
        and torch.version.hip is None
        and torch.cuda.get_device_capability(qkv.device)[0] in FLASH_GENERATIONS
        and torch.backends.cuda.is_flash_attention_available()
        and hasattr(torch.ops.aten, "_flash_attention_forward")
    )


def attend_single_query(qkv: Tensor, batch: PackedBatch, rows: Tensor, *, scale: float) -> Tensor:
    """Attention of one token per sequence, computed in fp32: (T', 3, H, D) and `rows` (B,) -> (B, H, D)."""
    q = qkv[rows, 0].float()[:, :, None]  # (B, H, 1, D)
    outputs, first = [], 0
    for start, count, length in batch.runs:
        kv = qkv[start : start + count * length, 1:].float().unflatten(0, (count, length))  # (R, n, 2, H, D)
        k, v = kv.transpose(1, 3).unbind(2)  # (R, H, n, D)
        outputs.append(F.scaled_dot_product_attention(q[first : first + count], k, v, scale=scale))  # (R, H, 1, D)
        first += count
    return torch.cat(outputs)[:, :, 0].to(qkv.dtype)


def attend_by_runs(qkv: Tensor, batch: PackedBatch, *, causal: bool, dropout: float, scale: float) -> Tensor:
    """One call of torch's fused kernel for each run of sequences of equal length."""
    return _by_run(partial(_fused, causal=causal, dropout=dropout, scale=scale), qkv, batch)


def attend_by_products(qkv: Tensor, batch: PackedBatch, *, causal: bool, dropout: float, scale: float) -> Tensor:
    """Matrix products for each run of sequences of SHORT tokens and more, torch's fused kernel for the others."""
    assert not causal
    assert dropout == 0

    def kernel(run: Tensor) -> Tensor:
        if run.shape[1] >= SHORT:
            return _products(run, scale)
        return _fused(run, causal=False, dropout=0.0, scale=scale)

    return _by_run(kernel, qkv, batch)


def _by_run(kernel: Callable[[Tensor], Tensor], qkv: Tensor, batch: PackedBatch) -> Tensor:
    """Applies a kernel (R, n, 3, H, D) -> (R, H, n, D) to every run of the batch: (T', 3, H, D) -> (T', H, D)."""
    padding = len(qkv) - batch.num_tokens
    *runs, rest = qkv.split([*(count * length for _, count, length in batch.runs), padding])
    outputs = [
        kernel(run.unflatten(0, (count, length))).transpose(1, 2).flatten(0, 1)  # (R n, H, D)
        for (_, count, length), run in zip(batch.runs, runs, strict=True)
    ]
    return torch.cat([*outputs, torch.zeros_like(rest[:, 0])])


def _fused(run: Tensor, *, causal: bool, dropout: float, scale: float) -> Tensor:
    q, k, v = run.transpose(1, 3).unbind(2)  # (R, H, n, D)
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal, scale=scale)


def _products(run: Tensor, scale: float) -> Tensor:
    count, length, _, heads, size = run.shape
    qkv = run.permute(2, 0, 3, 1, 4).reshape(3, count * heads, length, size)  # (3, R H, n, D)
    no_bias = run.new_empty(1)
    at_once = max(1, PRODUCT_SCORES // length**2)
    out = [
        torch.bmm(torch.baddbmm(no_bias, q, k.transpose(1, 2), beta=0, alpha=scale).softmax(dim=-1), v)
        for q, k, v in qkv.split(at_once, dim=1)
    ]
    return torch.cat(out).unflatten(0, (count, heads))


def attend_packed(qkv: Tensor, batch: PackedBatch, *, causal: bool, dropout: float, scale: float) -> Tensor:
    """One call of flash attention (Dao 2023, https://arxiv.org/abs/2307.08691) for all sequences."""
    q, k, v = qkv.unbind(-3)  # (T, H, D)
    longest, offsets = max(batch.lengths), batch.cu_seqlens
    # The operator behind scaled_dot_product_attention: torch.nn.attention.varlen has no dropout. Autograd knows its
    # gradient, and takes the random numbers of the forward pass from the outputs that are not used here.
    return torch.ops.aten._flash_attention_forward(
        q, k, v, offsets, offsets, longest, longest, dropout, causal, False, scale=scale
    )[0]


def attend_padded(qkv: Tensor, batch: PackedBatch, *, causal: bool, dropout: float, scale: float) -> Tensor:
    """One call of torch's fused kernel for each group of sequences of similar length, padded to the longest one."""
    layout = batch.padded_layout
    padded, outputs = layout.pad(qkv), []  # (P, 3, H, D)
    for rectangle in layout.rectangles:
        q, k, v = rectangle.by_row(padded).transpose(1, 3).unbind(2)  # (R, H, n, D)
        mask = None if causal else rectangle.mask  # padding comes after every token: causal attention does not see it
        out = fused_attention(q, k, v, mask, causal=causal, dropout=dropout, scale=scale)
        outputs.append(out.transpose(1, 2).flatten(0, 1))  # (R n, H, D)
    return layout.unpad(outputs[0] if len(outputs) == 1 else torch.cat(outputs))


def fused_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, causal: bool = False, dropout: float = 0.0, scale: float
) -> Tensor:
    """Torch's fused kernel on any device, (R, H, n, D) -> (R, H, n, D)."""
    if misreads_strides(q.device):
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    return F.scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout, is_causal=causal, scale=scale)


def misreads_strides(device: torch.device) -> bool:
    """Whether the fused kernels of a device give wrong results for tensors that are not contiguous.

    Apple's do for up to 8 queries (https://github.com/pytorch/pytorch/issues/181133), and AMD's for the values
    (https://github.com/ROCm/pytorch/issues/3230).
    """
    return device.type == "mps" or (device.type == "cuda" and torch.version.hip is not None)


def attention_weights(q: Tensor, k: Tensor, *, causal: bool, scale: float) -> Tensor:
    """The attention weights of one sequence, (n, H, D) twice -> (H, n, n); each row sums to 1."""
    scores = torch.einsum("qhd,khd->hqk", q, k) * scale
    if causal:
        future = torch.ones(len(q), len(q), dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(future, -math.inf)
    return scores.softmax(dim=-1)
