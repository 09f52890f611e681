"""Requests that arrive together are answered as one batch, in one thread for each model.

While one batch is computed the next one builds up; nobody waits for company when the model is idle. Since batches are
packed, texts of all lengths go into one without costing more than they would alone.

What is taken is answered; what does not fit into the queue is refused at once. A request whose asker has gone leaves
the queue before it is computed, and one that cannot be computed fails alone.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ...core.errors import HeadwayError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

BATCH_TOKENS = 4096  # enough to keep every core busy, few enough for answers to come while others are computed


class QueueFull(HeadwayError):
    """As many requests wait as may wait."""


class Stopping(HeadwayError):
    """The server stops and takes nothing more."""


class Worker:
    """A thread of its own for what it takes, at most so much; started by the first that it takes.

    Args:
        name: of the thread, and for messages.
        most_waiting: requests that may wait.
    """

    def __init__(self, name: str, most_waiting: int) -> None:
        self.name = name
        self.most_waiting = most_waiting
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """How many requests are in the queue."""
        raise NotImplementedError

    def close(self, timeout: float | None = None) -> None:
        """Takes nothing more, finishes what was taken, and waits for that at most so many seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _admit(self) -> None:
        """Called with the lock held, before a request is put into the queue.

        Raises:
            Stopping: the worker was closed.
            QueueFull: there is no room.
        """
        if self._closing:
            raise Stopping("The server is stopping and takes nothing more. Ask again when it is back.")
        if self.waiting >= self.most_waiting:
            raise QueueFull(
                f"{self.waiting} requests are waiting for {self.name}, which is as many as may. Ask again in a moment."
            )
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        """The thread: works until it is closed and nothing waits."""
        raise NotImplementedError


@dataclass(eq=False)
class _Request(Generic[Item, Answer]):
    """What somebody asked: one item or several, which may be answered in different batches."""

    items: Sequence[Item]
    future: "asyncio.Future[list[Answer]]"
    taken: int = 0  # items that are in a batch, or were
    answers: dict[int, Answer] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        return len(self.answers) == len(self.items)


class FailedItem(Exception):
    """An item of a request could not be answered; why is the cause.

    Args:
        position: of the item in its request, from 0.
    """

    def __init__(self, position: int) -> None:
        super().__init__(f"item {position} failed")
        self.position = position


class Batcher(Worker, Generic[Item, Answer]):
    """Answers what waits in batches.

    Where several wait, a batch takes an item of each in turn, so that a request with hundreds of texts does not keep
    those with one text from being answered.

    Args:
        name: of the model.
        work: answers some items at once, one answer each, in order. It is called in the worker's thread.
        cost: of an item, roughly in tokens: counting them exactly is what a batch does together.
        budget: the cost of a batch; an item that is dearer is a batch of its own.
        most_waiting: requests that may wait.
        computed: is told of every batch: how many items it had.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[Item]], Sequence[Answer]],
        cost: Callable[[Item], int],
        *,
        budget: int = BATCH_TOKENS,
        most_waiting: int = 256,
        computed: Callable[[int], None] = lambda _: None,
    ) -> None:
        super().__init__(name, most_waiting)
        self._work, self._cost, self._budget, self._computed = work, cost, budget, computed
        self._queue: dict[_Request[Item, Answer], None] = {}  # in order; from the middle of it anyone may leave

    @property
    def waiting(self) -> int:
        """How many requests have an item that is in no batch yet."""
        return len(self._queue)

    def submit(self, items: Sequence[Item]) -> "asyncio.Future[list[Answer]]":
        """Puts a request into the queue; cancelling the future takes it out again.

        Args:
            items: at least one.

        Returns:
            A future of the running event loop: an answer for each item, or FailedItem.

        Raises:
            Stopping: the worker was closed.
            QueueFull: there is no room.
        """
        request = _Request[Item, Answer](items, asyncio.get_running_loop().create_future())
        with self._changed:
            self._admit()
            self._queue[request] = None
            self._changed.notify()
        request.future.add_done_callback(lambda _: self._leave(request))
        return request.future

    def _leave(self, request: _Request[Item, Answer]) -> None:
        with self._changed:
            self._queue.pop(request, None)

    def _run(self) -> None:
        while batch := self._take():
            self._deliver(batch, self._compute([request.items[i] for request, i in batch]))

    def _take(self) -> list[tuple[_Request[Item, Answer], int]]:
        """The next batch, as places in requests; waits for one, and is empty when there will be none."""
        batch: list[tuple[_Request[Item, Answer], int]] = []
        spent = 0
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait()
            while self._queue:
                request = next(iter(self._queue))
                if request.future.cancelled():
                    del self._queue[request]
                    continue
                spent += self._cost(request.items[request.taken])
                if batch and spent > self._budget:
                    break
                batch.append((request, request.taken))
                request.taken += 1
                del self._queue[request]
                if request.taken < len(request.items):
                    self._queue[request] = None  # goes to the end
        return batch

    def _compute(self, items: list[Item]) -> Sequence[Answer | BaseException]:
        """An answer for each item or why there is none."""
        self._computed(len(items))
        # Whatever went wrong is raised again where it was asked for: nothing is swallowed, and the thread lives on.
        try:
            return self._work(items)
        except BaseException as error:
            if len(items) == 1:
                return [error]
        return [answer for item in items for answer in self._compute([item])]

    def _deliver(
        self, batch: list[tuple[_Request[Item, Answer], int]], answers: Sequence[Answer | BaseException]
    ) -> None:
        """Hands the answers over, each event loop woken once."""
        ready: dict[asyncio.AbstractEventLoop, list[tuple[_Request[Item, Answer], int, Answer | BaseException]]] = {}
        for (request, position), answer in zip(batch, answers, strict=True):
            ready.setdefault(request.future.get_loop(), []).append((request, position, answer))
        for loop, settled in ready.items():
            with suppress(RuntimeError):  # the loop has ended, and with it whoever waited in it
                loop.call_soon_threadsafe(_settle, settled)


def _settle(settled: "list[tuple[_Request[Any, Any], int, Any]]") -> None:
    """In the event loop: the futures get their results."""
    for request, position, answer in settled:
        if request.future.done():
            continue  # the asker has gone, or another item has failed
        if isinstance(answer, BaseException):
            failed = FailedItem(position)
            failed.__cause__ = answer
            request.future.set_exception(failed)
            continue
        request.answers[position] = answer
        if request.whole:
            request.future.set_result([request.answers[i] for i in range(len(request.items))])
