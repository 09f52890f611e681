"""The processor: the cores that this process may really use, the memory that they keep, and what they multiply fast.

torch starts a thread for every core it sees. A container is often granted fewer (`docker run --cpus 2`), and threads
beyond that take turns, which makes everything several times slower.

glibc gives large results back to the system as soon as they are freed, and the system hands out the next ones anew,
page by page. So results of some MB can take longer to be handed out than to be computed.
"""

import ctypes
import os
import sys
from functools import cache

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # as malloc.h has them
KEPT = 2**28  # bytes


@cache
def use_available_cores() -> None:
    """Lowers torch's threads to what the container grants, unless OMP_NUM_THREADS says how many there are to be."""
    if "OMP_NUM_THREADS" not in os.environ:
        from joblib import cpu_count  # reads the quotas of both versions of control groups

        torch.set_num_threads(min(torch.get_num_threads(), cpu_count()))


@cache
def keep_freed_memory() -> None:
    """Lets glibc keep what is freed for what is computed next, unless the environment says how it is to be.

    Predictions of MiniLM for texts of 256 tokens, on two cores of an AMD EPYC: 18 % more of them in fp32, 4 % in bf16
    and 48 % in int8. See mallopt(3): large blocks come from the heap as well, and the end of the heap stays.
    """
    if sys.platform != "linux" or {"MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"} & os.environ.keys():
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # Other C libraries have none. Old versions of glibc take no block above 32 MB from the heap.
    if mallopt and (mallopt(M_MMAP_THRESHOLD, KEPT) or mallopt(M_MMAP_THRESHOLD, 2**25)):
        mallopt(M_TRIM_THRESHOLD, KEPT)


def has_amx() -> bool:
    """Whether there are tiles for products of matrices in bf16 and int8 (AMX)."""
    return torch.cpu._is_amx_tile_supported()


def has_fast_bf16() -> bool:
    """Whether matrices of bf16 are multiplied by instructions of their own."""
    return torch.cpu._is_avx512_bf16_supported() or has_amx()
