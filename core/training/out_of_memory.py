"""Recognizes that the memory of a device is full, and frees what the allocator keeps."""

import torch

from ..errors import HeadwayError

# Of Apple's allocator, cuBLAS, and torch's allocator on the CPU, whose errors have no separate class.
MESSAGES = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that memory is full."""
    return isinstance(error, torch.OutOfMemoryError) or any(message in str(error) for message in MESSAGES)


def memory_is_full(step: int, error: RuntimeError) -> HeadwayError:
    """The error for users after a number of completed steps."""
    return HeadwayError(
        f"step {step}: the GPU's memory is full ({str(error).splitlines()[0]}). Use a smaller --tokens-at-once or a "
        "smaller --max-length."
    )


def free_unused_memory(device: torch.device) -> None:
    """Returns the gaps between the tensors of an accelerator to it, so that tensors of other sizes fit."""
    if device.type in ("cuda", "xpu", "mps"):
        torch.get_device_module(device).empty_cache()
