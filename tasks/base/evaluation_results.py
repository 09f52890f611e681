"""The results of an evaluation, of which parts are added one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..data.columns import ColumnMapping
from ..data.features import Features
from ..data.groups import group_hashes
from ..data.rows import Table
from ..intervals import Bootstrap, Interval
from ..tallies import Tally
from .results import Evaluation
from .task import Task

SAMPLE = 10_000  # predictions that are kept of many


@dataclass(frozen=True)
class EvaluatedPart:
    """Some examples with their predictions, as an evaluation computes them.

    Args:
        task: that scores them, with the labels of the data.
        examples: rows, or the documents of sequences of a corpus, by their numbers.
        predictions: one per example or sequence.
        windows_by_example: the features of each.
        table: of the examples; None for a corpus.
        columns: those of the table.
    """

    task: Task[Any, Any]
    examples: Sequence[Any]
    predictions: Sequence[Any]
    windows_by_example: Sequence[list[Features]]
    table: Table | None = None
    columns: ColumnMapping | None = None

    @cached_property
    def tally(self) -> Tally | None:
        """What is counted of each; None if the metrics of the task are no functions of counts."""
        return self.task.tally(self.predictions, self.examples)

    @cached_property
    def groups(self) -> np.ndarray:
        """The hash of the group of each example, or the number of the document of each sequence."""
        if self.table is None:
            return np.asarray(self.examples, dtype=np.uint64)
        return group_hashes(self.examples, self.table, self.columns and self.columns.group)


class Results:
    """The sums of all examples, and their predictions or some of them.

    Beside the predictions that are kept, memory does not grow with the examples. Metrics that depend on all of them
    (`Tally.numbers`: a correlation of ranks, the ranks of texts) are those of a random sample of very many.

    Args:
        task: that scores them. If its metrics are no functions of a tally, all predictions are kept.
        most: number of predictions to keep, a random sample; None: all.
        kept: the positions of the predictions to keep instead, ascending.
        independent: whether each example is a separate group of the intervals.
    """

    def __init__(
        self,
        task: Task[Any, Any],
        most: int | None = None,
        kept: np.ndarray | None = None,
        *,
        independent: bool = False,
    ) -> None:
        self._task = task
        self._most, self._kept = (most, kept) if task.has_tally else (None, None)
        self._independent = independent
        self.number = 0
        self._bootstrap = Bootstrap()
        self._random = np.random.default_rng(0)
        self._keys = np.zeros(0)  # random numbers; the examples with the smallest ones are the sample
        self._sample: list[tuple[Any, Any, int]] = []  # predictions, examples and their groups

    def add(self, part: EvaluatedPart) -> None:
        """Adds examples."""
        if part.tally is not None:
            self._bootstrap.add(part.tally, None if self._independent else part.groups)
        size = len(part.predictions)
        if self._kept is not None:
            first, last = np.searchsorted(self._kept, [self.number, self.number + size])
            self._keep(part, (self._kept[first:last] - self.number).tolist())
        elif self._most is None:
            self._keep(part, range(size))
        else:
            self._draw(part, size, self._most)
        self.number += size

    def _keep(self, part: EvaluatedPart, positions: Sequence[int]) -> None:
        self._sample += [(part.predictions[i], part.examples[i], int(part.groups[i])) for i in positions]

    def _draw(self, part: EvaluatedPart, size: int, most: int) -> None:
        keys = self._random.random(size)
        highest = self._keys.max(initial=0.0) if len(self._keys) == most else 1.0
        self._keep(part, np.flatnonzero(keys < highest).tolist())
        self._keys = np.concatenate([self._keys, keys[keys < highest]])
        if len(self._keys) > most:
            kept = np.sort(self._keys.argsort()[:most])
            self._keys, self._sample = self._keys[kept], [self._sample[i] for i in kept.tolist()]

    def evaluation(self, loss: dict[str, float], notes: tuple[str, ...]) -> Evaluation:
        """The metrics, with the loss as the last one."""
        predictions, examples, groups = ([kept[i] for kept in self._sample] for i in range(3))
        number = None if len(examples) == self.number else self.number
        if not self._task.has_tally:
            metrics = self._task.score(predictions, examples) | loss
            return Evaluation(metrics, self._task.per_label(predictions, examples), examples, predictions, notes)
        intervals, table = self._bootstrap.intervals(), self._bootstrap.by_label()
        notes = (*notes, *filter(None, [self._bootstrap.note]))
        metrics = {name: one.value for name, one in intervals.items()} | loss
        values = [
            {name: cell.value if isinstance(cell, Interval) else cell for name, cell in row.items()} for row in table
        ]
        more = {"intervals": intervals, "label_intervals": table, "groups": groups, "number": number}
        return Evaluation(metrics, values, examples, predictions, notes, **more)
