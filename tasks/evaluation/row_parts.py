"""Parts of labelled rows in which models are compared: by length, by label, by the value in a column.

E examples.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ...core.errors import HeadwayError
from ..data.labels import is_missing
from ..data.places import shorten
from ..data.rows import Table

FEWEST_ROWS = 20  # of a part; fewer say too little
MOST_VALUES = 30  # of a column or of labels, the most frequent ones
QUARTERS = 4  # of lengths and numbers


@dataclass(frozen=True, eq=False)
class RowPart:
    """Some of the rows.

    Args:
        by: "length", "label" or a column.
        value: what these rows have in common: "up to 31 characters".
        rows: their positions among the examples, ascending.
    """

    by: str
    value: str
    rows: np.ndarray

    @property
    def name(self) -> str:
        """Both: "length: up to 31 characters"."""
        return f"{self.by}: {self.value}"


def row_parts(
    examples: Sequence[Any], table: Table, columns: Sequence[str] = (), *, fewest: int = FEWEST_ROWS
) -> list[RowPart]:
    """The parts by length, by label and by columns, without those of few rows and that of all rows.

    Args:
        examples: labelled.
        table: that `row` of the examples counts in.
        columns: whose values make parts; numbers are divided into quarters.
        fewest: rows of a part.

    Raises:
        HeadwayError: there is no such column.
    """
    lengths = np.array([sum(map(len, example.texts)) for example in examples])
    found = _quarters("length", lengths, " characters")
    found += _by_value("label", [sorted(set(example.labels)) for example in examples])
    for column in columns:
        if column not in table.columns:
            known = ", ".join(table.columns)
            raise HeadwayError(f"--slice {column}: {table.source} has no such column. Its columns are: {known}.")
        cells = [table.rows[example.row].get(column) for example in examples]
        numbers = _numbers(cells)
        if numbers is not None and len(np.unique(numbers[~np.isnan(numbers)])) > MOST_VALUES:
            found += _quarters(column, numbers)
        else:
            found += _by_value(column, [[] if is_missing(cell) else [str(cell)] for cell in cells])
    return [one for one in found if fewest <= len(one.rows) < len(examples)]


def _by_value(by: str, values: Sequence[Sequence[str]]) -> list[RowPart]:
    counts = Counter(value for row in values for value in row)
    rows: dict[str, list[int]] = {value: [] for value, _ in counts.most_common(MOST_VALUES)}
    for i, row in enumerate(values):
        for value in row:
            if value in rows:
                rows[value].append(i)
    return [RowPart(by, shorten(value), np.array(positions)) for value, positions in rows.items()]


def _quarters(by: str, numbers: np.ndarray, unit: str = "") -> list[RowPart]:
    """Four parts of about the same size; fewer where many numbers are equal."""
    known = numbers[~np.isnan(numbers)]
    bounds = np.unique(np.quantile(known, np.linspace(0, 1, QUARTERS + 1), method="lower")) if len(known) else known
    found = []
    for i, (low, high) in enumerate(pairwise(bounds.tolist())):
        above = numbers >= low if i == 0 else numbers > low
        if i == 0:
            value = f"up to {high:,.6g}{unit}"
        elif i == len(bounds) - 2:
            value = f"more than {low:,.6g}{unit}"
        else:
            value = f"more than {low:,.6g}, up to {high:,.6g}{unit}"
        found.append(RowPart(by, value, np.flatnonzero(above & (numbers <= high))))
    return found


def _numbers(cells: Sequence[Any]) -> np.ndarray | None:
    """The cells as numbers, NaN where one is missing; None if they are not numbers."""
    try:
        return np.array([np.nan if is_missing(cell) else float(cell) for cell in cells])
    except (TypeError, ValueError):
        return None
