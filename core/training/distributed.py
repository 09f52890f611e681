"""The processes of a run: which one this is, and how they share work.

`torchrun` and `accelerate launch` start several; a process by itself is a run of one, and then nothing here does
anything. Collective operations follow torch.distributed (https://docs.pytorch.org/docs/stable/distributed.html).
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

T = TypeVar("T")

# How many processes the launchers say there are: torchrun and accelerate launch, then the kinds of MPI.
WORLD_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


@dataclass(frozen=True)
class Processes:
    """Which process this is, and of how many."""

    rank: int = 0
    world: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files and talks to people."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.world > 1


def processes() -> Processes:
    """This process among those of its launch; joins them if that has not happened yet."""
    if not distributed.is_available():
        return Processes()
    if not distributed.is_initialized():
        if all(int(os.environ.get(name, 1)) == 1 for name in WORLD_SIZES):
            return Processes()
        from accelerate import PartialState

        PartialState(cpu=wants_cpu())
    _outlive_last_message()
    return Processes(distributed.get_rank(), distributed.get_world_size())


@cache
def _outlive_last_message() -> None:
    """Makes the interpreter wait a moment at its end.

    Gloo frees the tensors of the last message in a thread of its own, which aborts the process if the interpreter is
    gone by then (seen in 2 to 3 of 100 launches on a busy machine).
    """
    if distributed.get_backend() == "gloo":
        atexit.register(time.sleep, 0.5)


def wants_cpu(device: str = "auto") -> bool:
    """Whether `device` means the CPU: said outright, said to the launcher, or the only one there is."""
    if device != "auto" or not torch.accelerator.is_available():
        return device in ("cpu", "auto")
    from accelerate.utils import parse_flag_from_env

    return parse_flag_from_env("ACCELERATE_USE_CPU")


def inference_device() -> torch.device:
    """Where predictions are computed: on the accelerator, unless there is none or the launch wants the CPU."""
    cpu = torch.device("cpu")
    return cpu if wants_cpu() else torch.accelerator.current_accelerator() or cpu


def shard(batches: Sequence[T]) -> list[T]:
    """This process's part of a list that all of them hold; every element goes to exactly one process."""
    ours = processes()
    return list(batches[ours.rank :: ours.world])


def gather_in_order(results: dict[int, T]) -> list[T]:
    """Brings what the processes found together, on every one of them.

    Args:
        results: what this process found, by position; a position belongs to one process only.

    Returns:
        The results of all processes in the order of their positions.
    """
    ours = processes()
    if ours.several:
        parts: list[dict[int, T]] = [{}] * ours.world
        distributed.all_gather_object(parts, results)
        results = {position: found for part in parts for position, found in part.items()}
    return [results[position] for position in sorted(results)]


def broadcast_object(value: T) -> T:
    """The main process's value, on every process."""
    box = [value]
    if processes().several:
        distributed.broadcast_object_list(box, src=0)
    return box[0]


def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Overwrites the tensors with the main process's, which have the same shapes."""
    if processes().several:
        for tensor in tensors:
            distributed.broadcast(tensor, src=0)


def barrier() -> None:
    """Returns when every process has come here."""
    broadcast_object(None)
