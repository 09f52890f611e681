"""Padding sequences of similar length to rectangles, for devices without a kernel for packed sequences.

A rectangle costs a few kernel launches whatever its size, and padding costs attention over positions that hold no
token: few rectangles, with at most half as many padded positions as tokens.

T tokens, P positions of all rectangles, R sequences of n positions each in a rectangle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from .transfers import to_device

MULTIPLE = 8  # of lengths: CUDA's memory-efficient attention copies masks with other strides in every layer
MAX_POSITIONS = 1.5  # positions per token, apart from rounding


@dataclass(frozen=True)
class Rectangle:
    """Sequences that are padded to the same length."""

    start: int  # first position
    count: int  # R
    length: int  # n
    mask: Tensor | None  # (R, 1, 1, n), whether a position holds a token; None: all do

    def by_row(self, padded: Tensor) -> Tensor:
        """The rectangle's part of all positions: (P, ...) -> (R, n, ...), a view."""
        return padded[self.start : self.start + self.count * self.length].unflatten(0, (self.count, self.length))


@dataclass(frozen=True)
class PaddedLayout:
    """The rectangles of a batch."""

    rectangles: tuple[Rectangle, ...]
    positions: Tensor | None  # (T,), where each token is; None: the tokens are the positions

    @property
    def num_positions(self) -> int:
        """P."""
        return self.rectangles[-1].start + self.rectangles[-1].count * self.rectangles[-1].length

    def pad(self, x: Tensor) -> Tensor:
        """(T, ...) -> (P, ...), zero where there is no token."""
        if self.positions is None:
            return x
        return x.new_zeros(self.num_positions, *x.shape[1:]).index_put_((self.positions,), x)

    def unpad(self, padded: Tensor) -> Tensor:
        """(P, ...) -> (T, ...)."""
        return padded if self.positions is None else padded.index_select(0, self.positions)


def group_similar(lengths: Sequence[int]) -> list[list[int]]:
    """Groups the indices of sequences, longest first, so that padding a group to its longest one costs little."""
    groups: list[list[int]] = []
    longest = total = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        total += lengths[index]
        if not groups or (len(groups[-1]) + 1) * longest > MAX_POSITIONS * total:
            groups.append([])
            longest = total = lengths[index]
        groups[-1].append(index)
    return groups


def make_padded_layout(lengths: Sequence[int], device: torch.device) -> PaddedLayout:
    """Arranges the sequences of a batch, on the host; only the tokens' positions are copied to the device.

    Args:
        lengths: tokens of each sequence.
        device: where attention is computed.
    """
    rounded = [-(-length // MULTIPLE) * MULTIPLE for length in lengths]
    first, shapes, start = [0] * len(lengths), [], 0
    for group in group_similar(rounded):
        length = rounded[group[0]]
        full = all(lengths[index] == length for index in group)
        shapes.append((start, len(group), length, full))
        for index in group:
            first[index] = start
            start += length
    if len(shapes) == 1 and shapes[0][-1]:
        return PaddedLayout((Rectangle(*shapes[0][:3], mask=None),), None)
    before = torch.tensor(list(accumulate(lengths, initial=0)))
    shift = torch.repeat_interleave(torch.tensor(first) - before[:-1], before.diff())  # (T,)
    positions = to_device(torch.arange(len(shift)) + shift, device)
    holds_token = torch.zeros(start, dtype=torch.bool, device=device).index_fill_(0, positions, True)
    rectangles = []
    for begin, count, length, full in shapes:
        mask = holds_token[begin : begin + count * length].view(count, 1, 1, length)
        rectangles.append(Rectangle(begin, count, length, None if full else mask))
    return PaddedLayout(tuple(rectangles), positions)
