"""Labels of an evaluated file that are probably wrong, collected part by part in bounded memory.

A row is suspect if the model is confident of another label, as confident learning defines it: the probability reaches
the mean that the model gives this label on the rows that have it (Northcutt et al. 2021, equations 1 and 2,
https://arxiv.org/abs/1911.00068). The model must not be trained on the rows.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from ..base.label_checks import LabelsToCheck
from ..base.task import Task
from .example_lists import short_place, shorten

MAX_KEPT = 2000  # candidates; the suspects among them are known when all rows are
MAX_LISTED = 25


@dataclass(frozen=True)
class SuspectLabel:
    """A label that is probably wrong; `item` is what it is of, one of several labels or a word, else empty."""

    where: str
    text: str
    item: str
    given: str
    likely: str
    given_probability: float
    likely_probability: float

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        return dict(vars(self))


@dataclass(frozen=True)
class SuspectLabels:
    """The labels that are probably wrong.

    Args:
        checked: number of labels with a prediction.
        found: number of suspects; if there are very many, of the most suspicious ones.
        rows: the most suspicious ones.
    """

    checked: int
    found: int
    rows: Sequence[SuspectLabel]

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        return {"checked": self.checked, "found": self.found, "rows": [one.to_json() for one in self.rows]}


class LikelyErrors:
    """Collects labels that differ from the most probable one."""

    def __init__(self) -> None:
        self._sums = defaultdict[tuple[str, str], float](float)  # of (one of several labels, class)
        self._counts = Counter[tuple[str, str]]()
        # (probability of the given label, number, the item that has its own thresholds, the label)
        self._heap: list[tuple[float, int, str, SuspectLabel]] = []
        self._number = count()

    def add(self, task: Task[Any, Any], predictions: Sequence[Any], examples: Sequence[Any]) -> None:
        """Adds examples with their predictions; numbers are not checked."""
        for labels in task.labels_to_check(examples):
            if labels.classes:
                self._add_part(labels, task.predicted_labels(labels, predictions), examples)

    def _add_part(self, labels: LabelsToCheck, predicted: np.ndarray, examples: Sequence[Any]) -> None:
        kind, rows = labels.label or "", np.arange(len(predicted))
        known = np.isfinite(predicted[rows, labels.given])  # not a label that the model does not have
        found = np.nan_to_num(predicted)
        own = found[rows, labels.given]
        for index, name in enumerate(labels.classes):
            there = known & (labels.given == index)
            self._sums[kind, name] += float(own[there].sum())
            self._counts[kind, name] += int(there.sum())
        likely = found.argmax(1)
        for row in np.flatnonzero(known & (likely != labels.given)).tolist():
            if len(self._heap) == MAX_KEPT and -own[row] <= self._heap[0][0]:
                continue
            example = examples[labels.examples[row]]
            suspect = SuspectLabel(
                short_place(example.where),
                shorten(" / ".join(example.texts)),
                labels.name_of(row, example),
                labels.label_of(row),
                labels.classes[likely[row]],
                float(own[row]),
                float(found[row, likely[row]]),
            )
            push = heapq.heappush if len(self._heap) < MAX_KEPT else heapq.heappushpop
            push(self._heap, (-float(own[row]), -next(self._number), kind, suspect))

    def summary(self) -> SuspectLabels | None:
        """The suspects, those whose label has the lowest probability first; None: the task has no labels to check."""
        if not self._counts.total():
            return None
        ordered = sorted(self._heap, reverse=True)
        suspects = [one for _, _, kind, one in ordered if one.likely_probability >= self._threshold(kind, one.likely)]
        return SuspectLabels(self._counts.total(), len(suspects), suspects[:MAX_LISTED])

    def _threshold(self, kind: str, label: str) -> float:
        """The mean probability of a label over the rows that have it."""
        number = self._counts[kind, label]
        return self._sums[kind, label] / number if number else float("inf")
