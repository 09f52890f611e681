"""The processes of a training run or an evaluation, and how they share work.

`torchrun` and `accelerate launch` start several processes. A single process is a launch of one: nothing here
communicates then. Collective operations: https://docs.pytorch.org/docs/stable/distributed.html.
"""

import atexit
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor, distributed

from ..device import check_device

T = TypeVar("T")

# Environment variables with the number of processes: torchrun and accelerate launch, then the MPI implementations.
WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


@dataclass(frozen=True)
class Processes:
    """The rank of this process and the number of processes."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints messages."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        """Whether there is more than one process."""
        return self.world_size > 1


def processes() -> Processes:
    """The processes of this launch; initializes the process group on the first call."""
    if not distributed.is_available():
        return Processes()
    if not distributed.is_initialized():
        if all(int(os.environ.get(name, 1)) == 1 for name in WORLD_SIZES):
            return Processes()
        from accelerate import PartialState

        PartialState(cpu=wants_cpu())
    _delay_exit()
    return Processes(distributed.get_rank(), distributed.get_world_size())


@cache
def _delay_exit() -> None:
    """Makes the interpreter wait for half a second before it exits.

    Gloo frees the tensors of the last message in a thread, which aborts the process if the interpreter no longer
    exists (observed in 2 to 3 of 100 launches on a busy machine).
    """
    if distributed.get_backend() == "gloo":
        atexit.register(time.sleep, 0.5)


def wants_cpu(device: str = "auto") -> bool:
    """Whether `device` means the CPU: by name, by the launcher's settings, or because there is no accelerator."""
    if device != "auto" or not torch.accelerator.is_available():
        return device in ("cpu", "auto")
    from accelerate.utils import parse_flag_from_env

    return parse_flag_from_env("ACCELERATE_USE_CPU")


def inference_device(name: str = "auto") -> torch.device:
    """The device for predictions.

    Args:
        name: cpu, cuda, cuda:1, ...; auto is the accelerator, or the CPU without one or if the launcher asks for it.

    Raises:
        HeadwayError: this machine has no such device.
    """
    check_device(name)
    if name != "auto":
        return torch.device(name)
    cpu = torch.device("cpu")
    return cpu if wants_cpu() else torch.accelerator.current_accelerator() or cpu


def shard(batches: Sequence[T]) -> list[T]:
    """This process's share of a list that is the same in all processes; the shares are disjoint."""
    group = processes()
    return list(batches[group.rank :: group.world_size])


def gather_in_order(results: dict[int, T]) -> list[T]:
    """Collects the results of all processes, in every process.

    Args:
        results: this process's results by position; no position occurs in two processes.

    Returns:
        The results of all processes in the order of their positions.
    """
    group = processes()
    if group.is_distributed:
        parts: list[dict[int, T]] = [{}] * group.world_size
        distributed.all_gather_object(parts, results)
        results = {position: result for part in parts for position, result in part.items()}
    return [results[position] for position in sorted(results)]


def broadcast_object(value: T) -> T:
    """The main process's value, in every process."""
    box = [value]
    if processes().is_distributed:
        distributed.broadcast_object_list(box, src=0)
    return box[0]


def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Overwrites the tensors with those of the main process, which have the same shapes."""
    if processes().is_distributed:
        for tensor in tensors:
            distributed.broadcast(tensor, src=0)


def barrier() -> None:
    """Returns when every process has called it."""
    broadcast_object(None)
