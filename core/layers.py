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

from .cores import has_matrix_tiles
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


TRAINING_ROWS = 32
ROWS = 64


def pad_rows(x: Tensor) -> Tensor:
    """(T, C) -> (T', C): zeros below, up to a multiple of some number of rows, where that saves memory.

    On the CPU oneDNN keeps kernels for every number of rows it meets, in training in half precision (1400 MB of memory
    against 940 after 60 short batches) and in prediction with packed weights; a few rows are left as they are.
    """
    if x.device.type != "cpu":
        return x
    if x.requires_grad:
        multiple = TRAINING_ROWS if torch.is_autocast_enabled("cpu") else 1
    else:
        multiple = 1 if len(x) <= ROWS else ROWS if len(x) <= 16 * ROWS else 4 * ROWS
    return F.pad(x, (0, 0, 0, -len(x) % multiple)) if len(x) % multiple else x


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
    by_products = half and not causal and dropout == 0 and not has_matrix_tiles()
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
        self,
        x: Tensor,
        batch: PackedBatch,
        trace: Trace | None = None,
        cache: "LayerCache | None" = None,
        only: Tensor | None = None,
    ) -> Tensor:
        """(T, C) -> (T, C); with a trace the weights are computed in the open and kept there.

        With `only`, one token of each sequence that sees all of it, (B, C) for these.

        With a cache every token sees what its row of the cache holds too, and there is neither trace nor dropout.
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))  # (T, 3, H, D)
        dropout = self.dropout if self.training else 0.0
        if cache is not None:
            out = cache.attend(qkv[: batch.num_tokens].to(cache.kept.dtype), self.scale).to(qkv.dtype)
            out = F.pad(out, (0, 0, 0, 0, 0, len(x) - len(out))) if len(x) > len(out) else out
        elif only is not None and not self.training and not torch.is_grad_enabled() and x.device.type == "cpu":
            return self.out(attend_alone(qkv, batch, only, scale=self.scale).flatten(-2))
        elif trace is None:
            out = attend(qkv, batch, causal=self.causal, dropout=dropout, scale=self.scale)
        else:
            q, k, v = qkv.unbind(-3)
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
        out = out.flatten(-2)
        return self.out(out if only is None else out[only])


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
