"""Dynamic batching with fair turns: a model computes its requests in one thread, short texts first.

Short texts that arrive together are computed as one batch; the next batch fills while the current one is computed,
and an idle model starts at once. Batches are packed without padding, so texts of any length share a batch at no extra
cost.

A long text is computed window by window, and its computation pauses at every layer of the model: short texts that have
arrived meanwhile are computed in the pause, one batch at most, so that neither kind waits for the other to end. A
second thread divides long texts into windows and joins their outputs. Clients take turns in each of these queues.

Every accepted request is answered; a request that does not fit into the queue is refused at once. A request whose
client has disconnected leaves the queue, and an item that cannot be computed fails alone.
"""

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from .client_queue import ClientQueue
from .worker import Worker

Item = TypeVar("Item")
Answer = TypeVar("Answer")

BATCH_TOKENS = 4096  # enough to keep every core busy, few enough to keep the latency low
SHORT_TOKENS = 128  # an item above it is long: a page of text, which takes as long as dozens of sentences
TURN_TOKENS = 512  # of long texts while short ones arrive: one window of BERT, so that a layer takes milliseconds
QUIET_SECONDS = 2.0  # without a short text, after which long ones are computed in full batches


class Model(ABC, Generic[Item, Answer]):
    """How the items of requests are computed, in steps: items -> windows -> outputs -> answers."""

    @abstractmethod
    def cost(self, item: Item) -> int:
        """The approximate number of tokens of an item; the exact one is known only after tokenization."""

    @abstractmethod
    def divide(self, items: Sequence[Item]) -> list[list[Any]]:
        """The windows of each item, at least one."""

    @abstractmethod
    def window_cost(self, window: Any) -> int:
        """The number of tokens of a window."""

    @abstractmethod
    def compute(self, windows: Sequence[Any], pause: Callable[[], None] | None = None) -> Sequence[Any]:
        """The output of each window.

        Args:
            windows: of one item or of several.
            pause: to be called now and then; it may call `compute` itself.
        """

    @abstractmethod
    def join(self, windows: Sequence[list[Any]], outputs: Sequence[list[Any]]) -> Sequence[Answer]:
        """The answer of each item, from its windows and their outputs."""


class FailedItem(Exception):
    """An item of a request could not be computed; `__cause__` is the error.

    Args:
        position: position of the item in its request, from 0.
    """

    def __init__(self, position: int) -> None:
        super().__init__(f"item {position} failed")
        self.position = position


@dataclass(eq=False)
class _Request(Generic[Item, Answer]):
    """The items of one request, which start in order and may be computed in different batches."""

    items: Sequence[Item]
    future: "asyncio.Future[list[Answer]]"
    client: str
    position: int = 0  # of the next item
    text: "_LongText | None" = None  # the next item divided into windows, if it is long
    answers: dict[int, Answer] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        return len(self.answers) == len(self.items)


@dataclass(eq=False)
class _LongText:
    """A long item that is computed window by window."""

    request: _Request[Any, Any]
    position: int
    windows: list[Any]
    next: int = 0  # window
    outputs: dict[int, Any] = field(default_factory=dict)  # by window

    @property
    def complete(self) -> bool:
        return len(self.outputs) == len(self.windows)


_BatchEntry = tuple[_Request[Item, Answer], int]  # a request and the position of one of its items


class Batcher(Worker, Generic[Item, Answer]):
    """Computes the waiting requests in batches and turns.

    A batch takes one item of each waiting request in turn, so that a request with hundreds of texts does not delay
    a request with one text.

    Args:
        name: name of the model.
        model: computes the items, in the worker's threads.
        budget: maximum cost of a batch of short items.
        short: cost up to which an item is short.
        turn: cost of a turn of long items while short ones arrive; a window above it is computed by itself.
        max_queue: maximum number of waiting requests.
        on_batch: called with the number of items, or of windows of long items, of every batch.
    """

    def __init__(
        self,
        name: str,
        model: Model[Item, Answer],
        *,
        budget: int = BATCH_TOKENS,
        short: int = SHORT_TOKENS,
        turn: int = TURN_TOKENS,
        max_queue: int = 256,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        super().__init__(name, max_queue)
        self._model, self._budget, self._max_short, self._turn, self._on_batch = model, budget, short, turn, on_batch
        self._queue: set[_Request[Item, Answer]] = set()  # with an item or window that is not in a batch yet
        self._short: ClientQueue[_Request[Item, Answer]] = ClientQueue()
        self._long: ClientQueue[_Request[Item, Answer]] = ClientQueue()
        self._undivided: ClientQueue[_Request[Item, Answer]] = ClientQueue()
        self._computed: deque[_LongText] = deque()  # to be joined
        self._second_thread: threading.Thread | None = None
        self._second_busy = self._ended = False
        self._last_short = -QUIET_SECONDS

    @property
    def waiting(self) -> int:
        """Number of requests with an item that is not in a batch yet."""
        return len(self._queue)

    def submit(self, items: Sequence[Item], client: str = "") -> "asyncio.Future[list[Answer]]":
        """Queues a request; cancelling the future removes it from the queue.

        Args:
            items: at least one item.
            client: who sends the request; clients take turns.

        Returns:
            A future of the running event loop with one answer per item; it raises FailedItem if an item fails.

        Raises:
            Stopping: the worker is closed.
            QueueFull: the queue is full.
        """
        request = _Request[Item, Answer](items, asyncio.get_running_loop().create_future(), client)
        with self._changed:
            self._admit()
            self._enqueue(request)
        request.future.add_done_callback(lambda _: self._remove(request))
        return request.future

    def close(self, timeout: float | None = None) -> None:
        """Accepts no more requests and waits up to `timeout` seconds for the accepted ones to finish."""
        super().close(timeout)
        if self._second_thread is not None:
            self._second_thread.join(timeout)

    def _enqueue(self, request: _Request[Item, Answer]) -> None:
        """Puts a request, with the lock held, where its next item or window is computed."""
        if request.text is not None:
            queue = self._long
        elif request.position == len(request.items):
            self._queue.discard(request)
            return
        elif self._model.cost(request.items[request.position]) <= self._max_short:
            queue = self._short
        else:
            queue = self._undivided
            if self._second_thread is None:
                self._second_thread = threading.Thread(target=self._run_second, name=self.name, daemon=True)
                self._second_thread.start()
        self._queue.add(request)
        queue.add(request)
        self._changed.notify_all()

    def _remove(self, request: _Request[Item, Answer]) -> None:
        with self._changed:
            self._queue.discard(request)
            for queue in (self._short, self._long, self._undivided):
                queue.discard(request)

    # -- the first thread: short items and windows

    def _run(self) -> None:
        while self._wait():
            self._compute_short()
            self._compute_long()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _wait(self) -> bool:
        """Waits until there is something to compute; False when the worker is closed and nothing is left."""
        with self._changed:
            while not self._short and not self._long:
                if self._closing and not self._second_has_work:
                    return False
                self._changed.wait()
        return True

    def _compute_short(self) -> None:
        batch = self._short_batch()
        if batch:
            self._last_short = time.monotonic()
            _deliver(batch, self._answers([request.items[i] for request, i in batch]))

    def _short_batch(self) -> list[_BatchEntry[Item, Answer]]:
        batch: list[_BatchEntry[Item, Answer]] = []
        total_cost = 0
        with self._changed:
            while self._short:
                request = self._short.first()
                if not request.future.cancelled():
                    total_cost += self._model.cost(request.items[request.position])
                    if batch and total_cost > self._budget:
                        break
                    batch.append((request, request.position))
                self._short.pop()
                request.position += 1
                if not request.future.cancelled():
                    self._enqueue(request)
        return batch

    def _answers(self, items: Sequence[Item]) -> Sequence[Answer | BaseException]:
        """The answer or the error of each item; a batch that fails is computed again item by item."""
        self._on_batch(len(items))
        try:
            windows = self._model.divide(items)
            outputs = iter(self._model.compute([one for part in windows for one in part]))
            return self._model.join(windows, [[next(outputs) for _ in part] for part in windows])
        except BaseException as error:  # delivered to the caller of `submit`; the thread keeps running
            if len(items) == 1:
                return [error]
        return [answer for item in items for answer in self._answers([item])]

    def _compute_long(self) -> None:
        turn = self._long_turn()
        if not turn:
            return
        for (text, window), output in zip(turn, self._outputs(turn), strict=True):
            if isinstance(output, BaseException):
                _deliver([(text.request, text.position)], [output])
                self._remove(text.request)
                continue
            text.outputs[window] = output
            if text.complete:
                with self._changed:
                    self._computed.append(text)
                    self._changed.notify_all()

    def _long_turn(self) -> list[tuple[_LongText, int]]:
        """The next windows: as many as fill a turn, or a whole batch if no short item has arrived for a while."""
        quiet = time.monotonic() - self._last_short >= QUIET_SECONDS
        budget = self._budget if quiet else self._turn
        turn: list[tuple[_LongText, int]] = []
        total_cost = 0
        with self._changed:
            while self._long:
                text = self._long.first().text
                assert text is not None
                total_cost += self._model.window_cost(text.windows[text.next])
                if turn and total_cost > budget:
                    break
                self._long.pop()
                turn.append((text, text.next))
                text.next += 1
                if text.next == len(text.windows):
                    text.request.text = None
                    text.request.position += 1
                self._enqueue(text.request)
        return turn

    def _outputs(self, turn: Sequence[tuple[_LongText, int]]) -> Sequence[Any]:
        """The output or the error of each window; windows that fail together are computed one by one."""
        self._on_batch(len(turn))
        try:
            return self._model.compute([text.windows[i] for text, i in turn], self._compute_short)
        except BaseException as error:
            if len(turn) == 1:
                return [error]
        return [output for one in turn for output in self._outputs([one])]

    # -- the second thread: long items into windows, and outputs into answers

    @property
    def _second_has_work(self) -> bool:
        return self._second_busy or bool(self._undivided) or bool(self._computed)

    def _run_second(self) -> None:
        while True:
            with self._changed:
                self._second_busy = False
                self._changed.notify_all()
                while not self._undivided and not self._computed:
                    if self._ended:
                        return
                    self._changed.wait()
                self._second_busy = True
                text = self._computed.popleft() if self._computed else None
                request = None if text else self._undivided.pop()
            if text is not None:
                self._join(text)
            elif request is not None:
                self._divide(request)

    def _join(self, text: _LongText) -> None:
        outputs = [text.outputs[i] for i in range(len(text.windows))]
        answer: Any
        try:
            (answer,) = self._model.join([text.windows], [outputs])
        except BaseException as error:
            answer = error
        _deliver([(text.request, text.position)], [answer])

    def _divide(self, request: _Request[Item, Answer]) -> None:
        try:
            (windows,) = self._model.divide([request.items[request.position]])
        except BaseException as error:
            _deliver([(request, request.position)], [error])
            self._remove(request)
            return
        with self._changed:
            if request in self._queue:  # not cancelled
                request.text = _LongText(request, request.position, windows)
                self._enqueue(request)


def _deliver(batch: Sequence[_BatchEntry[Any, Any]], answers: Sequence[Any]) -> None:
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
