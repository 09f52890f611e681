"""How training on the CPU arranges a batch for attention: groups of sequences of similar length, heads before tokens.

T' rows (tokens and appended rows), H heads, D head size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

GROUP_SCORES = 2**18  # attention scores per group: with what is computed from them, about a core's cache
VECTOR = 16  # lengths are rounded up to a multiple: softmax over 12 numbers takes 7 times as long as over 16
SHORT = 64  # tokens; below that, oneDNN's kernel for a new shape in half precision costs more than it saves


@dataclass(frozen=True)
class Group:
    """Neighbouring sequences that are computed together, as if all had the same length."""

    start: int  # first row in the arrangement, where every token has one row per head
    stop: int
    length: int
    mask: Tensor  # added to the scores: -inf at the keys that a query does not attend to

    def rows_of(self, arranged: Tensor, parts: int = 1) -> Tensor:
        """The group's rows, (parts * sequences * H, length, D), where every token has `parts` rows per head."""
        return arranged[parts * self.start : parts * self.stop].view(-1, self.length, arranged.shape[-1])

    def qkv(self, arranged: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, (sequences * H, length, D) each; of short sequences in fp32."""
        part = self.rows_of(arranged, 3)
        dtype = torch.promote_types(part.dtype, torch.float32) if self.length <= SHORT else part.dtype
        return part.to(dtype).chunk(3)


@dataclass(frozen=True)
class Layout:
    """The groups of a batch, and the row indices from the batch to the arrangement and back.

    An index one past the end stands for a row of zeros: padding inside a group, or a row outside all sequences.
    """

    groups: tuple[Group, ...]
    to_groups: Tensor  # (rows of the groups,): which of the T' * H rows of the batch
    from_groups: Tensor  # (T' * H,): which row of the groups
    qkv_to_groups: Tensor  # the same for T' * 3 * H rows; a group's queries come before its keys and its values
    qkv_from_groups: Tensor


def make_layout(lengths: Sequence[int], cu_seqlens: Tensor, rows: int, heads: int, causal: bool) -> Layout:
    """Cuts a batch into groups whose attention scores fit in the processor's cache.

    Args:
        lengths: tokens of each sequence.
        cu_seqlens: the sequences' cumulative offsets, (B + 1,).
        rows: T', the rows of the batch.
        heads: H.
        causal: a token attends to itself and earlier tokens only.
    """
    groups, indices, qkv_indices, first, start = [], [], [], 0, 0
    head, part = torch.arange(heads)[:, None], torch.arange(3)[:, None, None, None]
    rounded = [-(-length // VECTOR) * VECTOR for length in lengths]
    while first < len(lengths):
        length = rounded[first]
        last, end = first + 1, first + max(1, GROUP_SCORES // (heads * length * length))
        while last < min(end, len(lengths)) and rounded[last] == length:
            last += 1
        inside = torch.arange(length)
        padding = inside >= torch.tensor(lengths[first:last])[:, None]  # (sequences, length)
        token = (cu_seqlens[first:last, None] + inside).masked_fill_(padding, rows)[:, None]
        indices.append((token * heads + head).clamp_(max=rows * heads).flatten())
        qkv_indices.append(((token * 3 + part) * heads + head).clamp_(max=rows * 3 * heads).flatten())
        hidden = padding.repeat_interleave(heads, dim=0)[:, None]
        if causal:  # padding comes after every token, so that it is hidden as well
            hidden = torch.ones(length, length, dtype=torch.bool).triu_(1)
        stop = start + len(indices[-1])
        groups.append(Group(start, stop, length, torch.zeros(hidden.shape).masked_fill_(hidden, -math.inf)))
        first, start = last, stop
    to_groups, qkv_to_groups = torch.cat(indices), torch.cat(qkv_indices)
    from_groups, qkv_from_groups = _inverse(to_groups, rows * heads), _inverse(qkv_to_groups, rows * 3 * heads)
    return Layout(tuple(groups), to_groups, from_groups, qkv_to_groups, qkv_from_groups)


def _inverse(index: Tensor, count: int) -> Tensor:
    """The position of each of the numbers 0 to `count` - 1 in an index; one past the end if it is not there."""
    return torch.full((count + 1,), len(index)).index_copy_(0, index, torch.arange(len(index)))[:-1]
