"""The labelled rows of a learning curve: those that are drawn from, and those of the test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...core.errors import HeadwayError
from ..base.fold import rarest_labels
from ..base.known_columns import columns_as_trained, describe_columns
from ..base.left_out import usable_rows
from ..classification.classification import TextClassification
from ..classification.predictions import TextExample
from ..data.columns import ColumnMapping
from ..data.digests import number_values
from ..data.groups import example_groups, without_known_texts
from ..data.labels import REGRESSION, SINGLE_LABEL
from ..data.read import options_by_source, read_table
from ..data.read_options import ReadOptions
from ..data.rows import Table
from ..data.split import split_parts
from .draws import draw_order

HELD_OUT = 0.25  # of the rows, without test data
FEWEST_ROWS = 20  # to hold some of them out


@dataclass(frozen=True, eq=False)
class CurveData:
    """Labelled rows, with columns of the same names on both sides.

    Args:
        task: with the labels of the rows to draw from.
        pool: the rows to draw from.
        test: the rows of the test.
        columns: field name or "label" -> column, of both.
        strata: the number of the label of each row to draw from, the rarest of several, (N,).
        notes: what was inferred and decided, a sentence each.
    """

    task: TextClassification
    pool: Table
    test: Table
    columns: dict[str, str]
    strata: np.ndarray
    notes: tuple[str, ...]

    @classmethod
    def read(
        cls, data: Any, test_data: Any, columns: Mapping[str, Any], options: ReadOptions, test_rows: int
    ) -> "CurveData":
        """Reads both sides.

        Args:
            data: labelled rows: anything that `read_table` reads.
            test_data: the same; None: a part of `data`.
            columns: field name, "label" or "group" -> column, where the inferred one is wrong.
            options: how files are read.
            test_rows: the most test rows.

        Raises:
            HeadwayError: the rows cannot be used, have a single label, or have numbers instead of labels.
        """
        sources = [data] if test_data is None else [data, test_data]
        readings = options_by_source(options, sources)
        table = read_table(data, readings[0])
        task = TextClassification()
        named = task.columns(table, columns, need_label=True)
        table = usable_rows(task, table, named)
        task, inferred = task.infer_labels(table, named)
        if task.problem_type == REGRESSION:
            raise HeadwayError(
                f'{table.source}: a learning curve is for labels, and column "{named.label}" has numbers. Name '
                "another column with --label."
            )
        examples = task.examples(table, named)
        notes = [*table.describe(), *named.notes, *inferred]
        if test_data is None:
            pool, test, note = _hold_out(examples, table, named)
        else:
            pool, test, note = _apart(
                examples, _read_test(task, describe_columns(named, table), test_data, readings[1], notes)
            )
        test, sampled = _sample(test, test_rows)
        notes += [one for one in (note, sampled) if one]
        names = {name: name for name in (*(["text"] if not task.paired else ["text", "pair"]), "label")}
        strata = number_values(rarest_labels(pool))
        known = replace(task, numbered=False)
        return cls(known, _table(pool, table), _table(test, table), names, strata, tuple(notes))

    @property
    def smallest(self) -> int:
        """The fewest rows of a draw, which has every label if each row has one of them; at least two."""
        return max(2, len(np.unique(self.strata))) if self.task.problem_type == SINGLE_LABEL else 2

    def draw(self, size: int, seed: int) -> Table:
        """Rows of one draw; the larger sizes of the same seed contain the smaller ones."""
        return self.pool.select(np.sort(draw_order(self.strata, seed)[:size]))


def _read_test(
    task: TextClassification, known: Mapping[str, Any] | None, data: Any, options: ReadOptions, notes: list[str]
) -> Sequence[TextExample]:
    """The test rows, whose labels may be others than those of the training rows."""
    table = read_table(data, options)
    named = columns_as_trained(task, known, table, {}, need_label=True)
    table = usable_rows(task, table, named)
    notes += table.describe()
    return task.with_labels_of(table, named).examples(table, named)


def _hold_out(
    examples: Sequence[TextExample], table: Table, columns: ColumnMapping
) -> tuple[list[TextExample], list[TextExample], str]:
    """A part of the rows for the test; equal texts and groups are not divided."""
    if len(examples) < FEWEST_ROWS:
        raise HeadwayError(
            f"{table.source}: {len(examples)} rows are too few to hold some of them out for the test ({FEWEST_ROWS} "
            "are needed). Give --test-data, or more rows."
        )
    groups, texts = example_groups(examples, table, columns.group)
    strata = number_values(one.stratum for one in examples)
    train, (drawn,) = split_parts(strata, [HELD_OUT], 0, groups)
    test = without_known_texts(drawn, train, texts)
    if not test:
        raise HeadwayError(
            f"{table.source}: no rows can be held out for the test, because all of them belong together. Give "
            "--test-data."
        )
    note = f"{len(test):,} of {len(examples):,} rows are held out for the test (--test-data names other rows)"
    return [examples[i] for i in train], [examples[i] for i in test], note


def _apart(
    examples: Sequence[TextExample], test: Sequence[TextExample]
) -> tuple[list[TextExample], list[TextExample], str]:
    """The rows to draw from without those whose texts are also in the test."""
    _, texts = example_groups([*examples, *test])
    kept = without_known_texts(range(len(examples)), range(len(examples), len(texts)), texts)
    if not kept:
        raise HeadwayError("All rows of --data are also in --test-data. Give other rows for one of them.")
    left_out = len(examples) - len(kept)
    note = f"{left_out:,} rows are not drawn because the test has the same texts" if left_out else ""
    return [examples[i] for i in kept], list(test), note


def _sample(test: Sequence[TextExample], most: int) -> tuple[Sequence[TextExample], str]:
    """A random part of the test rows, if there are more than `most`."""
    if len(test) <= most:
        return test, ""
    order = draw_order(number_values(one.stratum for one in test), 0)[:most]
    note = f"{most:,} of {len(test):,} test rows are used (--test-rows {most}; more take longer)"
    return [test[i] for i in np.sort(order).tolist()], note


def _table(examples: Sequence[TextExample], source: Table) -> Table:
    """Examples as rows, so that every method reads the same texts and labels."""
    rows = [_row(one) for one in examples]
    columns = tuple(rows[0])
    return Table(source.source, "rows", columns, True, rows, range(1, len(rows) + 1), "row")


def _row(one: TextExample) -> dict[str, Any]:
    label = list(one.label) if isinstance(one.label, tuple) else one.label
    return {"text": one.text, **({} if one.pair is None else {"pair": one.pair}), "label": label}
