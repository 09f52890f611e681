"""What the runs of a learning curve show: a table, a chart, fitted power laws, and a sentence of advice."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..base.report_parts import Chart, ReportTable, Series
from ..intervals import LEVEL, Interval
from .options import METHODS, ZERO_SHOT
from .power_law import PowerLaw, fit_power_law
from .runs import FIRST_DRAWS, FinishedRun


@dataclass(frozen=True)
class Point:
    """A method with one number of rows.

    Args:
        size: number of labelled rows.
        mean: of the score over the draws.
        low, high: bounds of the 95 % confidence interval of the mean (Student's t over the draws); None: there are
            fewer than FIRST_DRAWS.
        draws: number of them.
        seconds: that a run took, on average.
    """

    size: int
    mean: float
    low: float | None
    high: float | None
    draws: int
    seconds: float

    @property
    def interval(self) -> Interval | float:
        """The mean with its bounds, if there are any."""
        return self.mean if self.low is None or self.high is None else Interval(self.mean, self.low, self.high)


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Scores of several methods in the number of labelled rows.

    Args:
        metric: of the scores.
        points: of each method, by size.
        laws: of each method; None: too few sizes.
        baseline: the most common label, and the score of always answering it.
        test: number of test rows.
        advice: a sentence.
        notes: what was inferred, decided and left out, a sentence each.
        runs: all results.
        source: where the rows are from.
    """

    metric: str
    points: Mapping[str, Sequence[Point]]
    laws: Mapping[str, PowerLaw | None]
    baseline: tuple[str, float]
    test: int
    advice: str
    notes: tuple[str, ...]
    runs: Sequence[FinishedRun]
    source: str

    @property
    def metric_title(self) -> str:
        """The metric in words."""
        return self.metric.replace("_", " ")

    @cached_property
    def table(self) -> list[dict[str, Any]]:
        """A row for each method and size."""
        return [
            {
                "method": method,
                "rows": one.size,
                self.metric_title: one.interval,
                "draws": one.draws,
                "minutes per run": one.seconds / 60,
            }
            for method, points in self.points.items()
            for one in points
        ]

    @cached_property
    def methods(self) -> list[dict[str, Any]]:
        """A row for each method: its cost, and what the power law says about more rows."""
        rows = []
        for method, points in self.points.items():
            law, last = self.laws[method], largest(points)
            seconds = sum(one.seconds for one in self.runs if one.run.method == method)
            row: dict[str, Any] = {"method": method, "minutes in total": seconds / 60, "largest size": last.size}
            row[f"{self.metric_title} there"] = last.mean
            row["gain with twice the rows"] = None if law is None else law.gain(last.size, 2 * last.size)
            row["limit"] = None if law is None else law.limit
            row["exponent"] = None if law is None else law.exponent
            rows.append(row)
        return rows

    @property
    def parts(self) -> list[Chart | ReportTable]:
        """The chart, then the tables, as those of a report."""
        law = "score = limit - amount / rows^exponent, fitted to all draws; medians of the posterior distribution"
        scores = f"Mean {self.metric_title} of the draws on {self.test:,} test rows with 95 % intervals (Student's t)."
        return [
            self.chart,
            ReportTable("Methods", self.methods, f"Power law: {law} with 95 % intervals."),
            ReportTable("Scores", self.table, scores),
        ]

    @property
    def chart(self) -> Chart:
        """Score against rows; the expected scores of the power law are dashed, up to twice the largest size."""
        series, levels = [], [(f"always {self.baseline[0]}", self.baseline[1])]
        for method, points in self.points.items():
            if method == ZERO_SHOT:
                levels.insert(0, (f"{method} (0 rows)", points[0].mean))
                continue
            x, y = (tuple(float(getattr(one, name)) for one in points) for name in ("size", "mean"))
            low, high = (
                tuple(math.nan if (bound := getattr(one, name)) is None else bound for one in points)
                for name in ("low", "high")
            )
            series.append(Series(method, x, y, bounds=(low, high), expected=self._expected(method, x)))
        note = (
            "Bars: 95 % intervals of the mean over the draws. Dashed: the fitted power law, up to twice the rows. "
            "Horizontal: scores that need no labelled rows."
        )
        axes = ("labelled rows", self.metric_title)
        return Chart("Score by labelled rows", axes, tuple(series), log=True, levels=tuple(levels), note=note)

    def _expected(self, method: str, x: Sequence[float]) -> tuple[tuple[float, ...], ...]:
        law = self.laws[method]
        if law is None:
            return ()
        sizes = tuple(np.geomspace(min(x), 2 * max(x), 40).tolist())
        return sizes, tuple(law.score(size).value for size in sizes)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON types."""
        return {
            "metric": self.metric,
            "source": self.source,
            "test_rows": self.test,
            "points": {method: [asdict(one) for one in points] for method, points in self.points.items()},
            "methods": [
                {name: cell.to_json() if isinstance(cell, Interval) else cell for name, cell in row.items()}
                for row in self.methods
            ],
            "baseline": {"label": self.baseline[0], "score": self.baseline[1]},
            "advice": self.advice,
            "notes": list(self.notes),
            "runs": [
                {**asdict(one.run), "metrics": dict(one.metrics), "seconds": one.seconds}
                for one in sorted(
                    self.runs, key=lambda one: (METHODS.index(one.run.method), one.run.size, one.run.draw)
                )
            ],
        }


def largest(points: Sequence[Point]) -> Point:
    """That with the largest size, of those with a few draws: there may have been no time for more."""
    enough = min(FIRST_DRAWS, max(one.draws for one in points))
    return max((one for one in points if one.draws >= enough), key=lambda one: one.size)


def summarize(runs: Sequence[FinishedRun], metric: str) -> dict[str, list[Point]]:
    """The points of each method, in the order of METHODS, by size."""
    by_size: dict[tuple[int, int], list[FinishedRun]] = {}
    for one in runs:
        by_size.setdefault((METHODS.index(one.run.method), one.run.size), []).append(one)
    points: dict[str, list[Point]] = {}
    for (place, size), found in sorted(by_size.items()):
        scores = np.array([one.metrics[metric] for one in sorted(found, key=lambda one: one.run.draw)])
        seconds = float(np.mean([one.seconds for one in found]))
        low, high = _bounds(scores)
        points.setdefault(METHODS[place], []).append(
            Point(size, float(scores.mean()), low, high, len(scores), seconds)
        )
    return points


def fit_laws(runs: Sequence[FinishedRun], metric: str, points: Mapping[str, Sequence[Point]]) -> dict[str, Any]:
    """The power law of each method."""
    laws = {}
    for method in points:
        own = [one for one in runs if one.run.method == method]
        sizes, scores = np.array([one.run.size for one in own]), np.array([one.metrics[metric] for one in own])
        laws[method] = None if method == ZERO_SHOT else fit_power_law(sizes, scores)
    return laws


def _bounds(scores: np.ndarray) -> tuple[float | None, float | None]:
    if len(scores) < FIRST_DRAWS:
        return None, None
    from scipy.special import stdtrit  # Student's quantile; importing scipy.stats takes seconds

    half = float(stdtrit(len(scores) - 1, (1 + LEVEL) / 2) * scores.std(ddof=1) / len(scores) ** 0.5)
    return max(0.0, float(scores.mean()) - half), min(1.0, float(scores.mean()) + half)
