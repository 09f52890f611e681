"""Speed and memory of the present process."""

import sys

import torch

from .report import RunFacts


def measure(seconds: float, examples: int, tokens: int) -> RunFacts:
    """The facts of a run that took `seconds`."""
    gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    return RunFacts(
        seconds=seconds,
        examples_per_second=examples / max(seconds, 1e-9),
        tokens_per_second=tokens / max(seconds, 1e-9),
        peak_memory=peak_memory(),
        peak_gpu_memory=torch.cuda.max_memory_allocated() if gpu else None,
        device=torch.cuda.get_device_name() if gpu else "CPU",
    )


def peak_memory() -> int | None:
    """The largest resident memory of this process so far in bytes; None where the system does not say."""
    import psutil

    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # KiB on Linux, bytes on macOS
