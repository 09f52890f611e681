"""The results of an evaluation as they are computed: all predictions, or sums and a random sample of predictions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data.columns import ColumnMapping
from ..data.groups import group_hashes
from ..data.rows import Table
from ..intervals import Bootstrap, Interval
from .metric_intervals import metric_intervals
from .results import Evaluation
from .task import Task

SAMPLE = 10_000  # predictions that are kept of many


class AllResults:
    """All predictions.

    Args:
        task: that scores them.
    """

    def __init__(self, task: Task[Any, Any]) -> None:
        self._task = task
        self._predictions: list[Any] = []
        self._examples: list[Any] = []
        self._table: Table | None = None
        self._columns: ColumnMapping | None = None

    @property
    def number(self) -> int:
        """Of examples so far."""
        return len(self._examples)

    def add(self, predictions: Sequence[Any], examples: Sequence[Any], table: Table, columns: ColumnMapping) -> None:
        """Adds examples of a table."""
        self._predictions += predictions
        self._examples += examples
        self._table, self._columns = table, columns

    def evaluation(self, loss: dict[str, float], notes: tuple[str, ...]) -> Evaluation:
        """The metrics, with the loss as the last one."""
        task, both = self._task, (self._predictions, self._examples)
        intervals = metric_intervals(task, *both, self._table, self._columns)
        metrics, per_label = task.score(*both) | loss, task.per_label(*both)
        return Evaluation(metrics, per_label, self._examples, self._predictions, notes, intervals=intervals)


class SampledResults:
    """The sums of all examples, and a random sample of them; memory grows by eight bytes per example.

    Args:
        task: that scores them; its metrics are functions of its tally.
    """

    def __init__(self, task: Task[Any, Any]) -> None:
        self._task = task
        self.number = 0
        self._bootstrap = Bootstrap()
        self._groups: list[np.ndarray] = []
        self._random = np.random.default_rng(0)
        self._keys = np.zeros(0)  # random numbers; the examples with the smallest ones are the sample
        self._sample: list[tuple[Any, Any]] = []  # predictions and examples

    def add(self, predictions: Sequence[Any], examples: Sequence[Any], table: Table, columns: ColumnMapping) -> None:
        """Adds examples of a table."""
        tally = self._task.tally(predictions, examples)
        assert tally is not None
        groups = group_hashes(examples, table, columns.group)
        self._bootstrap.add(tally, groups)
        self._groups.append(groups)
        self.number += len(examples)
        keys = self._random.random(len(examples))
        highest = self._keys.max(initial=0.0) if len(self._keys) == SAMPLE else 1.0
        for i in np.flatnonzero(keys < highest).tolist():
            self._sample.append((predictions[i], examples[i]))
        self._keys = np.concatenate([self._keys, keys[keys < highest]])
        if len(self._keys) > SAMPLE:
            kept = np.sort(self._keys.argsort()[:SAMPLE])
            self._keys, self._sample = self._keys[kept], [self._sample[i] for i in kept.tolist()]

    def evaluation(self, loss: dict[str, float], notes: tuple[str, ...]) -> Evaluation:
        """The metrics, with the loss as the last one."""
        groups = np.concatenate(self._groups)
        self._bootstrap.independent = len(np.unique(groups)) == len(groups)
        intervals = self._bootstrap.intervals()
        metrics = {name: one.value for name, one in intervals.items()} | loss
        per_label = [
            {name: cell.value if isinstance(cell, Interval) else cell for name, cell in row.items()}
            for row in self._bootstrap.by_label()
        ]
        predictions, examples = ([pair[i] for pair in self._sample] for i in (0, 1))
        number = None if len(examples) == self.number else self.number
        return Evaluation(metrics, per_label, examples, predictions, notes, intervals=intervals, number=number)
