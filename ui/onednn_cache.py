"""The number of oneDNN kernels that a process keeps; to be set before torch is imported, which reads it."""

import os

# oneDNN and torch each keep up to 1024 kernels, one for every number of tokens in a batch: hundreds of megabytes.
CACHE_VARIABLES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}


def limit_kernel_cache() -> None:
    """Limits the kernel cache of this process, unless the user has set the environment variables."""
    for name, value in CACHE_VARIABLES.items():
        os.environ.setdefault(name, value)
