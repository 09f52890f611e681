"""Long texts: overlapping windows over their tokens, and which window knows a token best."""

from collections.abc import Sequence


def windows(length: int, size: int, overlap: int) -> list[range]:
    """Cuts `length` tokens into windows of at most `size` tokens; every token is in some window.

    Neighbours share at least `overlap` tokens, and the windows are spaced evenly, so that the last one is no stub.

    Raises:
        ValueError: a window would not move forward.
    """
    if length <= size:
        return [range(length)]
    if not 0 <= overlap < size:
        raise ValueError(f"the overlap ({overlap}) must be smaller than the window ({size})")
    count = -(-(length - overlap) // (size - overlap))  # rounded up
    starts = [i * (length - size) // (count - 1) for i in range(count)]
    return [range(start, start + size) for start in starts]


def in_step(first: Sequence[range], second: Sequence[range]) -> list[tuple[range, range]]:
    """The windows of two texts side by side, from both beginnings to both ends; as many as the longer text has.

    Each window of one with each of the other would be hundreds where both texts are long.
    """
    count = max(len(first), len(second))
    return [(first[i * len(first) // count], second[i * len(second) // count]) for i in range(count)]


def best_window(parts: Sequence[range], position: int) -> int:
    """The window in which a token stands farthest from a cut edge: the one that should have the say about it.

    The very beginning and end of the text are no cut edges.
    """
    length = parts[-1].stop

    def context(i: int) -> int:
        part = parts[i]
        if position not in part:
            return -1
        left = length if part.start == 0 else position - part.start
        right = length if part.stop == length else part.stop - 1 - position
        return min(left, right)

    return max(range(len(parts)), key=context)
