"""The errors of a model on labelled data: its confusion matrix and its worst mispredictions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .predictions import Misprediction
from .task import Task

MAX_LABELS = 16  # of a readable matrix
MAX_MISPREDICTIONS = 20


@dataclass(frozen=True)
class ConfusionMatrix:
    """How often each label was predicted for each gold label."""

    labels: tuple[str | None, ...]  # the most frequent first; None: all others together
    counts: tuple[tuple[int, ...], ...]  # counts[gold][predicted]

    def to_json(self) -> dict[str, Any]:
        """The matrix as plain JSON types."""
        return {"labels": list(self.labels), "counts": [list(row) for row in self.counts]}


def confusion_matrix(
    task: Task[Any, Any], predictions: Sequence[Any], examples: Sequence[Any], max_labels: int = MAX_LABELS
) -> ConfusionMatrix | None:
    """The confusion matrix; None if the task does not predict one label for each text or word."""
    pairs = task.confused(predictions, examples)
    if not pairs:
        return None
    gold = Counter(label for label, _ in pairs)
    predicted = Counter(label for _, label in pairs)
    ranked = sorted(gold | predicted, key=lambda label: (-gold[label], -predicted[label], label))
    labels = (*ranked[: max_labels - 1], None) if len(ranked) > max_labels else tuple(ranked)
    index = {label: labels.index(label) if label in labels else len(labels) - 1 for label in ranked}
    cells = Counter((index[one], index[other]) for one, other in pairs)
    numbers = range(len(labels))
    return ConfusionMatrix(labels, tuple(tuple(cells[row, column] for column in numbers) for row in numbers))


def worst_mispredictions(
    task: Task[Any, Any], predictions: Sequence[Any], examples: Sequence[Any], most: int = MAX_MISPREDICTIONS
) -> list[Misprediction]:
    """The mispredictions with the largest errors, the worst first."""
    found = (task.misprediction(one, example) for one, example in zip(predictions, examples, strict=True))
    return sorted((one for one in found if one is not None), key=lambda one: -one.error)[:most]


def analyze_errors(task: Task[Any, Any], predictions: Sequence[Any], examples: Sequence[Any]) -> dict[str, Any]:
    """Both as plain JSON types: `confusion` (null without a matrix) and `mistakes`."""
    confusion = confusion_matrix(task, predictions, examples)
    mistakes = worst_mispredictions(task, predictions, examples)
    return {"confusion": confusion and confusion.to_json(), "mistakes": [one.to_json() for one in mistakes]}
