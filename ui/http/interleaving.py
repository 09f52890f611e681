"""Texts that are written at the same time, token by token and each in its turn, in one thread for each model.

A long text so never keeps a short one waiting, each can be read as it comes, and one that nobody waits for any longer
ends at its next token.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .batching import Worker

Part = TypeVar("Part")

AT_ONCE = 8  # texts under way; each holds the keys and values of its tokens in memory


@dataclass(frozen=True)
class _End:
    """Comes after the last part: why there are no more, where that is an error."""

    error: BaseException | None


class Writing(Generic[Part]):
    """What somebody asked to be written: an asynchronous iterator over its parts. `close` it when done with it."""

    def __init__(self, begin: Callable[[], Iterator[Part | None]], leave: "Callable[[Writing[Any]], None]") -> None:
        self._begin, self._leave = begin, leave
        self._loop = asyncio.get_running_loop()
        self._parts: asyncio.Queue[Part | _End] = asyncio.Queue()
        self._steps: Iterator[Part | None] | None = None
        self.closed = False

    def __aiter__(self) -> AsyncIterator[Part]:
        return self

    async def __anext__(self) -> Part:
        part = await self._parts.get()
        if isinstance(part, _End):
            if part.error is not None:
                raise part.error
            raise StopAsyncIteration
        return part

    def close(self) -> None:
        """Nobody waits for it any longer: it ends at its next step, or never begins."""
        self.closed = True
        self._leave(self)

    def step(self) -> bool:
        """One step, in the worker's thread; whether there is another."""
        if self.closed:
            return False
        # Whatever went wrong is raised again where it was asked for: nothing is swallowed, and the thread lives on.
        try:
            if self._steps is None:
                self._steps = self._begin()
            part = next(self._steps)
        except StopIteration:
            self._hand_over(_End(None))
            return False
        except BaseException as error:
            self._hand_over(_End(error))
            return False
        if part is not None:
            self._hand_over(part)
        return True

    def _hand_over(self, part: "Part | _End") -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it whoever waited in it
            self._loop.call_soon_threadsafe(self._parts.put_nowait, part)


class Turns(Worker):
    """Lets several texts be written in turn.

    Args:
        name: of the model.
        most_waiting: requests that may wait for their first step.
        at_once: how many are under way.
    """

    def __init__(self, name: str, *, most_waiting: int = 256, at_once: int = AT_ONCE) -> None:
        super().__init__(name, most_waiting)
        self._at_once = at_once
        self.under_way = 0  # texts that have begun and not ended
        self._queue: dict[Writing[Any], None] = {}  # in order; from the middle of it anyone may leave

    @property
    def waiting(self) -> int:
        """How many requests have not begun."""
        return len(self._queue)

    def submit(self, begin: Callable[[], Iterator[Part | None]]) -> Writing[Part]:
        """Puts a request into the queue.

        Args:
            begin: called in the worker's thread; of what it gives, everything but None is handed over.

        Raises:
            Stopping: the worker was closed.
            QueueFull: there is no room.
        """
        writing = Writing(begin, self._leave)
        with self._changed:
            self._admit()
            self._queue[writing] = None
            self._changed.notify()
        return writing

    def _leave(self, writing: Writing[Any]) -> None:
        with self._changed:
            self._queue.pop(writing, None)

    def _run(self) -> None:
        running: deque[Writing[Any]] = deque()
        while self._fill(running):
            writing = running.popleft()
            if writing.step():
                running.append(writing)

    def _fill(self, running: deque[Writing[Any]]) -> bool:
        """Takes what may begin, waiting where nothing is under way; whether there is anything to do."""
        with self._changed:
            self.under_way = len(running)
            while not running and not self._queue and not self._closing:
                self._changed.wait()
            while self._queue and len(running) < self._at_once:
                writing = next(iter(self._queue))
                del self._queue[writing]
                running.append(writing)
            self.under_way = len(running)
        return bool(running)
