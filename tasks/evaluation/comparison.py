"""The result of a comparison of models: metrics, differences, slices and the rows on which the models differ."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..data.rows import LeftOutRow
from ..intervals import Interval
from ..tallies import LOWER_IS_BETTER
from .differing_rows import DifferingRow

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class ComparedModel:
    """One side: its metrics with their intervals, its size and its speed."""

    name: str
    metrics: Mapping[str, Interval]
    parameters: int
    megabytes: float  # of the parameters in fp32
    rows_per_second: float


@dataclass(frozen=True)
class Difference:
    """A metric of one model minus that of the first one.

    Args:
        model: the name of the model.
        metric: the name of the metric.
        value: the difference with its 95 % interval.
        p: the chance of a difference at least this large if the models do not differ, corrected if there are several
            models; None if the metric cannot be tested.
        test: "McNemar" or "permutation"; empty without a test.
    """

    model: str
    metric: str
    value: Interval
    p: float | None
    test: str

    @property
    def better(self) -> bool:
        """Whether the model has the better value, whatever the test says."""
        return self.value.value < 0 if self.metric in LOWER_IS_BETTER else self.value.value > 0

    @property
    def significant(self) -> bool:
        """Whether the test, or else the interval, excludes that the models do not differ."""
        if self.p is not None:
            return self.p < SIGNIFICANT
        return not self.value.low <= 0 <= self.value.high


@dataclass(frozen=True)
class SliceDifference:
    """The main metric of a slice: of the first model and of another one.

    Args:
        model: the name of the other model.
        slice: "length: up to 31 characters".
        rows: number of rows in it.
        first: metric of the first model.
        other: metric of the other model.
        p: as in Difference, corrected for the number of slices.
        turns: whether the order of the models is the other way round than on all rows.
    """

    model: str
    slice: str
    rows: int
    first: float
    other: float
    p: float | None
    turns: bool


@dataclass(frozen=True)
class Comparison:
    """Models beside each other on the same rows.

    Args:
        source: of the rows.
        num_rows: that all models read.
        metric: the main one.
        models: the first one is the one that the others are compared with.
        differences: of every other model and every metric.
        slices: of every other model, those where the order turns first, then by p.
        rows: on which the models differ, the largest differences first.
        left_out: rows that are not compared, with the reason.
        notes: a sentence each.
    """

    source: str
    num_rows: int
    metric: str
    models: tuple[ComparedModel, ...]
    differences: tuple[Difference, ...]
    slices: tuple[SliceDifference, ...]
    rows: tuple[DifferingRow, ...]
    left_out: tuple[LeftOutRow, ...]
    notes: tuple[str, ...]

    @property
    def verdict(self) -> tuple[str, ...]:
        """What the main metric says about each other model, a sentence each."""
        return tuple(self._verdict(one) for one in self.differences if one.metric == self.metric)

    def _verdict(self, found: Difference) -> str:
        first, metric = self.models[0], self.metric.replace("_", " ")
        scores = {one.name: one.metrics[self.metric].value for one in self.models}
        better, worse = (found.model, first.name) if found.better else (first.name, found.model)
        p = "" if found.p is None else f", p {format_p(found.p)}"
        facts = (
            f"the difference of {metric} has the 95 % interval {found.value.low:+.4f} to {found.value.high:+.4f}{p}"
        )
        if found.significant:
            return f"{better} is better than {worse}: {scores[better]:.4f} against {scores[worse]:.4f}; {facts}."
        return (
            f"No difference between {found.model} and {first.name} is shown ({scores[found.model]:.4f} and "
            f"{scores[first.name]:.4f}): {facts}."
        )

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON types."""
        models = [
            {**asdict(one), "metrics": {name: value.to_json() for name, value in one.metrics.items()}}
            for one in self.models
        ]
        return {
            "source": self.source,
            "rows": self.num_rows,
            "metric": self.metric,
            "models": models,
            "differences": [asdict(one) | {"significant": one.significant} for one in self.differences],
            "verdict": list(self.verdict),
            "slices": [asdict(one) for one in self.slices],
            "differing_rows": [one.to_json() for one in self.rows],
            "left_out": [asdict(one) for one in self.left_out],
            "notes": list(self.notes),
        }


def format_p(p: float) -> str:
    """A p with as many digits as matter."""
    return "below 0.001" if p < 0.001 else f"{p:.3f}"
