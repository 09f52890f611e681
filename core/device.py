"""The device of a model by its name, whether it is fast in bf16, and its memory.

The file stands directly in core/ because training, inference and tasks use it.
"""

import re

import torch

from . import cpu
from .errors import HeadwayError

NAME = re.compile(r"auto|cpu|(cuda|xpu|mps)(:(0|[1-9][0-9]?))?")
NAMES = "auto, cpu, cuda, cuda:1, mps or xpu"


def check_device(name: str) -> None:
    """Checks that a device exists on this machine.

    Args:
        name: auto, cpu, or an accelerator with or without an index, such as cuda:1.

    Raises:
        HeadwayError: there is no device of this name.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise HeadwayError(f"device={name!r} is invalid; it must be {NAMES}.")
    if name in ("auto", "cpu"):
        return
    device = torch.device(name)
    accelerator = torch.accelerator.current_accelerator()
    count = torch.accelerator.device_count()
    if accelerator is None or accelerator.type != device.type or (device.index or 0) >= count:
        found = f"found: {count} x {accelerator.type}" if accelerator and count else "no accelerator found"
        raise HeadwayError(f"device={name!r} is not on this machine ({found}). Use device=auto.")


def has_fast_bf16(device: torch.device) -> bool:
    """Whether products of bf16 matrices are faster on a device than those of fp32 matrices."""
    if device.type == "cpu":
        return cpu.has_fast_bf16()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def memory_for_training(device: torch.device) -> int | None:
    """Bytes that a run may use: all memory of a CPU, so that equal runs are equal, else what is free on the device.

    None: the device does not say.
    """
    import psutil

    return psutil.virtual_memory().total if device.type == "cpu" else free_memory(device)


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on an accelerator, including those that torch keeps for later; None: it does not say."""
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    module = torch.get_device_module(device) if device.type in ("cuda", "xpu") else None
    if module is None:
        return None
    return module.mem_get_info(device)[0] + module.memory_reserved(device) - module.memory_allocated(device)
