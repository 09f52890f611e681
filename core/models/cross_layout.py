"""Arranging a batch for cross-attention: pairs of target and source with similar lengths, padded to rectangles.

T tokens of the target, S tokens of the source; R pairs in a group, with n target and s source positions each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from .padded_layout import MULTIPLE
from .transfers import is_asynchronous, send

MAX_SCORES = 1.5  # attention scores per score that is needed
FREE_SCORES = 2**12  # of a group, which take less time than another call


@dataclass(frozen=True)
class PairGroup:
    """Pairs that one call of attention computes; an index one past the end is padding."""

    targets: Tensor  # (R n,), rows of the target
    sources: Tensor  # (R s,), rows of the source
    count: int  # R
    mask: Tensor | None  # (R, 1, 1, s), whether a source position holds a token; None: all do


@dataclass(frozen=True)
class CrossLayout:
    """The groups of a batch."""

    groups: tuple[PairGroup, ...]
    places: Tensor  # (T,), where the output of each target token is among those of all groups


def group_pairs(targets: Sequence[int], sources: Sequence[int]) -> list[list[int]]:
    """Groups the indices of pairs, longest first, so that padding both sides of a group costs little."""
    groups: list[list[int]] = []
    longest = widest = needed = 0
    for index in sorted(range(len(targets)), key=lambda i: (-targets[i], -sources[i])):
        width = max(widest, sources[index])
        needed += targets[index] * sources[index]
        total = (len(groups[-1]) + 1) * longest * width if groups else 0
        if not groups or total > max(MAX_SCORES * needed, FREE_SCORES):
            groups.append([])
            longest, width = targets[index], sources[index]
            needed = longest * width
        widest = width
        groups[-1].append(index)
    return groups


def make_cross_layout(targets: Sequence[int], sources: Sequence[int], device: torch.device) -> CrossLayout:
    """Arranges the pairs on the host; their indices are copied to the device at once.

    Args:
        targets: tokens of each target.
        sources: tokens of each source.
        device: where attention is computed.
    """
    multiple = MULTIPLE if is_asynchronous(device) else 1
    first_target, first_source = (list(accumulate(lengths, initial=0)) for lengths in (targets, sources))
    places, numbers, start = [0] * first_target[-1], [], 0
    groups = group_pairs(targets, sources)
    for group in groups:
        n, s = (-(-max(lengths[i] for i in group) // multiple) * multiple for lengths in (targets, sources))
        for lengths, first, size in ((targets, first_target, n), (sources, first_source, s)):
            rows = [[*range(first[i], first[i] + lengths[i]), *[first[-1]] * (size - lengths[i])] for i in group]
            numbers.append([row for part in rows for row in part])
        for i in group:
            places[first_target[i] : first_target[i + 1]] = range(start, start + targets[i])
            start += n
    sent, *indices = send(device, places, *numbers)
    made = []
    for group, rows, columns in zip(groups, indices[::2], indices[1::2], strict=True):
        padded = len({sources[i] for i in group}) > 1 or len(columns) > len(group) * sources[group[0]]
        mask = (columns < first_source[-1]).view(len(group), 1, 1, -1) if padded else None
        made.append(PairGroup(rows, columns, len(group), mask))
    return CrossLayout(tuple(made), sent)
