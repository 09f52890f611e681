"""No more threads than the container grants cores."""

import joblib
import pytest
import torch
from headway.core.cores import use_available_cores


@pytest.fixture
def threads(monkeypatch):
    """What torch was told last; it has eight to begin with."""
    told = [8]
    monkeypatch.setattr(torch, "get_num_threads", lambda: told[-1])
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    use_available_cores.cache_clear()
    yield told
    use_available_cores.cache_clear()


@pytest.mark.parametrize(("granted", "expected"), [(2, 2), (8, 8), (64, 8)])
def test_threads_are_as_many_as_cores_at_most(threads, monkeypatch, granted: int, expected: int):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(joblib, "cpu_count", lambda: granted)
    use_available_cores()
    assert threads[-1] == expected


def test_what_the_environment_says_is_left(threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    monkeypatch.setattr(joblib, "cpu_count", lambda: 1)
    use_available_cores()
    assert threads == [8]
