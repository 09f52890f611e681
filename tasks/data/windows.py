"""Overlapping windows over the tokens of a long text."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Windowing:
    """How a text with more tokens than the model reads is divided.

    Args:
        limit: tokens per window, without special tokens.
        overlap: tokens that neighbouring windows share at least, but half a window at most; None: an eighth of a
            window.
        long_texts: "windows", or "cut" to keep the first window only.
    """

    limit: int
    overlap: int | None = None
    long_texts: str = "windows"

    def divide(self, length: int) -> list[range]:
        """The windows over `length` tokens."""
        if self.long_texts == "cut":
            return [range(min(length, self.limit))]
        overlap = self.limit // 8 if self.overlap is None else min(self.overlap, self.limit // 2)
        return sliding_windows(length, self.limit, overlap)


def sliding_windows(length: int, size: int, overlap: int) -> list[range]:
    """Windows of at most `size` tokens that cover `length` tokens.

    Neighbours share at least `overlap` tokens. The windows are evenly spaced, so that the last one is as long as the
    others.

    Raises:
        ValueError: The overlap is negative or not smaller than the window.
    """
    if length <= size:
        return [range(length)]
    if not 0 <= overlap < size:
        raise ValueError(f"the overlap ({overlap}) must be smaller than the window ({size})")
    count = -(-(length - overlap) // (size - overlap))  # rounded up
    starts = [i * (length - size) // (count - 1) for i in range(count)]
    return [range(start, start + size) for start in starts]


def pair_windows(first: Sequence[range], second: Sequence[range]) -> list[tuple[range, range]]:
    """Pairs the windows of two texts from start to end; as many pairs as the longer text has windows.

    All combinations would be hundreds of pairs where both texts are long.
    """
    count = max(len(first), len(second))
    return [(first[i * len(first) // count], second[i * len(second) // count]) for i in range(count)]


def best_window(windows: Sequence[range], position: int) -> int:
    """The index of the window in which a token has the most context: is farthest from a cut edge.

    The start and the end of the text are not cut edges. The token is in one of the windows.
    """
    length = windows[-1].stop

    def context(i: int) -> int:
        window = windows[i]
        left = length if window.start == 0 else position - window.start
        right = length if window.stop == length else window.stop - 1 - position
        return min(left, right)

    first = bisect_right(windows, position, key=lambda window: window.stop)
    last = bisect_right(windows, position, key=lambda window: window.start)
    return max(range(first, last), key=context)
