"""How many kernels a process keeps that only predicts; read when torch is imported, so said before that."""

import os

# oneDNN and torch each keep 1024 kernels, one for every number of tokens that a batch ever had: hundreds of megabytes.
KERNELS_KEPT = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}


def keep_few_kernels() -> None:
    """Lets this process keep few kernels, unless the person says how many."""
    for name, value in KERNELS_KEPT.items():
        os.environ.setdefault(name, value)
