"""Interleaved generation: texts of several requests are generated token by token in turn, in one thread per model.

Round-robin over clients and their texts: neither a long generation nor a client with many of them blocks the others.
Each text can be streamed, and a text whose client has disconnected ends at its next token.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .client_queue import ClientQueue
from .worker import Worker

Part = TypeVar("Part")

# Concurrent generations; each keeps its own key-value cache in memory. Those that one client can occupy, and those of
# all clients: a client that has none may use the rest.
MAX_ACTIVE = 8
MAX_ACTIVE_IN_ALL = 16


@dataclass(frozen=True)
class _End:
    """Marks the end of the parts, with the error that caused it if there was one."""

    error: BaseException | None


class GenerationRequest(Generic[Part]):
    """A submitted generation: an asynchronous iterator over its parts. Call `close` when it is no longer needed."""

    def __init__(
        self,
        start: Callable[[], Iterator[Part | None]],
        client: str,
        remove: "Callable[[GenerationRequest[Any]], None]",
    ) -> None:
        self.client = client
        self._start, self._remove = start, remove
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
        """Cancels the generation: it ends at its next step, or never starts."""
        self.closed = True
        self._remove(self)

    def step(self) -> bool:
        """Runs one step in the worker's thread; returns whether another one follows."""
        if self.closed:
            return False
        try:
            if self._steps is None:
                self._steps = self._start()
            part = next(self._steps)
        except StopIteration:
            self._put(_End(None))
            return False
        except BaseException as error:  # raised again in `__anext__`; the thread keeps running
            self._put(_End(error))
            return False
        if part is not None:
            self._put(part)
        return True

    def _put(self, part: "Part | _End") -> None:
        with suppress(RuntimeError):  # the loop is closed, so no caller is left
            self._loop.call_soon_threadsafe(self._parts.put_nowait, part)


class Interleaver(Worker):
    """Runs several generations in turn, one step each.

    Args:
        name: name of the model.
        max_queue: maximum number of requests that wait for their first step.
        max_active: maximum number of concurrent generations, apart from the first ones of further clients.
    """

    def __init__(self, name: str, *, max_queue: int = 256, max_active: int = MAX_ACTIVE) -> None:
        super().__init__(name, max_queue)
        self._max_active = max_active
        self.num_active = 0  # generations that have started and not ended
        self._queue: ClientQueue[GenerationRequest[Any]] = ClientQueue()

    @property
    def waiting(self) -> int:
        """Number of requests that have not started."""
        return len(self._queue)

    def submit(self, start: Callable[[], Iterator[Part | None]], client: str = "") -> GenerationRequest[Part]:
        """Queues a request.

        Args:
            start: called in the worker's thread; returns the steps. A step that is None produces no part.
            client: who sent it.

        Raises:
            Stopping: the worker is closed.
            QueueFull: the queue is full.
        """
        request = GenerationRequest(start, client, self._remove)
        with self._changed:
            self._admit()
            self._queue.add(request)
            self._changed.notify()
        return request

    def _remove(self, request: GenerationRequest[Any]) -> None:
        with self._changed:
            self._queue.discard(request)

    def _run(self) -> None:
        active: ClientQueue[GenerationRequest[Any]] = ClientQueue()
        while self._fill(active):
            request = active.pop()
            if request.step():
                active.add(request)

    def _fill(self, active: ClientQueue[GenerationRequest[Any]]) -> bool:
        """Moves queued requests to `active`, waiting while both are empty; False when the worker is done."""
        with self._changed:
            self.num_active = len(active)
            while not active and not self._queue and not self._closing:
                self._changed.wait()
            while self._queue and len(active) < self._max_active:
                active.add(self._queue.pop())
            for client in [one for one in self._queue.clients if one not in active.clients]:
                if len(active) < MAX_ACTIVE_IN_ALL:
                    active.add(self._queue.pop_of(client))
            self.num_active = len(active)
        return bool(active)
