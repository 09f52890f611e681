"""The processes of a training run or an evaluation, and how they share work.

`torchrun` and `accelerate launch` start several processes. A single process is a launch of one: nothing here
communicates then. Collective operations: https://docs.pytorch.org/docs/stable/distributed.html.

Tensors on a device are exchanged by the default group. Objects are exchanged by a group of the CPUs, so that no GPU
is waited for; it has no timeout, because the main process may work alone for hours while the others wait.
"""

import atexit
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, distributed

from ..device import check_device
from ..errors import HeadwayError, SharedError
from .launch import ADDRESS, join_launch, local_rank

if TYPE_CHECKING:  # builds of torch without distributed do not have them
    from torch.distributed import ProcessGroup, Store  # pyright: ignore[reportPrivateImportUsage]

T = TypeVar("T")

NO_TIMEOUT = timedelta(days=365)
_stores: list["Store"] = []  # of the process group, if it was made here


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
    """The processes of this launch; initializes the process group on the first call.

    Raises:
        SharedError: the launcher does not say where the processes find one another.
        HeadwayError: they do not find one another there.
    """
    if not distributed.is_available():
        return Processes()
    if not distributed.is_initialized():
        if not join_launch():
            return Processes()
        _initialize()
    return Processes(distributed.get_rank(), distributed.get_world_size())


def _initialize() -> None:
    from torch.distributed import DistError, PrefixStore  # pyright: ignore[reportPrivateImportUsage]
    from torch.distributed.rendezvous import rendezvous

    try:
        with signals_end_the_process():
            store, rank, world_size = next(rendezvous("env://"))  # the variables that torch's launchers set
            # A launcher that restarts the processes keeps the store, with the addresses of those that have ended.
            store = PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
            distributed.init_process_group(_backend(), store=store, rank=rank, world_size=world_size)
    except DistError as error:
        address = ":".join(os.environ[name] for name in ADDRESS)
        why = str(error).splitlines()[0][:200]
        raise HeadwayError(
            f"The processes of this launch cannot find one another at {address} ({why}). MASTER_ADDR must be the "
            "first machine, MASTER_PORT a port that is free there, and as many processes as WORLD_SIZE must run."
        ) from error
    _stores.append(store)
    close_group_at_exit()


@contextmanager
def signals_end_the_process() -> Iterator[None]:
    """SIGINT and SIGTERM end the process in the block: torch waits there for minutes without running handlers."""
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if callable(handler):
            signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, handler)


def launch_store() -> "Store | None":
    """The key-value store that connects the processes; None if the calling program made the process group."""
    return _stores[-1] if _stores else None


def _backend() -> str:
    """Of tensors on the CPU: gloo, on a machine with GPUs too, where --device cpu may be chosen. Of others: theirs."""
    kind = getattr(torch.accelerator.current_accelerator(), "type", "cpu")
    backend = distributed.Backend.default_device_backend_map.get(kind, "gloo")
    if wants_cpu() or backend == "gloo" or not distributed.is_backend_available(backend):
        return "gloo"
    return f"cpu:gloo,{kind}:{backend}"


@lru_cache(1)
def _host_group_of(world: "ProcessGroup") -> "ProcessGroup":  # noqa: ARG001 - the key
    group = distributed.new_group(backend="gloo", timeout=NO_TIMEOUT)
    assert isinstance(group, distributed.ProcessGroup)
    return group


def _host_group() -> "ProcessGroup":
    """The group that exchanges objects."""
    assert distributed.group.WORLD is not None
    return _host_group_of(distributed.group.WORLD)


@lru_cache(1)
def close_group_at_exit() -> None:
    """Destroys the process groups before the interpreter ends, which their threads must not outlive."""
    atexit.register(_close_group)


def _close_group() -> None:
    _host_group_of.cache_clear()
    _stores.clear()
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


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
            Without an index, each process of a launch gets another device.

    Raises:
        HeadwayError: this machine has no such device.
    """
    check_device(name)
    accelerator = None if wants_cpu(name) else torch.accelerator.current_accelerator()
    if accelerator is None or ":" in name:
        return torch.device("cpu" if accelerator is None else name)
    if processes().is_distributed:
        torch.accelerator.set_device_index(local_rank() % torch.accelerator.device_count())
    return accelerator


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
        distributed.all_gather_object(parts, results, group=_host_group())
        results = {position: result for part in parts for position, result in part.items()}
    return [results[position] for position in sorted(results)]


def gather_rows(rows: Tensor, counts: Sequence[int]) -> Tensor:
    """Joins the rows of all processes, (own rows, ...) -> (sum of counts, ...); gradients reach the own rows only.

    Args:
        rows: of this process; the same shape in all processes apart from their number.
        counts: number of rows of each process.
    """
    group = processes()
    own = rows[: counts[group.rank]]
    if not group.is_distributed:
        return own
    sent = rows.new_zeros(max(counts), *rows.shape[1:])
    sent[: len(own)] = own.detach()
    received = [torch.empty_like(sent) for _ in counts]
    distributed.all_gather(received, sent)
    parts = [part[:count] for part, count in zip(received, counts, strict=True)]
    parts[group.rank] = own
    return torch.cat(parts)


def first_on_machine() -> int:
    """The lowest rank of the processes on this machine."""
    group = processes()
    hosts = gather_in_order({group.rank: socket.gethostname()})
    return hosts.index(hosts[group.rank])


def broadcast_object(value: T) -> T:
    """The main process's value, in every process."""
    box = [value]
    if processes().is_distributed:
        distributed.broadcast_object_list(box, src=0, group=_host_group())
    return box[0]


def on_main(compute: Callable[[], T]) -> T:
    """The result of a function that the main process calls, in every process.

    Raises:
        HeadwayError: that of the function; in the other processes it is a SharedError.
    """
    outcome: T | HeadwayError | None = None
    if processes().is_main:
        try:
            outcome = compute()
        except HeadwayError as error:
            broadcast_object(error)
            raise
    outcome = broadcast_object(outcome)
    if isinstance(outcome, HeadwayError):
        raise SharedError(str(outcome))
    return outcome  # pyright: ignore[reportReturnType] - the main process's


def send_object(value: object) -> None:
    """Sends a value to the main process, which receives it."""
    distributed.send_object_list([value], dst=0, group=_host_group())


def receive_object(rank: int) -> Any:
    """The value that another process sends to the main process."""
    box = [None]
    distributed.recv_object_list(box, src=rank, group=_host_group())
    return box[0]


def broadcast_tensors(tensors: Iterable[Tensor]) -> None:
    """Overwrites the tensors with those of the main process, which have the same shapes."""
    if processes().is_distributed:
        for tensor in tensors:
            distributed.broadcast(tensor, src=0)


def barrier() -> None:
    """Returns when every process has called it."""
    broadcast_object(None)
