"""Dynamic batching: requests that arrive together are computed as one batch, in one thread per model.

The next batch fills while the current one is computed; an idle model starts at once. Batches are packed without
padding, so texts of any length share a batch at no extra cost.

Every accepted request is answered; a request that does not fit into the queue is refused at once. A request whose
client has disconnected leaves the queue, and an item that cannot be computed fails alone.
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

BATCH_TOKENS = 4096  # enough to keep every core busy, few enough to keep the latency low


class QueueFull(HeadwayError):
    """The queue holds as many requests as it may."""


class Stopping(HeadwayError):
    """The server is stopping and accepts no more requests."""


class Worker:
    """A thread with a bounded queue; the first request starts it.

    Args:
        name: name of the thread, also used in error messages.
        max_queue: maximum number of waiting requests.
    """

    def __init__(self, name: str, max_queue: int) -> None:
        self.name = name
        self.max_queue = max_queue
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Number of requests in the queue."""
        raise NotImplementedError

    def close(self, timeout: float | None = None) -> None:
        """Accepts no more requests and waits up to `timeout` seconds for the accepted ones to finish."""
        with self._changed:
            self._closing = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _admit(self) -> None:
        """Checks, with the lock held, that a request may enter the queue; starts the thread.

        Raises:
            Stopping: the worker is closed.
            QueueFull: the queue is full.
        """
        if self._closing:
            raise Stopping("The server is stopping and accepts no more requests. Try again when it is back.")
        if self.waiting >= self.max_queue:
            raise QueueFull(f"The queue of {self.name} is full: {self.waiting} requests are waiting. Try again later.")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        """Body of the thread: works until the worker is closed and the queue is empty."""
        raise NotImplementedError


@dataclass(eq=False)
class _Request(Generic[Item, Answer]):
    """The items of one request, which may be computed in different batches."""

    items: Sequence[Item]
    future: "asyncio.Future[list[Answer]]"
    num_batched: int = 0  # items already put into a batch
    answers: dict[int, Answer] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        return len(self.answers) == len(self.items)


_BatchEntry = tuple[_Request[Item, Answer], int]  # a request and the position of one of its items


class FailedItem(Exception):
    """An item of a request could not be computed; `__cause__` is the error.

    Args:
        position: position of the item in its request, from 0.
    """

    def __init__(self, position: int) -> None:
        super().__init__(f"item {position} failed")
        self.position = position


class Batcher(Worker, Generic[Item, Answer]):
    """Computes the waiting requests in batches.

    A batch takes one item of each waiting request in turn, so that a request with hundreds of texts does not delay
    a request with one text.

    Args:
        name: name of the model.
        compute: returns one answer per item, in order. Called in the worker's thread.
        cost: approximate number of tokens of an item; the exact count is known only after tokenization.
        budget: maximum cost of a batch; an item above it forms a batch by itself.
        max_queue: maximum number of waiting requests.
        on_batch: called with the number of items of every batch.
    """

    def __init__(
        self,
        name: str,
        compute: Callable[[Sequence[Item]], Sequence[Answer]],
        cost: Callable[[Item], int],
        *,
        budget: int = BATCH_TOKENS,
        max_queue: int = 256,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        super().__init__(name, max_queue)
        self._function, self._cost, self._budget, self._on_batch = compute, cost, budget, on_batch
        self._queue: dict[_Request[Item, Answer], None] = {}  # ordered, with O(1) removal anywhere

    @property
    def waiting(self) -> int:
        """Number of requests with an item that is not in a batch yet."""
        return len(self._queue)

    def submit(self, items: Sequence[Item]) -> "asyncio.Future[list[Answer]]":
        """Queues a request; cancelling the future removes it from the queue.

        Args:
            items: at least one item.

        Returns:
            A future of the running event loop with one answer per item; it raises FailedItem if an item fails.

        Raises:
            Stopping: the worker is closed.
            QueueFull: the queue is full.
        """
        request = _Request[Item, Answer](items, asyncio.get_running_loop().create_future())
        with self._changed:
            self._admit()
            self._queue[request] = None
            self._changed.notify()
        request.future.add_done_callback(lambda _: self._remove(request))
        return request.future

    def _remove(self, request: _Request[Item, Answer]) -> None:
        with self._changed:
            self._queue.pop(request, None)

    def _run(self) -> None:
        while batch := self._next_batch():
            _deliver(batch, self._compute([request.items[i] for request, i in batch]))

    def _next_batch(self) -> list[_BatchEntry[Item, Answer]]:
        """Waits for the next batch; empty when the worker is closed and no request is left."""
        batch: list[_BatchEntry[Item, Answer]] = []
        total_cost = 0
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait()
            while self._queue:
                request = next(iter(self._queue))
                if request.future.cancelled():
                    del self._queue[request]
                    continue
                total_cost += self._cost(request.items[request.num_batched])
                if batch and total_cost > self._budget:
                    break
                batch.append((request, request.num_batched))
                request.num_batched += 1
                del self._queue[request]
                if request.num_batched < len(request.items):
                    self._queue[request] = None  # back to the end of the queue
        return batch

    def _compute(self, items: list[Item]) -> Sequence[Answer | BaseException]:
        """The answer or the error of each item; a batch that fails is computed again item by item."""
        self._on_batch(len(items))
        try:
            return self._function(items)
        except BaseException as error:  # delivered to the caller of `submit`; the thread keeps running
            if len(items) == 1:
                return [error]
        return [answer for item in items for answer in self._compute([item])]


def _deliver(batch: list[_BatchEntry[Any, Any]], answers: Sequence[Any]) -> None:
    """Passes the answers to the event loops of their requests, with one call per loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Request[Any, Any], int, Any]]] = {}
    for (request, position), answer in zip(batch, answers, strict=True):
        by_loop.setdefault(request.future.get_loop(), []).append((request, position, answer))
    for loop, results in by_loop.items():
        with suppress(RuntimeError):  # the loop is closed, so no caller is left
            loop.call_soon_threadsafe(_set_results, results)


def _set_results(results: "list[tuple[_Request[Any, Any], int, Any]]") -> None:
    """Completes the futures; runs in their event loop."""
    for request, position, answer in results:
        if request.future.done():
            continue  # cancelled, or another item has failed
        if isinstance(answer, BaseException):
            failed = FailedItem(position)
            failed.__cause__ = answer
            request.future.set_exception(failed)
            continue
        request.answers[position] = answer
        if request.done:
            request.future.set_result([request.answers[i] for i in range(len(request.items))])
