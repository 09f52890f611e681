"""The confidence intervals of a task's metrics on examples (intervals.py)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data.columns import ColumnMapping
from ..data.examples import Example
from ..data.groups import group_hashes
from ..data.rows import Table
from ..intervals import Bootstrap, Interval
from .task import Task

FEWEST_DOCUMENTS = 20  # fewer of them say little about the spread between documents


def metric_intervals(
    task: Task[Any, Any],
    predictions: Sequence[Any],
    examples: Sequence[Any],
    table: Table | None = None,
    columns: ColumnMapping | None = None,
) -> dict[str, Interval]:
    """The metrics that have an interval; rows that belong together (groups.py) are drawn together.

    Args:
        task: with its labels.
        predictions: one per example, or one for each sequence of a corpus.
        examples: labelled ones, or the numbers of the documents of a corpus.
        table: of the examples, if a column names the groups.
        columns: with the column of the groups.
    """
    tally = task.tally(predictions, examples)
    if tally is None or not len(predictions):
        return {}
    bootstrap = Bootstrap()
    bootstrap.add(tally, _groups(predictions, examples, table, columns))
    return bootstrap.intervals()


def _groups(
    predictions: Sequence[Any], examples: Sequence[Any], table: Table | None, columns: ColumnMapping | None
) -> np.ndarray | None:
    """The hash or the number of the group of each prediction; None if each is a separate group."""
    if isinstance(examples[0], Example):
        return group_hashes(examples, table, columns and columns.group)
    starts = np.array([one.num_bytes > 0 for one in predictions])  # the first sequence of a document counts its bytes
    return np.cumsum(starts) - 1 if FEWEST_DOCUMENTS <= starts.sum() < len(starts) else None
