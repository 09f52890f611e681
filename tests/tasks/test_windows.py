"""A long text is divided into overlapping windows that cover every token."""

from itertools import pairwise

import pytest
from headway.tasks.data.windows import Windowing, best_window, pair_windows, sliding_windows
from hypothesis import given, settings
from hypothesis import strategies as st

relaxed = settings(max_examples=300, deadline=None, derandomize=True)


@st.composite
def divisions(draw: st.DrawFn) -> tuple[int, int, int]:
    """The length of a text, the size of a window and the overlap."""
    size = draw(st.integers(1, 60))
    return draw(st.integers(0, 1000)), size, draw(st.integers(0, size - 1))


@relaxed
@given(divisions())
def test_every_token_is_in_some_window_and_no_window_is_too_long(division: tuple[int, int, int]):
    length, size, overlap = division
    windows = sliding_windows(length, size, overlap)
    assert {token for window in windows for token in window} == set(range(length))
    assert all(len(window) <= size for window in windows)
    assert windows == sorted(windows, key=lambda window: window.start)


@relaxed
@given(divisions())
def test_neighbours_share_at_least_the_overlap_and_all_windows_are_equally_long(division: tuple[int, int, int]):
    length, size, overlap = division
    windows = sliding_windows(length, size, overlap)
    shared = [left.stop - right.start for left, right in pairwise(windows)]
    assert all(overlap <= one < size for one in shared)
    assert max(shared, default=0) - min(shared, default=0) <= 1  # evenly spaced
    if len(windows) > 1:
        assert {len(window) for window in windows} == {size}


@relaxed
@given(divisions())
def test_there_are_no_more_windows_than_needed(division: tuple[int, int, int]):
    length, size, overlap = division
    needed = 1
    while size + (needed - 1) * (size - overlap) < length:
        needed += 1
    assert len(sliding_windows(length, size, overlap)) == needed


def context(window: range, position: int, length: int) -> float:
    """The number of tokens between a position and the nearer cut edge."""
    left = position - window.start if window.start else float("inf")
    right = window.stop - 1 - position if window.stop < length else float("inf")
    return min(left, right)


@relaxed
@given(divisions(), st.data())
def test_the_best_window_has_the_most_context(division: tuple[int, int, int], data: st.DataObject):
    length, size, overlap = division
    if not length:
        return
    windows = sliding_windows(length, size, overlap)
    position = data.draw(st.integers(0, length - 1))
    best = windows[best_window(windows, position)]
    assert position in best
    assert context(best, position, length) == max(context(w, position, length) for w in windows if position in w)


def test_a_text_that_fits_is_one_window():
    for length, size in ((7, 7), (0, 7), (0, 0)):
        assert sliding_windows(length, size, 0) == Windowing(size).divide(length) == [range(length)]


@pytest.mark.parametrize("overlap", [-1, 8, 9])
def test_an_overlap_as_long_as_the_window_is_refused(overlap: int):
    with pytest.raises(ValueError, match="overlap"):
        sliding_windows(20, 8, overlap)


def test_windows_overlap_by_an_eighth_unless_an_overlap_is_given():
    assert Windowing(32).divide(100) == sliding_windows(100, 32, 4)
    assert Windowing(32, 7).divide(100) == sliding_windows(100, 32, 7)
    assert Windowing(32, 0).divide(100) == sliding_windows(100, 32, 0)


def test_windows_overlap_by_half_a_window_at_most():
    assert Windowing(32, 30).divide(100) == sliding_windows(100, 32, 16)


def test_cutting_keeps_the_first_window_only():
    assert Windowing(32, 7, "cut").divide(100) == [range(32)]
    assert Windowing(32, 7, "cut").divide(9) == [range(9)]


@relaxed
@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 20))
def test_paired_windows_run_from_both_starts_to_both_ends(first: int, second: int, size: int):
    one, two = Windowing(size).divide(first), Windowing(size).divide(second)
    pairs = pair_windows(one, two)
    assert len(pairs) == max(len(one), len(two))
    assert list(dict.fromkeys(a for a, _ in pairs)) == one
    assert list(dict.fromkeys(b for _, b in pairs)) == two
