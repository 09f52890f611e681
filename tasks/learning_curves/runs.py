"""The runs of a learning curve: their order, the time they may take, and their stored results.

FOLDER/plan.json                      what all runs of the folder have in common
FOLDER/runs/frozen-64-2.json          the result of a finished run: method, rows, draw
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...core.atomic_files import atomic_file, disk_errors, remove_folder
from ...core.errors import HeadwayError
from .options import ZERO_SHOT

FIRST_DRAWS = 3  # of a size, before the next larger size
PLAN, RUNS = "plan.json", "runs"


@dataclass(frozen=True)
class Run:
    """One method on the rows of one draw.

    Args:
        method: one of METHODS.
        size: number of labelled rows; 0: none.
        draw: from 1.
    """

    method: str
    size: int
    draw: int

    @property
    def name(self) -> str:
        """Of the file of its result."""
        return f"{self.method}-{self.size}-{self.draw}.json"


@dataclass(frozen=True)
class FinishedRun:
    """The result of a run.

    Args:
        run: which one.
        metrics: on the test rows.
        seconds: that it took, with opening the model and the test.
        before: whether it was stored by an earlier call.
    """

    run: Run
    metrics: Mapping[str, float]
    seconds: float
    before: bool = False


def plan_runs(methods: Sequence[str], sizes: Sequence[int], seeds: int) -> list[Run]:
    """All runs in their order: small sizes first, each with a few draws before the next one.

    Args:
        methods: of METHODS.
        sizes: ascending.
        seeds: draws of each size.
    """
    draws = [
        (place + max(0, draw - FIRST_DRAWS), size, draw)
        for place, size in enumerate(sizes)
        for draw in range(1, seeds + 1)
    ]
    first = [Run(ZERO_SHOT, 0, 1)] if ZERO_SHOT in methods else []
    others = [method for method in methods if method != ZERO_SHOT]
    return first + [Run(method, size, draw) for _, size, draw in sorted(draws) for method in others]


def estimate_seconds(run: Run, finished: Sequence[FinishedRun]) -> float:
    """How long a run will probably take, from runs of the same method; 0 without such a run.

    It is the mean of the runs of its size. From smaller sizes, the time grows as between the last two of them; from
    one size, with the number of rows.
    """
    seconds: dict[int, list[float]] = {}
    for one in finished:
        if one.run.method == run.method and one.run.size <= run.size:
            seconds.setdefault(one.run.size, []).append(one.seconds)
    if not seconds:
        return 0.0
    means = {size: sum(values) / len(values) for size, values in seconds.items()}
    *others, last = sorted(means)
    if last == run.size:
        return means[last]
    if not others:
        return means[last] * run.size / max(1, last)
    slope = max(0.0, means[last] - means[others[-1]]) / (last - others[-1])
    return means[last] + slope * (run.size - last)


class RunStore:
    """The results of runs in a folder.

    Args:
        folder: of the learning curve.
        plan: what all runs have in common, as plain JSON types.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self.folder, self.plan = folder, json.loads(json.dumps(plan, default=str))

    def open(self, *, resume: bool, overwrite: bool) -> None:
        """Makes the folder, or continues in it.

        Raises:
            HeadwayError: the folder is of something else, or of other data or options, or exists and neither `resume`
                nor `overwrite` is given.
        """
        path = self.folder / PLAN
        if self.folder.exists() and not path.is_file() and any(self.folder.iterdir()):
            raise HeadwayError(f"{self.folder} exists and is no learning curve. Choose another --output.")
        if path.is_file() and not resume and not overwrite:
            raise HeadwayError(
                f"{self.folder} holds a learning curve. Use --resume to continue it, or --overwrite to start again."
            )
        with disk_errors(self.folder):
            if overwrite:
                remove_folder(self.folder)
            if path.is_file():
                self._check(json.loads(path.read_text(encoding="utf-8")))
                return
            (self.folder / RUNS).mkdir(parents=True, exist_ok=True)
            self._write(path, self.plan)

    def _check(self, before: Mapping[str, Any]) -> None:
        different = [name for name, value in self.plan.items() if before.get(name) != value]
        if different:
            raise HeadwayError(
                f"{self.folder} holds runs with other data or options ({', '.join(different)}). Give the same ones to "
                "resume them, or use --overwrite to start again."
            )

    def finished(self) -> dict[Run, FinishedRun]:
        """All stored results."""
        found = {}
        for path in sorted((self.folder / RUNS).glob("*.json")):
            stored = json.loads(path.read_text(encoding="utf-8"))
            run = Run(**stored["run"])
            found[run] = FinishedRun(run, stored["metrics"], stored["seconds"], before=True)
        return found

    def add(self, one: FinishedRun) -> None:
        """Stores a result."""
        content = {"run": asdict(one.run), "metrics": dict(one.metrics), "seconds": one.seconds}
        self._write(self.folder / RUNS / one.run.name, content)

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        with atomic_file(path, overwrite=True) as new:
            new.write_text(json.dumps(content, indent=1), encoding="utf-8")


class OutOfTime(Exception):
    """A run was stopped because its time is over."""


Measure = Callable[[Run, Callable[[], bool]], Mapping[str, float]]  # may raise OutOfTime if the function returns True


def follow_runs(
    planned: Sequence[Run],
    store: RunStore,
    measure: Measure,
    *,
    minutes: float | None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[FinishedRun]:
    """The results of all planned runs that are stored, or that fit into the time.

    Each method first has an equal part of the time. What the quick ones leave is for the others, in the order of the
    runs.

    Args:
        planned: in their order.
        store: which is open.
        measure: the metrics of a run, and whether its time is over.
        minutes: for all runs, those of earlier calls included; None: without limit.
        clock: in seconds.
    """
    finished = store.finished()
    spent: dict[str, float] = {}
    for one in finished.values():
        spent[one.run.method] = spent.get(one.run.method, 0) + one.seconds
    yield from (finished[run] for run in planned if run in finished)
    left = [run for run in planned if run not in finished]
    total = math.inf if minutes is None else 60 * minutes
    share = total / len({run.method for run in planned})
    for of_method in (share, math.inf):
        for run in left:
            own, needed = spent.get(run.method, 0), estimate_seconds(run, list(finished.values()))
            room = min(total - sum(spent.values()), of_method - own)
            if run in finished or room <= 0 or needed > room:
                continue
            start, end = clock(), clock() + total - sum(spent.values())
            try:
                metrics = measure(run, lambda end=end: clock() >= end)
            except OutOfTime:
                return
            one = FinishedRun(run, metrics, clock() - start)
            store.add(one)
            finished[run] = one
            spent[run.method] = own + one.seconds
            yield one
