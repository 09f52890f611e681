"""Rows with labels that a model does not know, in data on which it is evaluated."""

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np

from ...core.errors import HeadwayError
from ..data.columns import ColumnMapping
from ..data.findings import count, have
from ..data.places import shorten
from ..data.rows import LeftOutRow, Table
from ..data.spool import select
from .task import Task

MAX_UNKNOWN_SHOWN = 5
NOT_IN_TRAINING_DATA = "with a label that the training data does not have"


def divide(examples: Sequence[Any], labels: Set[str]) -> tuple[Sequence[Any], Sequence[Any]]:
    """The examples with none of some labels, and the others."""
    if not labels:
        return examples, []
    has = np.fromiter((not labels.isdisjoint(example.labels) for example in examples), dtype=bool)
    return select(examples, np.flatnonzero(~has)), select(examples, np.flatnonzero(has))


def describe_unknown(examples: Sequence[Any], labels: Set[str], total: int, whose: str) -> str:
    """A clause that counts the examples with some labels: "3 of 40 rows have labels that ..."."""
    counts = Counter(label for example in examples for label in example.labels if label in labels)
    shown = ", ".join(f"{shorten(label, 40)!r} {number:,}" for label, number in counts.most_common(MAX_UNKNOWN_SHOWN))
    more = f" and {len(counts) - MAX_UNKNOWN_SHOWN} more" if len(counts) > MAX_UNKNOWN_SHOWN else ""
    return f"{len(examples):,} of {count(total, 'row')} {have(examples)} labels that {whose} ({shown}{more})"


def without_unknown(task: Task[Any, Any], table: Table, columns: ColumnMapping) -> Table:
    """The rows of evaluation data whose labels the training data has, with a note that counts the others.

    While a model is trained the others are left out and not counted as wrong, because its weights, its thresholds and
    the loss are chosen and measured by labels that it can predict. With --strict they stay, and are errors.

    Args:
        task: with the labels of the training data.
        table: the rows for evaluation.
        columns: of the table.

    Raises:
        HeadwayError: no row is left.
    """
    wider = task.with_labels_of(table, columns)
    others = set(wider.label_names).difference(task.label_names)
    if not others or not task.label_names or table.strict:
        return table
    examples, _ = wider.read(table, columns)
    _, unknown = divide(examples, others)
    what = describe_unknown(unknown, others, len(table), "the training data does not have")
    if len(unknown) == len(table):
        raise HeadwayError(f"{table.source}: {what}, and no row is left. Give evaluation data with the same labels.")
    kept = np.delete(np.arange(len(table)), [example.row for example in unknown])
    return replace(
        table.select(kept),
        notes=(*table.notes, f"{what}: left out here; headway evaluate counts them as wrong (--strict refuses them)"),
        left_out=(*table.left_out, *(LeftOutRow(example.where, NOT_IN_TRAINING_DATA) for example in unknown)),
    )
