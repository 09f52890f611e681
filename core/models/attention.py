"""Attention inside each sequence of a packed batch, by the kernel that suits the device."""

import inspect
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..cpu import has_amx
from .packing import PackedBatch
from .training_attention import SHORT, _TrainingAttention


def attend(qkv: Tensor, batch: PackedBatch, *, causal: bool, dropout: float, scale: float) -> Tensor:
    """Scaled dot-product attention of every sequence with itself, (T, 3, H, D) -> (T, H, D).

    On the CPU there may be more rows than tokens (`pad_rows`); one call for each run of sequences of equal length, in
    training of about equal length. On CUDA in half precision and without dropout, the variable-length kernel;
    elsewhere the sequences are padded in here and nowhere else.
    """
    on_cpu = qkv.device.type == "cpu"
    if on_cpu and qkv.requires_grad and torch.is_grad_enabled():
        with torch.autocast("cpu", enabled=False):  # it would cast every small product back and forth
            return _TrainingAttention.apply(qkv, batch, causal, dropout, scale)  # pyright: ignore[reportReturnType]
    if on_cpu:
        return _attend_by_run(qkv, batch, causal, dropout, scale)
    q, k, v = qkv.unbind(-3)
    half = q.dtype in (torch.bfloat16, torch.float16)
    if q.device.type == "cuda" and half and dropout == 0 and (varlen := _variable_length_kernel()):
        longest, offsets = max(batch.lengths), batch.cu_seqlens
        window = (-1, 0) if causal else (-1, -1)
        return varlen(q, k, v, offsets, offsets, longest, longest, scale=scale, window_size=window)
    return _attend_padded(q, k, v, batch, causal, dropout, scale)


def attend_alone(qkv: Tensor, batch: PackedBatch, only: Tensor, *, scale: float) -> Tensor:
    """Attention of one token of each sequence, which sees all of it, without gradients; (T, 3, H, D) -> (B, H, D).

    Args:
        qkv: of all tokens, and perhaps of rows below that no sequence owns.
        batch: the sequences.
        only: the token of each, (B,).
        scale: what the dot products are multiplied by.
    """
    # For a single query torch's kernel for the CPU takes five times as long in half precision.
    q = qkv[only, 0].float()[:, :, None]  # (B, H, 1, D)
    outputs, first = [], 0
    for start, count, length in batch.runs:
        keys_and_values = qkv[start : start + count * length, 1:].float().unflatten(0, (count, length))
        k, v = keys_and_values.transpose(1, 3).unbind(2)  # (count, H, n, D)
        outputs.append(F.scaled_dot_product_attention(q[first : first + count], k, v, scale=scale))
        first += count
    return torch.cat(outputs)[:, :, 0].to(qkv.dtype)


@cache
def _variable_length_kernel() -> Callable[..., Any] | None:
    """Torch's kernel for packed sequences, where this version's takes the options that we need."""
    from torch.nn.attention import varlen

    wanted = {"scale", "window_size"}
    return varlen.varlen_attn if wanted <= inspect.signature(varlen.varlen_attn).parameters.keys() else None


def _attend_by_run(qkv: Tensor, batch: PackedBatch, causal: bool, dropout: float, scale: float) -> Tensor:
    half = qkv.dtype in (torch.bfloat16, torch.float16)
    by_products = half and not causal and dropout == 0 and not has_amx()
    outputs = []
    more = len(qkv) - batch.num_tokens  # rows that no sequence owns
    *runs, rest = qkv.split([*(count * length for _, count, length in batch.runs), more])
    for (_, count, length), run in zip(batch.runs, runs, strict=True):
        run = run.unflatten(0, (count, length))  # (count, n, 3, H, D)
        if by_products and length >= SHORT:
            out = _attend_by_products(run, scale)
        else:
            q, k, v = run.transpose(1, 3).unbind(2)  # (count, H, n, D)
            out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal, scale=scale)
        outputs.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat([*outputs, torch.zeros_like(rest[:, 0])])


def _attend_by_products(run: Tensor, scale: float) -> Tensor:
    """Attention as two products and a softmax, (count, n, 3, H, D) -> (count, H, n, D).

    In half precision oneDNN's products take two thirds of the time of torch's fused kernel, as long as the scores
    between them stay in the processor's cache and the sequences are not short. Not so on a processor with tiles for
    products of matrices (AMX), which the fused kernel uses too: there it takes half to two thirds of the time.
    """
    count, length, _, heads, size = run.shape
    q, k, v = run.permute(2, 0, 3, 1, 4).reshape(3, count * heads, length, size)
    no_bias = q.new_empty(1)
    at_once = max(1, PRODUCT_SCORES // length**2)
    out = [
        torch.bmm(torch.baddbmm(no_bias, one_q, one_k.transpose(1, 2), beta=0, alpha=scale).softmax(dim=-1), one_v)
        for one_q, one_k, one_v in zip(q.split(at_once), k.split(at_once), v.split(at_once), strict=True)
    ]
    return torch.cat(out).unflatten(0, (count, heads))


PRODUCT_SCORES = 2**20  # attention scores between two products


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
