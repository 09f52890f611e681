"""Attention over a key-value cache: the calls that a forward pass makes in every layer, planned once for all of them.

T new tokens of all rows, H heads, D head size; a call has R rows of n queries each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from .attention import attend, fused_attention
from .packing import PackedBatch
from .padded_layout import MULTIPLE, PaddedLayout, Rectangle, group_similar
from .transfers import is_asynchronous, send

MAX_SCORES = 2**26  # attention scores in fp32 that exist at a time: 256 MB

Work = Sequence[tuple[int, int, int]]  # of each row: the number of its queries, its slot in the cache, and its keys


class AttentionPlan(Protocol):
    """The calls of attention for the new tokens of every row."""

    @property
    def tokens(self) -> int:
        """T."""
        ...

    def store(self, keys_values: Tensor, new: Tensor) -> None:
        """Stores the keys and values of the new tokens, (T, 2, H, D), in those of a layer, (2, slots, H, capacity, D).

        Only of a plan for the rows' own tokens.
        """
        ...

    def attend(self, qkv: Tensor, keys_values: Tensor, scale: float) -> Tensor:
        """Attention of the new tokens, (T, 3, H, D) -> (T, H, D)."""
        ...

    def attend_with_sums(self, q: Tensor, keys_values: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Attention (T, H, D), and the logarithm of each query's sum of exponentials (T, H)."""
        ...


def plan_attention(work: Work, keys: Tensor, *, causal: bool, batch: PackedBatch | None = None) -> AttentionPlan:
    """Plans the calls.

    | device | plan       | calls in every layer                    | why                                             |
    |--------|------------|-----------------------------------------|-------------------------------------------------|
    | CPU    | RunPlan    | one per run of neighbouring rows with   | nothing is masked or copied, and a call costs   |
    |        |            | equal numbers of queries and of keys    | little                                          |
    | others | PackedPlan | those of `attend`, if all rows were     | it is fast for prompts of any lengths           |
    |        |            | empty and have no prefix                |                                                 |
    | others | MaskedPlan | one per group of rows with similar      | one call for the next token of all rows: with   |
    |        |            | numbers of queries; keys that a row     | few tokens, launching a kernel takes longer     |
    |        |            | does not have are masked                | than what it computes                           |

    Args:
        work: of each row the number of queries, the slot and the number of keys.
        keys: the keys of the cache, (..., capacity, D).
        causal: a row's queries belong to its last keys, instead of coming after all of them.
        batch: the new tokens, if the rows have no prefix.
    """
    if not is_asynchronous(keys.device):
        return RunPlan(work, keys, causal)
    if batch is not None and all(queries == num_keys for queries, _, num_keys in work):
        return PackedPlan(batch, Places(work, keys.device))
    return MaskedPlan(work, keys, causal)


@dataclass(frozen=True)
class AttentionCall:
    """One call of attention: neighbouring rows with equal numbers of queries and of keys."""

    tokens: slice  # of the batch
    slots: slice  # of the cache
    keys: int  # the first tokens of each slot
    causal: bool
    mask: Tensor | None  # (queries, keys), 0 or -inf; where a row held tokens before the batch

    def by_row(self, x: Tensor) -> Tensor:
        """The call's part of all tokens' vectors: (T, H, D) -> (R, H, n, D), a view."""
        return x[self.tokens].unflatten(0, (self.slots.stop - self.slots.start, -1)).transpose(1, 2)


class RunPlan:
    """As few calls as possible without masks and copies."""

    def __init__(self, work: Work, keys: Tensor, causal: bool) -> None:
        self.calls, start = [], 0
        # Neighbouring slots form one call: the difference between slot and row number stays the same.
        runs = groupby(enumerate(work), key=lambda item: (item[1][0], item[1][2], item[1][1] - item[0]))
        for (queries, num_keys, _), members in runs:
            slots = [slot for _, (_, slot, _) in members]
            end = start + queries * len(slots)
            mask = None
            if causal and 1 < queries < num_keys:
                mask = keys.new_full((queries, num_keys), -torch.inf).triu(num_keys - queries + 1)
            whole = causal and 1 < queries == num_keys
            call = AttentionCall(slice(start, end), slice(slots[0], slots[-1] + 1), num_keys, whole, mask)
            self.calls.append(call)
            start = end
        self.tokens = start

    def store(self, keys_values: Tensor, new: Tensor) -> None:
        """See AttentionPlan."""
        for call in self.calls:
            rows = call.slots.stop - call.slots.start
            by_row = new[call.tokens].unflatten(0, (rows, -1))  # (R, n, 2, H, D)
            first = call.keys - by_row.shape[1]
            keys_values[:, call.slots, :, first : call.keys] = by_row.permute(2, 0, 3, 1, 4)

    def attend(self, qkv: Tensor, keys_values: Tensor, scale: float) -> Tensor:
        """See AttentionPlan."""
        q, outputs = qkv[:, 0], []
        for call in self.calls:
            keys, values = keys_values[:, call.slots, :, : call.keys].unbind()
            out = F.scaled_dot_product_attention(
                call.by_row(q), keys, values, attn_mask=call.mask, is_causal=call.causal, scale=scale
            )
            outputs.append(out.transpose(1, 2).flatten(0, 1))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def attend_with_sums(self, q: Tensor, keys_values: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """See AttentionPlan; by the kernel behind scaled_dot_product_attention, which does not return the sums."""
        outputs, sums = [], []
        for call in self.calls:
            keys, values = keys_values[:, call.slots, :, : call.keys].unbind()
            out, log_sum_exp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                call.by_row(q), keys, values, 0.0, call.causal, attn_mask=call.mask, scale=scale
            )
            outputs.append(out.transpose(1, 2).flatten(0, 1))
            sums.append(log_sum_exp.transpose(1, 2).flatten(0, 1))
        return torch.cat(outputs), torch.cat(sums)


class Places:
    """Where the new tokens are stored: of each the slot and the number of tokens before it, (T,) each."""

    def __init__(self, work: Work, device: torch.device) -> None:
        slots = [slot for queries, slot, _ in work for _ in range(queries)]
        before = [place for queries, _, num_keys in work for place in range(num_keys - queries, num_keys)]
        self.slots, self.before = send(device, slots, before)

    def store(self, keys_values: Tensor, new: Tensor) -> None:
        """See AttentionPlan."""
        keys_values[:, self.slots, :, self.before] = new  # indices on both sides of a slice: T becomes the first axis


class PackedPlan:
    """Attention of prompts among themselves, without reading the cache."""

    def __init__(self, batch: PackedBatch, places: Places) -> None:
        self.batch, self.places = batch, places
        self.tokens = batch.num_tokens

    def store(self, keys_values: Tensor, new: Tensor) -> None:
        """See AttentionPlan."""
        self.places.store(keys_values, new)

    def attend(self, qkv: Tensor, keys_values: Tensor, scale: float) -> Tensor:  # noqa: ARG002 - qkv has all keys
        """See AttentionPlan."""
        return attend(qkv, self.batch, causal=True, dropout=0.0, scale=scale)

    def attend_with_sums(self, q: Tensor, keys_values: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Is not needed: the rows have no prefix."""
        raise NotImplementedError


@dataclass(frozen=True)
class MaskedCall:
    """One call of attention: rows whose queries are padded to the same number."""

    rectangle: Rectangle  # of the queries; its mask says which keys each of them attends to, (R, 1, n, keys)
    slots: slice | Tensor  # the row of the cache of each row
    keys: int  # the first tokens of each slot

    def inputs(self, padded: Tensor, keys_values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (R, H, n, D), keys and values (R, H, keys, D); views where the slots are neighbours."""
        part = keys_values[:, :, :, : self.keys]
        part = part[:, self.slots] if isinstance(self.slots, slice) else part.index_select(1, self.slots)
        return self.rectangle.by_row(padded).transpose(1, 2), part[0], part[1]


class MaskedPlan:
    """One call for all rows with similar numbers of queries, in the order of their slots."""

    def __init__(self, work: Work, keys: Tensor, causal: bool) -> None:
        self.tokens = sum(queries for queries, _, _ in work)
        first, start = [0] * len(work), 0  # `first`: the position of each row's first query
        shapes: list[tuple[int, int, int, slice | list[int], int]] = []
        seen_keys: list[list[int]] = []  # of each call the number of keys that each position attends to
        for group in group_similar([queries for queries, _, _ in work]):
            queries, num_keys = work[group[0]][0], max(work[index][2] for index in group)
            slots, places = _arrange([work[index][1] for index in group])
            count = slots.stop - slots.start if isinstance(slots, slice) else len(slots)
            seen = [1] * (count * queries)  # also of padding, and of slots that no row uses
            for index, place in zip(group, places, strict=True):
                own, at, last = work[index][0], place * queries, work[index][2]
                first[index] = start + at
                seen[at : at + own] = range(last - own + 1, last + 1) if causal else [last] * own
            shapes.append((start, count, queries, slots, num_keys))
            seen_keys.append([] if seen == [num_keys] * len(seen) else seen)
            start += count * queries
        positions = [at + i for (queries, _, _), at in zip(work, first, strict=True) for i in range(queries)]
        indices = [[] if isinstance(slots, slice) else slots for _, _, _, slots, _ in shapes]
        sent, *moved = send(keys.device, positions, *seen_keys, *indices)
        self.calls = [
            _masked_call(shape, seen, index, keys.shape[-2])
            for shape, seen, index in zip(shapes, moved[: len(shapes)], moved[len(shapes) :], strict=True)
        ]
        in_order = positions == list(range(start))
        self.layout = PaddedLayout(tuple(call.rectangle for call in self.calls), None if in_order else sent)
        self.places = Places(work, keys.device) if causal else None

    def store(self, keys_values: Tensor, new: Tensor) -> None:
        """See AttentionPlan."""
        assert self.places is not None
        self.places.store(keys_values, new)

    def attend(self, qkv: Tensor, keys_values: Tensor, scale: float) -> Tensor:
        """See AttentionPlan."""
        padded, outputs = self.layout.pad(qkv[:, 0]), []
        for call in self.calls:
            q, keys, values = call.inputs(padded, keys_values)
            out = fused_attention(q, keys, values, call.rectangle.mask, scale=scale)
            outputs.append(out.transpose(1, 2).flatten(0, 1))
        return self.layout.unpad(outputs[0] if len(outputs) == 1 else torch.cat(outputs))

    def attend_with_sums(self, q: Tensor, keys_values: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """See AttentionPlan."""
        padded, outputs, sums = self.layout.pad(q), [], []
        for call in self.calls:
            queries, keys, values = call.inputs(padded, keys_values)
            parts = [
                _plain_attention(part, keys, values, mask, scale)
                for part, mask in _split_queries(queries, call.rectangle.mask, call.keys)
            ]
            out, log_sum_exp = (torch.cat(one, dim=2) for one in zip(*parts, strict=True))
            outputs.append(out.transpose(1, 2).flatten(0, 1))
            sums.append(log_sum_exp.transpose(1, 2).flatten(0, 1))
        return self.layout.unpad(torch.cat(outputs)), self.layout.unpad(torch.cat(sums))


def _split_queries(queries: Tensor, mask: Tensor | None, num_keys: int) -> list[tuple[Tensor, Tensor | None]]:
    """Queries (R, H, n, D) and their mask in parts whose scores take a bounded amount of memory."""
    rows, heads = queries.shape[:2]
    at_once = max(1, MAX_SCORES // (rows * heads * num_keys))
    parts = queries.split(at_once, dim=2)
    return list(zip(parts, [None] * len(parts) if mask is None else mask.split(at_once, dim=2), strict=True))


def _plain_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """Attention (R, H, n, D) by its definition, and the logarithm of each query's sum of exponentials (R, H, n)."""
    scores = (q @ k.transpose(-1, -2)).float() * scale
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=-1).to(v.dtype) @ v, scores.logsumexp(dim=-1)


def _arrange(slots: list[int]) -> tuple[slice | list[int], list[int]]:
    """The slots of a call, and the place of each row among them.

    A part of the cache is not copied: few unused slots between those of the rows are computed as well.
    """
    first, end = min(slots), max(slots) + 1
    if len(set(slots)) == len(slots) and end - first <= 2 * len(slots):
        return slice(first, end), [slot - first for slot in slots]
    return slots, list(range(len(slots)))


def _masked_call(
    shape: tuple[int, int, int, slice | list[int], int], seen: Tensor, index: Tensor, capacity: int
) -> MaskedCall:
    start, count, queries, slots, num_keys = shape
    mask = None
    if len(seen):
        num_keys = min(capacity, -(-num_keys // MULTIPLE) * MULTIPLE)
        mask = torch.arange(num_keys, device=seen.device) < seen.view(count, 1, queries, 1)
    return MaskedCall(Rectangle(start, count, queries, mask), slots if isinstance(slots, slice) else index, num_keys)
