"""What training and evaluation return."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.training.training_events import Event
from ..data.report import DataReport


@dataclass(frozen=True)
class Prepared(Event):
    """The data is read, checked and turned into tokens; training comes next."""

    task: str
    base: str
    notes: tuple[str, ...]  # what was guessed and decided, a sentence each
    report: DataReport
    examples: int
    eval_examples: int

    def to_json(self) -> dict[str, Any]:
        """As every event; the report is an object in it."""
        return {**super().to_json(), "notes": list(self.notes), "report": self.report.to_json()}


@dataclass(frozen=True)
class Trained(Event):
    """The model folder is whole on the disk."""

    output: Path
    metrics: dict[str, float]  # on the evaluation data, of the weights that were kept; empty without such data
    per_label: list[dict[str, Any]]
    examples: int
    eval_examples: int
    steps: int
    seconds: float  # training alone
    tokens_per_second: float  # useful ones, training alone
    best_step: int | None
    stopped_early: bool


@dataclass(frozen=True)
class Evaluation:
    """How a model does on labelled data."""

    metrics: dict[str, float]
    per_label: list[dict[str, Any]]
    examples: Sequence[Any]  # numbers that stand for the documents where a task is of texts without labels
    predictions: list[Any]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Figures and counts, without the examples themselves."""
        return {"metrics": self.metrics, "examples": len(self.examples), "per_label": self.per_label}
