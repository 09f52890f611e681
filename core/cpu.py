"""The processor: the cores this process may use, the memory it keeps, and the number formats it computes fast.

All questions about the processor are asked here. The file stands directly in core/ because models, inference and tasks
use it.
"""

import ctypes
import os
import sys
from functools import cache

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from malloc.h
KEPT_BYTES = 2**28
OLD_GLIBC_BYTES = 2**25  # the largest block that old versions of glibc take from the heap


@cache
def use_available_cores() -> None:
    """Limits torch's threads to the cores that a container grants; OMP_NUM_THREADS takes precedence.

    torch starts a thread per core it sees. With `docker run --cpus 2` the surplus threads take turns, which makes
    everything several times slower.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        from joblib import cpu_count  # reads the quotas of both versions of control groups

        torch.set_num_threads(min(torch.get_num_threads(), cpu_count()))


@cache
def keep_freed_memory() -> None:
    """Makes glibc reuse freed memory instead of returning it to the system; its environment variables take precedence.

    The system hands out memory page by page, which can take longer than computing a result of several MB. Predictions
    per second of MiniLM for texts of 256 tokens, on two cores of an AMD EPYC: 18 % more in fp32, 4 % in bf16, 48 % in
    int8. See mallopt(3): large blocks come from the heap as well, and the end of the heap is not returned.
    """
    if sys.platform != "linux" or {"MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"} & os.environ.keys():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries do not have it
    if mallopt and (mallopt(M_MMAP_THRESHOLD, KEPT_BYTES) or mallopt(M_MMAP_THRESHOLD, OLD_GLIBC_BYTES)):
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def use_huge_pages() -> None:
    """Makes torch store large tensors in pages of 2 MB instead of 4 KB, if Linux leaves the choice to programs.

    Generation reads all weights for every token. torch reads the variable at its first tensor on the CPU: this must
    come before.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def has_amx() -> bool:
    """Whether the processor multiplies tiles of bf16 and int8 matrices (AMX)."""
    return torch.cpu._is_amx_tile_supported()


def has_fast_bf16() -> bool:
    """Whether the processor has instructions for products of bf16 matrices."""
    return torch.cpu._is_avx512_bf16_supported() or has_amx()


def has_fast_int8() -> bool:
    """Whether the processor and torch have a fast product of int8 matrices (VNNI and fbgemm)."""
    return torch.cpu._is_vnni_supported() and "fbgemm" in torch.backends.quantized.supported_engines


def has_avx512() -> bool:
    """Whether torch uses the 512-bit instructions of an x86 processor."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def has_onednn() -> bool:
    """Whether torch has oneDNN's kernels."""
    return torch.backends.mkldnn.is_available()
