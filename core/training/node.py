"""Work that one process of each machine does for the others there, which read its result from a file."""

import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..atomic_files import disk_errors
from ..errors import UNPICKLABLE, HeadwayError, SharedError
from .distributed import gather_in_order, processes
from .launch import local_rank

T = TypeVar("T")


def node_leader() -> int:
    """The rank of the process that works for this one: the first one on its machine, or itself without a first one.

    Every process of a launch calls it.
    """
    group = processes()
    names = gather_in_order({group.rank: (socket.gethostname(), local_rank())})
    firsts = [rank for rank, name in enumerate(names) if name == (socket.gethostname(), 0)]
    return firsts[0] if len(firsts) == 1 else group.rank  # several: machines with the same name


def once_per_node(compute: Callable[[], T], file: Path, leader: int) -> T:
    """The result of a function that the leader of each machine calls, in every process. It may take any time.

    Args:
        compute: its result can be pickled.
        file: the leader's result for the other processes of its machine; not written without others.
        leader: of this process (`node_leader`).

    Raises:
        HeadwayError: that of the function; in the other processes it is a SharedError.
    """
    group = processes()
    if not group.is_distributed:
        return compute()
    result: T | None = None
    error: HeadwayError | None = None
    if leader == group.rank:
        try:
            result = compute()
            pickled = _pickled(result)
            with disk_errors(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(pickled)
        except HeadwayError as raised:
            error = raised
    errors = gather_in_order({group.rank: error and str(error)})  # all processes wait here
    if error is not None:
        raise error
    if message := next((one for one in errors if one is not None), None):
        raise SharedError(message)
    return pickle.loads(file.read_bytes()) if leader != group.rank else result  # pyright: ignore[reportReturnType]


def _pickled(result: object) -> bytes:
    try:
        return pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
    except UNPICKLABLE as error:
        raise HeadwayError(
            f"The rows have an object that other processes cannot receive ({error}). Remove its column from the data, "
            "or train in one process."
        ) from error
