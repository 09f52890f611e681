"""The results of training and evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...core.training.training_events import Event
from ..data.report import DataReport
from ..data.rows import LeftOutRow
from ..data.spool import FileList, Selection
from ..intervals import Interval
from .baseline import Baseline


@dataclass(frozen=True)
class Prepared(Event):
    """The data is read, checked and encoded; training starts next."""

    task: str
    base: str
    notes: tuple[str, ...]  # what was inferred and decided, a sentence each
    report: DataReport
    examples: int
    eval_examples: int
    test_examples: int = 0

    def to_json(self) -> dict[str, Any]:
        """As every event; the report is an object in it."""
        return {**super().to_json(), "notes": list(self.notes), "report": self.report.to_json()}


@dataclass(frozen=True)
class RepeatStarted(Event):
    """One of several runs starts (repeats.py)."""

    kind: str  # folds or seeds
    number: int  # from 1; after the last fold comes the model that is trained on all rows
    count: int


@dataclass(frozen=True)
class RepeatFinished(Event):
    """One of several runs is finished."""

    kind: str
    number: int
    count: int
    metrics: dict[str, float]
    steps: int
    seconds: float
    before: bool  # whether it was finished before this process started


@dataclass(frozen=True)
class Trained(Event):
    """The model is trained, and its folder complete."""

    output: Path | None  # None: the run had none; `TaskModel.save` writes one
    metrics: dict[str, float]  # of the kept weights on the test data, else on the evaluation data; may be empty
    intervals: dict[str, tuple[float, float]]  # the bounds of the 95 % confidence interval of metrics
    per_label: list[dict[str, Any]]
    examples: int
    eval_examples: int
    steps: int
    seconds: float  # training time only
    tokens_per_second: float  # training time only
    best_step: int | None
    stopped_early: bool
    nothing_learnt: str | None = None  # why the model seems to have learnt nothing, and what to change
    notes: tuple[str, ...] = ()  # about the metrics, a sentence each
    proposal: str | None = None  # a cheaper way to train that gave a better score
    comparison: Sequence[Mapping[str, Any]] = ()  # as in Evaluation
    folds: Mapping[str, Any] | None = None  # of a cross-validation: the metrics of each fold, mean and spread
    seeds: Mapping[str, Any] | None = None  # of runs with several seeds: the same
    test_examples: int = 0
    metrics_from: str | None = None  # "test", "cross-fitted" or "held-out" (held_out_score.py); None: no metrics
    scored_on: str = ""  # what the metrics are measured on: "500 test rows that chose nothing"


@dataclass(frozen=True)
class Evaluation:
    """The metrics and predictions of a model on data."""

    metrics: dict[str, float]
    per_label: list[dict[str, Any]]
    examples: Sequence[Any]  # for unlabelled text, the numbers of the documents
    predictions: list[Any]
    notes: tuple[str, ...]
    nothing_learnt: str | None = None  # why the model seems to have learnt nothing, and what to change
    seen: str | None = None  # a warning if the model was trained on some of the examples
    left_out: tuple[LeftOutRow, ...] = ()  # rows without a label or a text
    comparison: Sequence[Mapping[str, Any]] = ()  # the model beside baselines: a row of scores each, best first
    intervals: Mapping[str, Interval] = field(default_factory=dict)  # of the metrics that have one
    baseline: Baseline | None = None  # the predictions beside outputs that cost nothing; None: `Task.baseline` tells
    label_intervals: Sequence[Mapping[str, Any]] = ()  # `per_label` with an interval for each metric
    groups: Sequence[int] = ()  # of `examples`: equal numbers belong together; empty: not known
    number: int | None = None  # of examples, if `examples` and `predictions` are a random sample of them

    @property
    def num_examples(self) -> int:
        """The number of examples that the metrics are of."""
        return len(self.examples) if self.number is None else self.number

    def in_memory(self) -> "Evaluation":
        """A copy that needs no file of the run: those with many examples are deleted at its end."""
        return replace(self, examples=list(self.examples)) if isinstance(self.examples, Selection | FileList) else self

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """The lower and the upper bound of the 95 % confidence interval of each metric that has one."""
        return {name: (one.low, one.high) for name, one in self.intervals.items()}

    def to_json(self) -> dict[str, Any]:
        """Metrics, counts and notes, without the examples."""
        counts = {"examples": self.num_examples, "left_out": len(self.left_out)}
        return {
            "metrics": self.metrics,
            "intervals": self.bounds,
            **counts,
            "per_label": self.per_label,
            "comparison": list(self.comparison),
            "nothing_learnt": self.nothing_learnt,
            "seen": self.seen,
            "notes": list(self.notes),
        }
