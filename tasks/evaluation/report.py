"""What an evaluation report contains, as data: ui/report_page.py draws it, and `to_json` is the same for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..base.report_parts import ReportPart, rows_as_json
from ..intervals import Interval
from .example_lists import ConfusionSummary, ListedRow
from .likely_errors import SuspectLabels
from .near_duplicates import NearDuplicate
from .slices import Slice


@dataclass(frozen=True)
class ReportOptions:
    """What a report shows beside the metrics.

    Args:
        slices: columns of the data whose values divide it into parts with separate metrics.
        reference: the training data, in which near duplicates of the test rows are searched; None: no search.
    """

    slices: Sequence[str] = ()
    reference: Any = None


@dataclass(frozen=True)
class RunFacts:
    """Speed and memory of an evaluation."""

    seconds: float  # of reading, predicting and counting
    examples_per_second: float
    tokens_per_second: float
    peak_memory: int | None  # bytes of this process; None where the system does not say
    peak_gpu_memory: int | None
    device: str

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        return dict(vars(self))


@dataclass(frozen=True)
class EvaluationReport:
    """Everything that an evaluation has found; lists of rows are examples, not all rows."""

    model: str
    task: str
    title: str  # of the task
    data: str
    examples: int
    unit: str  # of examples: "rows" or "sequences"
    left_out: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval]
    notes: Sequence[str]
    warnings: Sequence[str]
    per_label: Sequence[Mapping[str, Any]]  # cells are texts, numbers or intervals
    confusion: ConfusionSummary | None
    parts: Sequence[ReportPart]  # of the task, and risk and coverage
    slice_metric: str
    slices: Sequence[Slice]
    mistakes: int | None  # None: the task does not say which predictions are wrong
    worst: Sequence[ListedRow]
    confident: Sequence[ListedRow]
    label_errors: SuspectLabels | None  # None: the task has no labels that are checked
    reading: Sequence[ReportPart]  # how long the texts are, and what was not read
    near_duplicates: int | None  # None: no training data was given
    duplicates: Sequence[NearDuplicate]
    comparison: Sequence[Mapping[str, Any]]
    run: RunFacts

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        metrics = [{"metric": name, "value": value, **self._bounds(name)} for name, value in self.metrics.items()]
        plain = ("model", "task", "data", "examples", "unit", "left_out")
        return {
            **{name: getattr(self, name) for name in plain},
            "metrics": metrics,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "per_label": rows_as_json(self.per_label),
            "confusion": self.confusion and self.confusion.to_json(),
            "parts": [one.to_json() for one in self.parts],
            "slice_metric": self.slice_metric,
            "slices": [one.to_json() for one in self.slices],
            "mistakes": self.mistakes,
            "worst_mistakes": [one.to_json() for one in self.worst],
            "most_confident_mistakes": [one.to_json() for one in self.confident],
            "label_errors": self.label_errors and self.label_errors.to_json(),
            "reading": [one.to_json() for one in self.reading],
            "near_duplicates": self.near_duplicates,
            "duplicates": [one.to_json() for one in self.duplicates],
            "comparison": list(self.comparison),
            "run": self.run.to_json(),
        }

    def _bounds(self, name: str) -> dict[str, float]:
        one = self.intervals.get(name)
        return {} if one is None else {"low": one.low, "high": one.high}
