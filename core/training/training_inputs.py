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
# The outputs, and the targets on their device -> the SUM of the losses and the number of labels in it. A loss with
# in-batch negatives takes a third argument, `gather`.
Loss = Callable[..., tuple[Tensor, int]]
# The network's outputs for a packed batch, and the batch -> what the loss reads of them.
Pool = Callable[[Any, PackedBatch], Any]
# A row per example of this process -> those of all processes, in the same order in each of them.
Gather = Callable[[Tensor], Tensor]


def keep_outputs(outputs: Any, batch: PackedBatch) -> Any:  # noqa: ARG001
    """The `Pool` of a loss that reads all outputs."""
    return outputs


def own_rows(rows: Tensor) -> Tensor:
    """The `Gather` of a single process."""
    return rows


def derive_seed(*numbers: int) -> int:
    """A seed of 32 bits from several numbers, such as those of a run, a step and an example."""
    return zlib.crc32(" ".join(map(str, numbers)).encode())
