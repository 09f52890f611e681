"""What a benchmark says of the machine and the packages: figures of different processors are not to be compared."""

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

TOLD = {"amx_tile": "AMX", "avx512_bf16": "AVX-512 bf16", "avx512_vnni": "VNNI", "avx512f": "AVX-512", "avx2": "AVX2"}


def describe_machine(*packages: str) -> str:
    """The processor with what it has for products of matrices, its cores, the threads, and the packages' versions."""
    cpuinfo = Path("/proc/cpuinfo")
    facts = dict(_facts(cpuinfo.read_text().splitlines())) if cpuinfo.exists() else {}
    name = facts.get("model name") or platform.processor() or platform.machine()
    flags = facts.get("flags", "").split()
    able = ", ".join(told for flag, told in TOLD.items() if flag in flags)
    versions = ", ".join(f"{package} {_version(package)}" for package in ("torch", *packages, "headway"))
    return f"{name} ({able}), {os.cpu_count()} cores, {torch.get_num_threads()} threads\n{versions}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _facts(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    for line in lines:
        key, _, value = line.partition(":")
        yield key.strip(), value.strip()
