"""The processor: the cores that this process may really use, and what they multiply fast.

torch starts a thread for every core it sees. A container is often granted fewer (`docker run --cpus 2`), and threads
beyond that take turns, which makes everything several times slower.
"""

import os
from functools import cache

import torch


@cache
def use_available_cores() -> None:
    """Lowers torch's threads to what the container grants, unless OMP_NUM_THREADS says how many there are to be."""
    if "OMP_NUM_THREADS" not in os.environ:
        from joblib import cpu_count  # reads the quotas of both versions of control groups

        torch.set_num_threads(min(torch.get_num_threads(), cpu_count()))


def has_matrix_tiles() -> bool:
    """Whether there are tiles for products of matrices in bf16 and int8 (AMX)."""
    return torch.cpu._is_amx_tile_supported()


def has_fast_bf16() -> bool:
    """Whether matrices of bf16 are multiplied by instructions of their own."""
    return torch.cpu._is_avx512_bf16_supported() or has_matrix_tiles()
