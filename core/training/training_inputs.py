"""What a training step reads: packed sequences, and the targets that the loss compares the outputs with."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from ..models.packing import PackedBatch
from ..models.transfers import to_device

Targets = Mapping[str, Any]  # tensors, or packed batches that another network reads


@dataclass(frozen=True, eq=False)
class TrainingInputs:
    """The examples of one forward pass; made on the CPU, so that the device never waits for a list to be copied."""

    batch: PackedBatch
    targets: Targets

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        targets = {name: _to(value, device) for name, value in self.targets.items()}
        return type(self)(self.batch.to(device), targets)


def _to(value: Tensor | PackedBatch, device: torch.device) -> Tensor | PackedBatch:
    return to_device(value, device) if isinstance(value, Tensor) else value.to(device)


# Indices of examples, and a seed for what is drawn at random in this step -> the inputs on the CPU.
Collate = Callable[[list[int], int], TrainingInputs]
# The network's outputs, and the targets on its device -> the SUM of the losses and the number of labels in it.
Loss = Callable[[Any, Targets], tuple[Tensor, int]]


def derive_seed(*numbers: int) -> int:
    """A seed of 32 bits from several numbers, such as those of a run, a step and an example."""
    return zlib.crc32(" ".join(map(str, numbers)).encode())
