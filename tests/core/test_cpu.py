"""Threads, freed memory and huge pages are set where a model is prepared, and the environment takes precedence."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import joblib
import pytest
import torch
from headway.core import cpu
from headway.core.cpu import keep_freed_memory, use_available_cores, use_huge_pages
from headway.core.inference.inference import prepare_for_inference
from headway.core.models.bert import Bert, BertConfig
from headway.core.models.heads import Network


@pytest.fixture
def threads(monkeypatch):
    """The numbers of threads that torch had: eight at first."""
    numbers = [8]
    monkeypatch.setattr(torch, "get_num_threads", lambda: numbers[-1])
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    use_available_cores.cache_clear()
    yield numbers
    use_available_cores.cache_clear()


@pytest.mark.parametrize(("granted", "expected"), [(2, 2), (8, 8), (64, 8)])
def test_threads_are_limited_to_the_granted_cores(threads, monkeypatch, granted: int, expected: int):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(joblib, "cpu_count", lambda: granted)
    use_available_cores()
    assert threads[-1] == expected


def test_the_environment_decides_the_threads(threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    monkeypatch.setattr(joblib, "cpu_count", lambda: 1)
    use_available_cores()
    assert threads == [8]


class Glibc:
    """A C library that records its options and takes blocks up to some size from the heap."""

    def __init__(self, max_bytes: int):
        self.max_bytes, self.options = max_bytes, []

    def mallopt(self, parameter: int, value: int) -> int:
        valid = parameter == cpu.M_TRIM_THRESHOLD or value <= self.max_bytes
        self.options += [(parameter, value)] if valid else []
        return int(valid)


@pytest.fixture
def glibc(monkeypatch):
    """Replaces the C library."""

    def replace(library):
        monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
        monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
        return library

    keep_freed_memory.cache_clear()
    yield replace
    keep_freed_memory.cache_clear()


@pytest.mark.parametrize(("max_bytes", "expected"), [(2**40, 2**28), (2**25, 2**25)])
def test_freed_memory_is_kept_up_to_the_limit_of_the_library(glibc, max_bytes: int, expected: int):
    library = glibc(Glibc(max_bytes))
    keep_freed_memory()
    assert library.options == [(cpu.M_MMAP_THRESHOLD, expected), (cpu.M_TRIM_THRESHOLD, 2**28)]


def test_a_library_that_refuses_the_threshold_is_unchanged(glibc):
    library = glibc(Glibc(0))  # the trim threshold alone would make it take every block from the system
    keep_freed_memory()
    assert library.options == []


def test_a_c_library_without_mallopt_is_unchanged(glibc):
    glibc(object())
    keep_freed_memory()


@pytest.mark.parametrize("variable", ["MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_the_environment_decides_what_freed_memory_is_kept(glibc, monkeypatch, variable: str):
    library = glibc(Glibc(2**40))
    monkeypatch.setenv(variable, "131072")
    keep_freed_memory()
    assert library.options == []


def test_preparing_a_model_keeps_freed_memory(glibc):
    library = glibc(Glibc(2**40))
    prepare_for_inference(Network(Bert(BertConfig.named("tiny"))).eval())
    assert len(library.options) == 2


def test_the_environment_decides_about_huge_pages(monkeypatch):
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    use_huge_pages()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"


def test_importing_core_leaves_the_environment_unchanged():
    code = "import os; before = dict(os.environ); import headway.core.inference.inference; print(os.environ == before)"
    assert run_python(code) == "True"


# Whether Linux was advised to store a large tensor in huge pages: the flag hg of its mapping.
HUGE_PAGES = """
import torch
tensor = torch.empty(2**24).fill_(1)
address, inside = tensor.data_ptr() + tensor.nbytes // 2, False
for line in open("/proc/self/smaps"):
    first = line.split()[0]
    if "-" in first and ":" not in first:
        start, end = (int(part, 16) for part in first.split("-"))
        inside = start <= address < end
    elif inside and first == "VmFlags:":
        print("hg" in line.split())
"""
OPENED = """
from headway.core.checkpoints.checkpoint import load_checkpoint
load_checkpoint("mini-gpt2", filled=False)
"""
LOADED = """
from headway.tasks import load
load("mini-bert").predict("The [MASK] man went home.")
"""
FROM_SCRATCH = """
from headway.core.new_model import write_new_model
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.core.checkpoints.hub import BUILT_IN
write_new_model(__import__("pathlib").Path("new"), "bert", "tiny", Tokenizer.load(BUILT_IN["mini-bert"]))
"""


def run_python(code: str, folder: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.linux
@pytest.mark.parametrize(
    ("before", "expected"),
    [("", "False"), (OPENED, "True"), (LOADED, "True"), (FROM_SCRATCH, "True")],
    ids=["without a model", "a checkpoint opened", "a model loaded", "a new model"],
)
def test_large_tensors_are_in_huge_pages_after_a_model_was_opened(before: str, expected: str, tmp_path: Path):
    assert run_python(before + HUGE_PAGES, tmp_path) == expected
