"""Every token of a long text is in some window."""

from itertools import pairwise

import pytest
from headway.tasks.data.windows import best_window, windows
from hypothesis import given, settings
from hypothesis import strategies as st

relaxed = settings(max_examples=300, deadline=None, derandomize=True)


@st.composite
def cuts(draw: st.DrawFn) -> tuple[int, int, int]:
    size = draw(st.integers(1, 60))
    return draw(st.integers(0, 1000)), size, draw(st.integers(0, size - 1))


@relaxed
@given(cuts())
def test_every_token_is_in_some_window_and_none_is_too_long(cut: tuple[int, int, int]):
    length, size, overlap = cut
    parts = windows(length, size, overlap)
    assert {token for part in parts for token in part} == set(range(length))
    assert all(len(part) <= size for part in parts)
    assert parts == sorted(parts, key=lambda part: part.start)


@relaxed
@given(cuts())
def test_neighbours_share_at_least_the_overlap_and_no_window_is_a_stub(cut: tuple[int, int, int]):
    length, size, overlap = cut
    parts = windows(length, size, overlap)
    shared = [left.stop - right.start for left, right in pairwise(parts)]
    assert all(overlap <= one < size for one in shared)
    assert max(shared, default=0) - min(shared, default=0) <= 1  # evenly spaced
    if len(parts) > 1:
        assert {len(part) for part in parts} == {size}


@relaxed
@given(cuts())
def test_there_are_no_more_windows_than_needed(cut: tuple[int, int, int]):
    length, size, overlap = cut
    parts = windows(length, size, overlap)
    needed = 1
    while size + (needed - 1) * (size - overlap) < length:
        needed += 1
    assert len(parts) == needed


def context(part: range, position: int, length: int) -> float:
    """Tokens between a position and the nearer edge where the window was cut."""
    left = position - part.start if part.start else float("inf")
    right = part.stop - 1 - position if part.stop < length else float("inf")
    return min(left, right)


@relaxed
@given(cuts(), st.data())
def test_the_best_window_has_the_most_context(cut: tuple[int, int, int], data: st.DataObject):
    length, size, overlap = cut
    if not length:
        return
    parts = windows(length, size, overlap)
    position = data.draw(st.integers(0, length - 1))
    best = parts[best_window(parts, position)]
    assert position in best
    assert context(best, position, length) == max(context(p, position, length) for p in parts if position in p)


def test_a_text_that_fits_is_one_window():
    assert windows(7, 7, 3) == [range(7)]
    assert windows(0, 7, 3) == [range(0)]
    assert windows(0, 0, 0) == [range(0)]


@pytest.mark.parametrize("overlap", [-1, 8, 9])
def test_a_window_that_would_not_move_forward_is_refused(overlap: int):
    with pytest.raises(ValueError, match="overlap"):
        windows(20, 8, overlap)
