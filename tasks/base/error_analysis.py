"""Where a model is wrong on labelled data: which labels it takes for which, and its worst mistakes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .predictions import Misprediction
from .task import Task

MOST_LABELS = 16  # of a matrix that a person can still read
MOST_MISTAKES = 20


@dataclass(frozen=True)
class Confusion:
    """How often each label was taken for which."""

    labels: tuple[str | None, ...]  # the commonest first; None: all others together
    counts: tuple[tuple[int, ...], ...]  # counts[right][predicted]

    def to_json(self) -> dict[str, Any]:
        """The matrix as plain JSON types."""
        return {"labels": list(self.labels), "counts": [list(row) for row in self.counts]}


def confusion_of(
    task: Task, predictions: Sequence[Any], examples: Sequence[Any], most: int = MOST_LABELS
) -> Confusion | None:
    """The confusion matrix; None where the task does not give each thing one label."""
    pairs = task.confused(predictions, examples)
    if not pairs:
        return None
    right = Counter(label for label, _ in pairs)
    predicted = Counter(label for _, label in pairs)
    ranked = sorted(right | predicted, key=lambda label: (-right[label], -predicted[label], label))
    labels = (*ranked[: most - 1], None) if len(ranked) > most else tuple(ranked)
    place = {label: labels.index(label) if label in labels else len(labels) - 1 for label in ranked}
    cells = Counter((place[one], place[other]) for one, other in pairs)
    numbers = range(len(labels))
    return Confusion(labels, tuple(tuple(cells[row, column] for column in numbers) for row in numbers))


def worst_mispredictions(
    task: Task, predictions: Sequence[Any], examples: Sequence[Any], most: int = MOST_MISTAKES
) -> list[Misprediction]:
    """The examples with the most wrong answers, the worst first."""
    judged = (task.misprediction(one, example) for one, example in zip(predictions, examples, strict=True))
    return sorted((one for one in judged if one is not None), key=lambda one: -one.size)[:most]


def account_of(task: Task, predictions: Sequence[Any], examples: Sequence[Any]) -> dict[str, Any]:
    """Both as plain JSON types: `confusion` (null where there is none) and `mistakes`."""
    confusion = confusion_of(task, predictions, examples)
    mistakes = worst_mispredictions(task, predictions, examples)
    return {"confusion": confusion and confusion.to_json(), "mistakes": [asdict(one) for one in mistakes]}
