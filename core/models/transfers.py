"""Numbers of the host on their way to a device, which computes while the host continues."""

from collections.abc import Sequence

import torch
from torch import Tensor


def is_asynchronous(device: torch.device) -> bool:
    """Whether a device computes while the host continues: reading one of its numbers waits for it."""
    return device.type != "cpu"


def to_device(x: Tensor, device: torch.device | str) -> Tensor:
    """A tensor on a device, without waiting for what the device still computes.

    For CUDA it takes the way over page-locked memory: a copy from other memory waits for the device. Other devices get
    a blocking copy: on Apple's, the memory of the source could be reused before it is read.
    """
    if torch.device(device).type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)


def send(device: torch.device, *numbers: Sequence[int]) -> tuple[Tensor, ...]:
    """Integers on a device, a tensor per sequence, by one copy."""
    together = torch.tensor([number for part in numbers for number in part], dtype=torch.int64)
    return to_device(together, device).split([len(part) for part in numbers])
