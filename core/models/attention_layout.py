"""How training on the CPU arranges a batch for attention: groups of sequences of similar length, heads before tokens.

Queries and keys may be of the same sequences (self-attention) or of two sequences each, a target and its source
(cross-attention).

T' rows (tokens and appended rows) of the queries' sequences, S' of the sources, H heads, D head size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

GROUP_SCORES = 2**18  # attention scores per group: with what is computed from them, about a core's cache
VECTOR = 16  # lengths are rounded up to a multiple: softmax over 12 numbers takes 7 times as long as over 16
SHORT = 64  # tokens; below that, oneDNN's kernel for a new shape in half precision costs more than it saves


class Sequences(NamedTuple):
    """Packed sequences."""

    lengths: Sequence[int]  # tokens of each
    cu_seqlens: Tensor  # (B + 1,), cumulative
    rows: int  # T' or S'


@dataclass(frozen=True)
class Group:
    """Sequences that are computed together, as if all had the same length."""

    outputs: slice  # rows of the arranged outputs, where every token has one row per head
    inputs: slice  # rows of the arranged inputs: all queries, then all keys, then all values
    num_queries: int  # of each sequence and head
    num_keys: int
    mask: Tensor  # added to the scores: -inf at the keys that a query does not attend to

    def out(self, arranged: Tensor) -> Tensor:
        """The group's rows of arranged outputs, (sequences * H, num_queries, D)."""
        return arranged[self.outputs].view(-1, self.num_queries, arranged.shape[-1])

    def qkv(self, arranged: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values among arranged inputs, (sequences * H, num_queries or num_keys, D) each."""
        rows, size = arranged[self.inputs], arranged.shape[-1]
        count = len(rows) // (self.num_queries + 2 * self.num_keys)
        q, k, v = rows.split([count * self.num_queries, count * self.num_keys, count * self.num_keys])
        return q.view(count, -1, size), k.view(count, -1, size), v.view(count, -1, size)

    def dtype(self, given: torch.dtype) -> torch.dtype:
        """What the group is computed in: fp32 if its sequences are short."""
        short = max(self.num_queries, self.num_keys) <= SHORT
        return torch.promote_types(given, torch.float32) if short else given


@dataclass(frozen=True)
class Layout:
    """The groups of a batch, and the row indices from the batch to the arrangement and back.

    The rows of the batch are vectors of D numbers. An index one past the end stands for a row of zeros: padding inside
    a group, or a row outside all sequences.
    """

    groups: tuple[Group, ...]
    outputs_to_groups: Tensor  # which of the T' * H rows
    outputs_from_groups: Tensor  # (T' * H,)
    inputs_to_groups: Tensor  # which of the rows of all inputs, one after the other
    inputs_from_groups: Tensor


def make_layout(targets: Sequences, sources: Sequences | None, heads: int, *, causal: bool = False) -> Layout:
    """Cuts a batch into groups whose attention scores fit in the processor's cache.

    Args:
        targets: the queries' sequences.
        sources: the sequences of keys and values, where the inputs are queries (T', H, D), and keys and values
            (S', 2, H, D). None: they are those of the queries, and there is one input (T', 3, H, D).
        heads: H.
        causal: a token attends to itself and earlier tokens only.
    """
    head, outputs, inputs, groups = torch.arange(heads)[:, None], [], [], []
    num_outputs, num_inputs = targets.rows * heads, targets.rows * heads * 3
    # Of queries, keys and values: their sequences, the first row of their input, parts of this input, their own part.
    places = [(targets, 0, 3, part) for part in range(3)]
    if sources is not None:
        num_inputs = num_outputs + sources.rows * heads * 2
        places = [(targets, 0, 1, 0), (sources, num_outputs, 2, 0), (sources, num_outputs, 2, 1)]
    out_start = in_start = 0
    for (n, s), members in _groups(targets.lengths, (sources or targets).lengths, heads):
        tokens, absent = _tokens(targets, members, n)
        rows = (tokens * heads + head).masked_fill_(absent, num_outputs).flatten()
        parts = []
        for (sequences, first, width, part), length in zip(places, (n, s, s), strict=True):
            tokens, absent = _tokens(sequences, members, length)
            index = (tokens * width + part) * heads + head + first
            parts.append(index.masked_fill_(absent, num_inputs).flatten())
        hidden = absent.expand(-1, heads, -1).flatten(0, 1)[:, None]  # the keys that are padding
        if causal:  # padding comes after every token, so that it is hidden as well
            hidden = torch.ones(n, n, dtype=torch.bool).triu_(1)
        mask = torch.zeros(hidden.shape).masked_fill_(hidden, -math.inf)
        out_stop, in_stop = out_start + len(rows), in_start + sum(map(len, parts))
        groups.append(Group(slice(out_start, out_stop), slice(in_start, in_stop), n, s, mask))
        out_start, in_start = out_stop, in_stop
        outputs.append(rows)
        inputs += parts
    to_outputs, to_inputs = torch.cat(outputs), torch.cat(inputs)
    back = _inverse(to_outputs, num_outputs), _inverse(to_inputs, num_inputs)
    return Layout(tuple(groups), to_outputs, back[0], to_inputs, back[1])


def _groups(targets: Sequence[int], sources: Sequence[int], heads: int) -> list[tuple[tuple[int, int], list[int]]]:
    """The rounded lengths of target and source, and the sequences, of each group; longest first."""

    def rounded(i: int) -> tuple[int, int]:
        return -(-targets[i] // VECTOR) * VECTOR, -(-sources[i] // VECTOR) * VECTOR

    groups = []
    for (n, s), members in groupby(sorted(range(len(targets)), key=rounded, reverse=True), key=rounded):
        every, at_once = list(members), max(1, GROUP_SCORES // (heads * n * s))
        groups += [((n, s), every[i : i + at_once]) for i in range(0, len(every), at_once)]
    return groups


def _tokens(sequences: Sequences, members: list[int], length: int) -> tuple[Tensor, Tensor]:
    """The rows of some sequences' tokens, and whether they are padding, (sequences, 1, length) each."""
    inside = torch.arange(length)
    absent = inside >= torch.tensor([sequences.lengths[i] for i in members])[:, None]
    return (sequences.cu_seqlens[members, None] + inside)[:, None], absent[:, None]


def _inverse(index: Tensor, count: int) -> Tensor:
    """The position of each of the numbers 0 to `count` - 1 in an index; one past the end if it is not there."""
    return torch.full((count + 1,), len(index)).index_copy_(0, index, torch.arange(len(index)))[:-1]
