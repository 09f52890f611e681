"""Requests share batches, fail alone, are cancelled and are finished at the end; generations are interleaved."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from headway.core.errors import HeadwayError
from headway.ui.http.batching import Batcher, FailedItem, Model
from headway.ui.http.interleaving import Interleaver
from headway.ui.http.worker import QueueFull, Stopping, Worker

TIMEOUT = 60.0  # seconds; the cores may be busy


class Gated:
    """A computation that waits before each batch until the test releases it, and records the batches."""

    def __init__(self, *, open: bool = False) -> None:
        self.batches: list[list[str]] = []
        self.started = threading.Semaphore(0)
        self.go = threading.Semaphore(10**6 if open else 0)

    def __call__(self, items: Sequence[str]) -> list[str]:
        self.batches.append(list(items))
        self.started.release()
        assert self.go.acquire(timeout=TIMEOUT)
        if "bad" in items:
            raise HeadwayError("bad is bad")
        if "broken" in items:
            raise ZeroDivisionError("broken")
        return [item.upper() for item in items]


@pytest.fixture
def gated() -> Gated:
    return Gated()


class Letters(Model[str, str]):
    """Costs one for each letter; a window is five letters of an item, or the whole item if it is short."""

    def __init__(self, compute: Callable[[Sequence[str]], list[str]], short: int) -> None:
        self.compute_windows, self.short = compute, short
        self.divided: list[str] = []

    def cost(self, item: str) -> int:
        return len(item)

    def divide(self, items: Sequence[str]) -> list[list[str]]:
        if "undividable" in items:
            raise HeadwayError("undividable is bad")
        self.divided += items
        size = [len(item) if len(item) <= self.short else 5 for item in items]
        return [[item[i : i + n] for i in range(0, len(item), n)] for item, n in zip(items, size, strict=True)]

    def window_cost(self, window: str) -> int:
        return len(window)

    def compute(self, windows: Sequence[str], pause: Callable[[], None] | None = None) -> list[str]:
        if pause is not None:
            pause()
        return self.compute_windows(windows)

    def join(self, windows: Sequence[list[str]], outputs: Sequence[list[str]]) -> list[str]:
        assert list(map(len, windows)) == list(map(len, outputs))
        return ["".join(part) for part in outputs]


def batcher(compute: Callable[[Sequence[str]], list[str]], short: int = 100, **options: Any) -> Batcher[str, str]:
    return Batcher("model", Letters(compute, short), **{"budget": 10, "short": short, **options})


async def busy(gated: Gated, worker: Batcher[str, str]) -> "asyncio.Future[list[str]]":
    """A request that is being computed, so that further ones wait in the queue."""
    future = worker.submit(["first"])
    assert await asyncio.to_thread(gated.started.acquire, timeout=TIMEOUT)
    return future


async def until(worker: Worker, condition: Callable[[], bool]) -> None:
    """Waits until a condition holds that the threads of a worker bring about."""

    def wait() -> bool:
        with worker._changed:
            return worker._changed.wait_for(condition, TIMEOUT)

    assert await asyncio.to_thread(wait)


def release(gated: Gated) -> None:
    gated.go.release(1000)


def test_requests_that_arrive_during_a_batch_form_the_next_one(gated):
    async def run() -> None:
        worker = batcher(gated)
        first = await busy(gated, worker)
        others = [worker.submit([text]) for text in ("a", "bb", "ccc")]
        assert worker.waiting == 3
        release(gated)
        assert await asyncio.gather(first, *others) == [["FIRST"], ["A"], ["BB"], ["CCC"]]
        assert gated.batches == [["first"], ["a", "bb", "ccc"]]
        assert worker.waiting == 0
        worker.close(TIMEOUT)

    asyncio.run(run())


def test_a_single_request_is_computed_at_once(gated):
    async def run() -> None:
        release(gated)
        worker = batcher(gated)
        assert await asyncio.wait_for(worker.submit(["alone"]), TIMEOUT) == ["ALONE"]
        worker.close(TIMEOUT)

    asyncio.run(run())


def test_a_batch_is_filled_to_its_budget_and_a_larger_item_forms_its_own(gated):
    async def run() -> None:
        worker = batcher(gated)
        futures = [await busy(gated, worker)]
        futures += [worker.submit([text]) for text in ("four", "five5", "six", "longer than any", "two")]
        release(gated)
        await asyncio.gather(*futures)
        assert gated.batches[1:] == [["four", "five5"], ["six"], ["longer than any"], ["two"]]
        worker.close(TIMEOUT)

    asyncio.run(run())


def test_a_large_request_does_not_delay_a_small_one(gated):
    async def run() -> None:
        worker = batcher(gated)
        first = await busy(gated, worker)
        large, small = worker.submit(["large"] * 6), worker.submit(["small"])
        release(gated)
        assert await large == ["LARGE"] * 6
        assert await small == ["SMALL"]
        assert (await first, gated.batches[1]) == (["FIRST"], ["large", "small"])
        worker.close(TIMEOUT)

    asyncio.run(run())


def test_answers_are_in_the_order_of_their_items():
    async def run() -> None:
        worker = batcher(lambda items: [item * 2 for item in items])
        requests = [[f"{i}-{j}" for j in range(i % 7 + 1)] for i in range(50)]
        answers = await asyncio.gather(*(worker.submit(items) for items in requests))
        assert answers == [[item * 2 for item in items] for items in requests]
        worker.close(TIMEOUT)

    asyncio.run(run())


@pytest.mark.parametrize(("item", "kind"), [("bad", HeadwayError), ("broken", ZeroDivisionError)])
def test_a_bad_item_fails_only_its_own_request(gated, item, kind):
    async def run() -> None:
        worker = batcher(gated, budget=100)
        first = await busy(gated, worker)
        good, bad, other = worker.submit(["good"]), worker.submit(["fine", item]), worker.submit(["other"])
        release(gated)
        assert await asyncio.gather(first, good, other) == [["FIRST"], ["GOOD"], ["OTHER"]]
        with pytest.raises(FailedItem) as failed:
            await bad
        assert failed.value.position == 1
        assert isinstance(failed.value.__cause__, kind)
        assert await worker.submit(["again"]) == ["AGAIN"]
        worker.close(TIMEOUT)

    asyncio.run(run())


def test_a_full_queue_refuses_requests(gated):
    async def run() -> None:
        worker = batcher(gated, max_queue=2)
        accepted = [await busy(gated, worker), worker.submit(["a"]), worker.submit(["b"])]
        with pytest.raises(QueueFull, match=r"queue of model is full: 2 requests.*again later"):
            worker.submit(["c"])
        release(gated)
        assert await asyncio.gather(*accepted) == [["FIRST"], ["A"], ["B"]]
        worker.close(TIMEOUT)

    asyncio.run(run())


def test_a_cancelled_request_frees_its_place_and_is_not_computed(gated):
    async def run() -> None:
        worker = batcher(gated, max_queue=1)
        first = await busy(gated, worker)
        gone = worker.submit(["gone"])
        gone.cancel()
        await asyncio.sleep(0)
        assert worker.waiting == 0
        stays = worker.submit(["stays"])
        release(gated)
        assert (await first, await stays) == (["FIRST"], ["STAYS"])
        assert gated.batches == [["first"], ["stays"]]
        worker.close(TIMEOUT)

    asyncio.run(run())


def test_cancelling_a_request_removes_its_remaining_items(gated):
    async def run() -> None:
        worker = batcher(gated)
        large = worker.submit(["item-one"] * 50)
        assert await asyncio.to_thread(gated.started.acquire, timeout=TIMEOUT)
        large.cancel()
        await asyncio.sleep(0)
        release(gated)
        assert await worker.submit(["next"]) == ["NEXT"]
        assert gated.batches == [["item-one"], ["next"]]
        worker.close(TIMEOUT)

    asyncio.run(run())


def test_closing_finishes_accepted_requests_and_refuses_new_ones(gated):
    async def run() -> None:
        worker = batcher(gated)
        accepted = [await busy(gated, worker), worker.submit(["a"]), worker.submit(["b"])]
        closing = asyncio.ensure_future(asyncio.to_thread(worker.close, TIMEOUT))
        await until(worker, lambda: worker._closing)
        with pytest.raises(Stopping, match="is stopping"):
            worker.submit(["late"])
        assert not closing.done()
        release(gated)
        assert await asyncio.gather(*accepted) == [["FIRST"], ["A"], ["B"]]
        await closing

    asyncio.run(run())


def test_a_worker_without_requests_starts_no_thread():
    before = threading.enumerate()
    batcher(lambda items: list(items)).close()
    Interleaver("model").close()
    assert set(threading.enumerate()) <= set(before)


def test_a_closed_event_loop_does_not_stop_the_thread(gated):
    worker = batcher(gated)

    async def abandon() -> None:
        await busy(gated, worker)

    asyncio.run(abandon())
    release(gated)

    async def submit_again() -> list[str]:
        return await worker.submit(["later"])

    assert asyncio.run(submit_again()) == ["LATER"]
    worker.close(TIMEOUT)


def test_on_batch_gets_the_number_of_items():
    sizes: list[int] = []

    async def run() -> None:
        worker = batcher(lambda items: list(items), on_batch=sizes.append)
        await worker.submit(["a", "b", "c"])
        worker.close(TIMEOUT)

    asyncio.run(run())
    assert sizes == [3]


# Long items.


def test_short_items_are_computed_in_the_pauses_of_a_long_one(gated):
    async def run() -> None:
        worker = batcher(gated, short=3)
        long = worker.submit(["abcdefghijklmno"])
        assert await asyncio.to_thread(gated.started.acquire, timeout=TIMEOUT)  # two windows fill the first batch
        short = [worker.submit([text]) for text in ("one", "two")]
        release(gated)
        assert await asyncio.gather(long, *short) == [["ABCDEFGHIJKLMNO"], ["ONE"], ["TWO"]]
        assert gated.batches == [["abcde", "fghij"], ["one", "two"], ["klmno"]]
        worker.close(TIMEOUT)

    asyncio.run(run())


def test_a_stream_of_short_items_does_not_stop_a_long_one():
    computed: list[str] = []
    enough = threading.Event()

    async def run() -> None:
        worker = batcher(lambda items: computed.extend(items) or [item.upper() for item in items], short=3, turn=5)

        async def stream() -> None:
            while not enough.is_set():
                await worker.submit(["abc"])

        streams = [asyncio.ensure_future(stream()) for _ in range(8)]
        await worker.submit(["abc"])  # behind those of the streams
        assert await asyncio.wait_for(worker.submit(["long" * 50]), TIMEOUT) == ["LONG" * 50]
        enough.set()
        await asyncio.gather(*streams)
        worker.close(TIMEOUT)

    asyncio.run(run())
    windows = [i for i, item in enumerate(computed) if item != "abc"]
    assert len(windows) == 40
    most = max(later - earlier for earlier, later in pairwise(windows))
    assert most <= 10  # one batch of short items between two windows, and one that began before


def test_long_items_fill_whole_batches_unless_short_ones_arrive(gated, monkeypatch):
    monkeypatch.setattr("headway.ui.http.batching.QUIET_SECONDS", 3600.0)

    async def run() -> None:
        release(gated)
        worker = batcher(gated, short=3, budget=20, turn=5)
        worker._last_short = -1e9
        await worker.submit(["abcdefghijklmnopqrst"])
        await worker.submit(["abc"])
        await worker.submit(["abcdefghij"])
        worker.close(TIMEOUT)

    asyncio.run(run())
    assert gated.batches == [["abcde", "fghij", "klmno", "pqrst"], ["abc"], ["abcde"], ["fghij"]]


@pytest.mark.parametrize("length", [2, 20])
def test_clients_take_turns_however_many_requests_they_send(gated, length):
    async def run() -> None:
        worker = batcher(gated, short=5, budget=length, turn=length)
        first = await busy(gated, worker)
        with worker._changed:  # so that none is divided before all are in the queue
            many = [worker.submit([str(i) * length], "many") for i in range(6)]
            few = worker.submit(["f" * length], "few")
        await until(worker, lambda: not worker._second_has_work)
        release(gated)
        await few
        computed = [window[0] for batch in gated.batches[1:] for window in batch]
        assert computed.index("f") == 1
        assert [item[0] for item in worker._model.divided][1:3] == ["0", "f"]
        await asyncio.gather(first, *many)
        worker.close(TIMEOUT)

    asyncio.run(run())


def test_a_long_item_that_fails_leaves_the_others_alone(gated):
    async def run() -> None:
        def compute(windows: Sequence[str]) -> list[str]:
            if "broke" in windows:
                raise ZeroDivisionError("broke")
            return gated(windows)

        worker = batcher(compute, short=4)
        release(gated)
        fine, undividable, broken = (
            worker.submit(["ok", text, "ok"]) for text in ("a fine long text", "undividable", "xxxxxbroke")
        )
        assert await fine == ["OK", "A FINE LONG TEXT", "OK"]
        for request, kind in ((undividable, HeadwayError), (broken, ZeroDivisionError)):
            with pytest.raises(FailedItem) as failed:
                await request
            assert failed.value.position == 1
            assert isinstance(failed.value.__cause__, kind)
        assert worker.waiting == 0
        worker.close(TIMEOUT)

    asyncio.run(run())


def test_cancelling_a_request_removes_its_remaining_windows(gated):
    async def run() -> None:
        worker = batcher(gated, short=4)
        long = worker.submit(["x" * 1000] * 50)
        assert await asyncio.to_thread(gated.started.acquire, timeout=TIMEOUT)
        long.cancel()
        await asyncio.sleep(0)
        release(gated)
        assert await worker.submit(["next"]) == ["NEXT"]
        assert len(gated.batches) <= 3
        assert worker.waiting == 0
        worker.close(TIMEOUT)

    asyncio.run(run())


def test_closing_finishes_long_items(gated):
    async def run() -> None:
        worker = batcher(gated, short=4)
        accepted = worker.submit(["a long text", "another long text"])
        assert await asyncio.to_thread(gated.started.acquire, timeout=TIMEOUT)
        closing = asyncio.ensure_future(asyncio.to_thread(worker.close, TIMEOUT))
        release(gated)
        assert await accepted == ["A LONG TEXT", "ANOTHER LONG TEXT"]
        await closing

    before = threading.enumerate()
    asyncio.run(run())
    assert set(threading.enumerate()) <= set(before)


# Interleaving.


class Steps:
    """Iterators whose steps are recorded in the order of execution."""

    def __init__(self) -> None:
        self.executed: list[str] = []

    def of(self, name: str, count: int) -> Callable[[], Iterator[str | None]]:
        def start() -> Iterator[str | None]:
            for i in range(count):
                self.executed.append(name)
                yield f"{name}{i}" if i % 2 else None

        return start


async def all_of(request: Any) -> list[Any]:
    return [part async for part in request]


def test_generations_run_in_turn():
    async def run() -> None:
        steps, interleaver, held = Steps(), Interleaver("model"), threading.Event()

        def hold() -> Iterator[str]:
            assert held.wait(TIMEOUT)
            yield "held"

        holding = interleaver.submit(hold)
        one, other = interleaver.submit(steps.of("a", 4)), interleaver.submit(steps.of("b", 2))
        held.set()
        assert await all_of(holding) == ["held"]
        assert (await all_of(one), await all_of(other)) == (["a1", "a3"], ["b1"])
        assert "".join(steps.executed) == "ababaa"
        interleaver.close(TIMEOUT)

    asyncio.run(run())


def test_a_closed_generation_ends_at_its_next_step():
    async def run() -> None:
        steps, interleaver = Steps(), Interleaver("model")
        endless = interleaver.submit(steps.of("a", 10**9))
        assert await anext(endless) == "a1"
        endless.close()
        assert await all_of(interleaver.submit(steps.of("b", 2))) == ["b1"]
        interleaver.close(TIMEOUT)  # would never return otherwise
        assert interleaver.waiting == 0

    asyncio.run(run())


def test_generations_beyond_the_limit_wait_and_can_be_cancelled():
    async def run() -> None:
        steps, interleaver = Steps(), Interleaver("model", max_queue=1, max_active=1)
        endless = interleaver.submit(steps.of("a", 10**9))
        assert await anext(endless) == "a1"
        waiting = interleaver.submit(steps.of("b", 2))
        with pytest.raises(QueueFull):
            interleaver.submit(steps.of("c", 2))
        waiting.close()
        last = interleaver.submit(steps.of("d", 2))
        endless.close()
        assert await all_of(last) == ["d1"]
        assert "b" not in steps.executed
        interleaver.close(TIMEOUT)

    asyncio.run(run())


def test_a_client_with_many_generations_takes_turns_with_the_others():
    async def run() -> None:
        steps, interleaver = Steps(), Interleaver("model", max_active=2)
        endless = [interleaver.submit(steps.of(name, 10**9), "many") for name in ("a", "b", "c")]
        assert await anext(endless[0]) == "a1"
        assert await all_of(interleaver.submit(steps.of("d", 4), "few")) == ["d1", "d3"]
        after = steps.executed[steps.executed.index("d") :]
        assert after[:7:2] == ["d"] * 4  # every second step
        assert "c" not in steps.executed
        for request in endless:
            request.close()
        interleaver.close(TIMEOUT)

    asyncio.run(run())


def test_an_error_reaches_only_its_own_request():
    def fails() -> Iterator[str]:
        yield "fine"
        raise HeadwayError("no further")

    async def run() -> None:
        steps, interleaver = Steps(), Interleaver("model")
        failing, other = interleaver.submit(fails), interleaver.submit(steps.of("a", 2))
        assert await anext(failing) == "fine"
        with pytest.raises(HeadwayError, match="no further"):
            await anext(failing)
        assert await all_of(other) == ["a1"]
        interleaver.close(TIMEOUT)
        with pytest.raises(Stopping):
            interleaver.submit(steps.of("late", 2))

    asyncio.run(run())
