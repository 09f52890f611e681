"""Requests share batches, fail alone, leave when nobody waits, and are finished at the end; texts take turns."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from headway.core.errors import HeadwayError
from headway.ui.http.batching import Batcher, FailedItem, QueueFull, Stopping
from headway.ui.http.interleaving import Turns


class Gated:
    """Work that waits for a word before each batch, and remembers what it was asked."""

    def __init__(self, *, open: bool = False) -> None:
        self.batches: list[list[str]] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(10**6 if open else 0)

    def __call__(self, items: Sequence[str]) -> list[str]:
        self.batches.append(list(items))
        self.begun.release()
        assert self.go.acquire(timeout=10)
        if "bad" in items:
            raise HeadwayError("bad is bad")
        if "broken" in items:
            raise ZeroDivisionError("broken")
        return [item.upper() for item in items]


@pytest.fixture
def gated() -> Gated:
    return Gated()


def batcher(work: Callable[[Sequence[str]], list[str]], **options: Any) -> Batcher[str, str]:
    return Batcher("model", work, len, **{"budget": 10, **options})


async def busy(work: Gated, made: Batcher[str, str]) -> "asyncio.Future[list[str]]":
    """A request that is being computed, so that all others wait."""
    future = made.submit(["first"])
    assert await asyncio.to_thread(work.begun.acquire, timeout=10)
    return future


def opened(work: Gated) -> None:
    work.go.release(1000)


def test_what_arrives_while_a_batch_is_computed_is_the_next_batch(gated):
    async def run() -> None:
        made = batcher(gated)
        first = await busy(gated, made)
        others = [made.submit([text]) for text in ("a", "bb", "ccc")]
        assert made.waiting == 3
        opened(gated)
        assert await asyncio.gather(first, *others) == [["FIRST"], ["A"], ["BB"], ["CCC"]]
        assert gated.batches == [["first"], ["a", "bb", "ccc"]]
        assert made.waiting == 0
        made.close(10)

    asyncio.run(run())


def test_nobody_waits_for_company(gated):
    async def run() -> None:
        opened(gated)
        made = batcher(gated)
        assert await asyncio.wait_for(made.submit(["alone"]), 10) == ["ALONE"]
        made.close(10)

    asyncio.run(run())


def test_a_batch_is_filled_to_its_budget_and_what_is_dearer_goes_alone(gated):
    async def run() -> None:
        made = batcher(gated)
        futures = [await busy(gated, made)]
        futures += [made.submit([text]) for text in ("four", "five5", "six", "longer than any", "two")]
        opened(gated)
        await asyncio.gather(*futures)
        assert gated.batches[1:] == [["four", "five5"], ["six"], ["longer than any"], ["two"]]
        made.close(10)

    asyncio.run(run())


def test_a_large_request_does_not_keep_small_ones_waiting(gated):
    async def run() -> None:
        made = batcher(gated)
        first = await busy(gated, made)
        large, small = made.submit(["large"] * 6), made.submit(["small"])
        opened(gated)
        assert await large == ["LARGE"] * 6
        assert await small == ["SMALL"]
        assert (await first, gated.batches[1]) == (["FIRST"], ["large", "small"])
        made.close(10)

    asyncio.run(run())


def test_answers_come_in_the_order_of_their_items():
    async def run() -> None:
        made = batcher(lambda items: [item * 2 for item in items])
        requests = [[f"{i}-{j}" for j in range(i % 7 + 1)] for i in range(50)]
        answers = await asyncio.gather(*(made.submit(items) for items in requests))
        assert answers == [[item * 2 for item in items] for items in requests]
        made.close(10)

    asyncio.run(run())


@pytest.mark.parametrize(("item", "kind"), [("bad", HeadwayError), ("broken", ZeroDivisionError)])
def test_one_bad_item_fails_its_own_request_only(gated, item, kind):
    async def run() -> None:
        made = batcher(gated, budget=100)
        first = await busy(gated, made)
        good, bad, other = made.submit(["good"]), made.submit(["fine", item]), made.submit(["other"])
        opened(gated)
        assert await asyncio.gather(first, good, other) == [["FIRST"], ["GOOD"], ["OTHER"]]
        with pytest.raises(FailedItem) as failed:
            await bad
        assert failed.value.position == 1
        assert isinstance(failed.value.__cause__, kind)
        assert await made.submit(["again"]) == ["AGAIN"]
        made.close(10)

    asyncio.run(run())


def test_a_full_queue_refuses_at_once(gated):
    async def run() -> None:
        made = batcher(gated, most_waiting=2)
        taken = [await busy(gated, made), made.submit(["a"]), made.submit(["b"])]
        with pytest.raises(QueueFull, match=r"2 requests are waiting for model.*again in a moment"):
            made.submit(["c"])
        opened(gated)
        assert await asyncio.gather(*taken) == [["FIRST"], ["A"], ["B"]]
        made.close(10)

    asyncio.run(run())


def test_whoever_leaves_frees_a_place_and_is_never_computed(gated):
    async def run() -> None:
        made = batcher(gated, most_waiting=1)
        first = await busy(gated, made)
        gone = made.submit(["gone"])
        gone.cancel()
        await asyncio.sleep(0)
        assert made.waiting == 0
        stays = made.submit(["stays"])
        opened(gated)
        assert (await first, await stays) == (["FIRST"], ["STAYS"])
        assert gated.batches == [["first"], ["stays"]]
        made.close(10)

    asyncio.run(run())


def test_whoever_leaves_in_the_middle_takes_the_rest_along(gated):
    async def run() -> None:
        made = batcher(gated)
        large = made.submit(["item-one"] * 50)
        assert await asyncio.to_thread(gated.begun.acquire, timeout=10)
        large.cancel()
        await asyncio.sleep(0)
        opened(gated)
        assert await made.submit(["next"]) == ["NEXT"]
        assert gated.batches == [["item-one"], ["next"]]
        made.close(10)

    asyncio.run(run())


def test_closing_finishes_what_was_taken_and_refuses_the_rest(gated):
    async def run() -> None:
        made = batcher(gated)
        taken = [await busy(gated, made), made.submit(["a"]), made.submit(["b"])]
        closing = asyncio.ensure_future(asyncio.to_thread(made.close, 10))
        await asyncio.sleep(0.05)
        with pytest.raises(Stopping, match="is stopping"):
            made.submit(["late"])
        assert not closing.done()
        opened(gated)
        assert await asyncio.gather(*taken) == [["FIRST"], ["A"], ["B"]]
        await closing

    asyncio.run(run())


def test_a_worker_that_was_never_asked_closes_without_a_thread():
    before = threading.active_count()
    batcher(lambda items: list(items)).close()
    Turns("model").close()
    assert threading.active_count() == before


def test_an_event_loop_that_has_ended_does_not_end_the_thread(gated):
    made = batcher(gated)

    async def leave() -> None:
        await busy(gated, made)

    asyncio.run(leave())
    opened(gated)

    async def come() -> list[str]:
        return await made.submit(["later"])

    assert asyncio.run(come()) == ["LATER"]
    made.close(10)


def test_batches_are_counted():
    sizes: list[int] = []

    async def run() -> None:
        made = batcher(lambda items: list(items), computed=sizes.append)
        await made.submit(["a", "b", "c"])
        made.close(10)

    asyncio.run(run())
    assert sizes == [3]


# -- turns


class Steps:
    """Iterators whose steps are written down in the order in which they are made."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def of(self, name: str, count: int) -> Callable[[], Iterator[str | None]]:
        def begin() -> Iterator[str | None]:
            for i in range(count):
                self.made.append(name)
                yield f"{name}{i}" if i % 2 else None

        return begin


async def all_of(writing: Any) -> list[Any]:
    return [part async for part in writing]


def test_texts_are_written_in_turn():
    async def run() -> None:
        steps, turns, held = Steps(), Turns("model"), threading.Event()

        def hold() -> Iterator[str]:
            assert held.wait(10)
            yield "held"

        holding = turns.submit(hold)
        one, other = turns.submit(steps.of("a", 4)), turns.submit(steps.of("b", 2))
        held.set()
        assert await all_of(holding) == ["held"]
        assert (await all_of(one), await all_of(other)) == (["a1", "a3"], ["b1"])
        assert "".join(steps.made) == "ababaa"
        turns.close(10)

    asyncio.run(run())


def test_a_text_that_nobody_waits_for_ends_at_its_next_step():
    async def run() -> None:
        steps, turns = Steps(), Turns("model")
        endless = turns.submit(steps.of("a", 10**9))
        assert await anext(endless) == "a1"
        endless.close()
        assert await all_of(turns.submit(steps.of("b", 2))) == ["b1"]
        turns.close(10)  # which would never end otherwise
        assert turns.waiting == 0

    asyncio.run(run())


def test_texts_beyond_those_under_way_wait_and_may_leave():
    async def run() -> None:
        steps, turns = Steps(), Turns("model", most_waiting=1, at_once=1)
        endless = turns.submit(steps.of("a", 10**9))
        assert await anext(endless) == "a1"
        waiting = turns.submit(steps.of("b", 2))
        with pytest.raises(QueueFull):
            turns.submit(steps.of("c", 2))
        waiting.close()
        last = turns.submit(steps.of("d", 2))
        endless.close()
        assert await all_of(last) == ["d1"]
        assert "b" not in steps.made
        turns.close(10)

    asyncio.run(run())


def test_an_error_reaches_whoever_asked_and_nobody_else():
    def fails() -> Iterator[str]:
        yield "fine"
        raise HeadwayError("no further")

    async def run() -> None:
        steps, turns = Steps(), Turns("model")
        failing, other = turns.submit(fails), turns.submit(steps.of("a", 2))
        assert await anext(failing) == "fine"
        with pytest.raises(HeadwayError, match="no further"):
            await anext(failing)
        assert await all_of(other) == ["a1"]
        turns.close(10)
        with pytest.raises(Stopping):
            turns.submit(steps.of("late", 2))

    asyncio.run(run())
