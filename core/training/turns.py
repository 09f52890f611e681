"""Work on the parts of a stream that is too long for the memory, shared among the processes of a launch."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from ..errors import HeadwayError, SharedError
from .distributed import broadcast_object, processes, receive_object, send_object
from .failures import failing_together

P = TypeVar("P")
R = TypeVar("R")

CONTINUE, STOP = "continue", "stop"


def in_turns(parts: Iterable[P], compute: Callable[[P], R]) -> Iterator[tuple[P, R]]:
    """Computes the parts in turns: the first one in the main process, the second one in the next process, ...

    The main process gets every part with its result, in order, and the others get nothing. A process holds one part
    and one result at a time. A part is computed as a single process would compute it, so the results are the same.

    Args:
        parts: the same in every process, which skips those of the others.
        compute: must not communicate; its result can be pickled.

    Raises:
        HeadwayError: by `parts` or `compute`, in the main process; in the others, a SharedError.
    """
    group = processes()
    if not group.is_distributed:
        for part in parts:
            yield part, compute(part)
        return
    with failing_together():
        if group.is_main:
            yield from _lead(iter(parts), compute, group.world_size)
        else:
            _follow(islice(parts, group.rank, None, group.world_size), compute)


def _lead(parts: Iterator[P], compute: Callable[[P], R], world_size: int) -> Iterator[tuple[P, R]]:
    """Each round the main process computes a part, and receives one result or None from every other process."""
    others = iter(())
    try:
        for first in parts:
            result = compute(first)
            broadcast_object(CONTINUE)
            others = iter(range(1, world_size))
            yield first, result
            for rank in others:
                result = receive_object(rank)
                for part in islice(parts, 1):
                    if isinstance(result, HeadwayError):
                        raise result
                    yield part, result
    except (HeadwayError, GeneratorExit) as error:
        for rank in others:
            receive_object(rank)  # which it waits to send
        broadcast_object(error if isinstance(error, HeadwayError) else STOP)
        raise
    broadcast_object(STOP)


def _follow(parts: Iterator[P], compute: Callable[[P], R]) -> None:
    while True:
        outcome = None
        try:
            for part in islice(parts, 1):
                outcome = compute(part)
        except HeadwayError as error:
            outcome = error
        message = broadcast_object(None)
        if isinstance(message, HeadwayError):
            raise SharedError(str(message))
        if message == STOP:
            return
        send_object(outcome)
