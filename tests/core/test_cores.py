"""No more threads than the container grants cores, and memory that is not given back at once."""

import ctypes
import sys

import joblib
import pytest
import torch
from headway.core import cpu
from headway.core.cpu import keep_freed_memory, use_available_cores
from headway.core.inference.inference import prepare_for_inference
from headway.core.models.bert import Bert, BertConfig
from headway.core.models.heads import Network


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


class Glibc:
    """A C library that notes what it is told, and takes blocks up to some size from the heap."""

    def __init__(self, most: int):
        self.most, self.told = most, []

    def mallopt(self, parameter: int, value: int) -> int:
        fine = parameter == cpu.M_TRIM_THRESHOLD or value <= self.most
        self.told += [(parameter, value)] if fine else []
        return int(fine)


@pytest.fixture
def glibc(monkeypatch):
    """Puts a C library in the place of the real one."""

    def put(library):
        monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
        monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
        return library

    keep_freed_memory.cache_clear()
    yield put
    keep_freed_memory.cache_clear()


@pytest.mark.parametrize(("most", "expected"), [(2**40, 2**28), (2**25, 2**25)])
def test_freed_memory_is_kept_as_far_as_the_library_can(glibc, most: int, expected: int):
    library = glibc(Glibc(most))
    keep_freed_memory()
    assert library.told == [(cpu.M_MMAP_THRESHOLD, expected), (cpu.M_TRIM_THRESHOLD, 2**28)]


def test_a_library_that_keeps_nothing_is_left_as_it_is(glibc):
    library = glibc(Glibc(0))  # the end of the heap alone would make it take every block from the system
    keep_freed_memory()
    assert library.told == []


def test_other_c_libraries_have_no_such_option(glibc):
    glibc(object())
    keep_freed_memory()


@pytest.mark.parametrize("variable", ["MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_the_environment_says_of_memory_is_left(glibc, monkeypatch, variable: str):
    library = glibc(Glibc(2**40))
    monkeypatch.setenv(variable, "131072")
    keep_freed_memory()
    assert library.told == []


def test_a_model_that_is_readied_keeps_freed_memory(glibc):
    library = glibc(Glibc(2**40))
    prepare_for_inference(Network(Bert(BertConfig.named("tiny"))).eval())
    assert len(library.told) == 2
