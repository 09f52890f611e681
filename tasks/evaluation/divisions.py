"""How rows are divided into parts that are scored apart: by the values of a column, or the quarters of its numbers.

E examples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ...core.errors import HeadwayError
from ..base.task import Task
from ..data.labels import is_missing
from ..data.rows import Table

MAX_CHARACTERS = 60  # of a value in the name of a part
MAX_VALUES = 200  # of a column or another division; further values are one part
FEWEST_NUMBERS = 30  # different ones: a column with more numbers is divided into quarters
SAMPLED_ROWS = 10_000  # in which quarters are measured, at equal distances in the table
EMPTY, OTHER_VALUES = "empty", "other values"

Values = Mapping[str, Sequence[Sequence[str]]]  # by what divides the data: the values of each example


@dataclass(frozen=True)
class Quarters:
    """Four parts of numbers of about the same size; fewer where many numbers are equal.

    Args:
        bounds: the upper bounds of all parts but the last one, ascending.
        unit: after a number, with a space.
    """

    bounds: tuple[float, ...]
    unit: str = ""

    @classmethod
    def of(cls, numbers: np.ndarray, unit: str = "") -> Self:
        """The quarters of numbers, (N,)."""
        bounds = np.quantile(numbers, (0.25, 0.5, 0.75), method="lower") if len(numbers) else numbers
        return cls(tuple(one for one in np.unique(bounds).tolist() if one < numbers.max()), unit)

    def name(self, number: float) -> str:
        """The part of a number: "more than 31, up to 50 characters"."""
        if not self.bounds:
            return "all numbers"
        i = int(np.searchsorted(self.bounds, number))
        names = [f"{bound:,.6g}" for bound in self.bounds]
        if i == 0:
            return f"up to {names[0]}{self.unit}"
        upper = f", up to {names[i]}" if i < len(names) else ""
        return f"more than {names[i - 1]}{upper}{self.unit}"


@dataclass(frozen=True)
class ColumnDivision:
    """The parts of the rows by a column.

    Args:
        column: its name.
        quarters: of its numbers; None: each value is a part.
    """

    column: str
    quarters: Quarters | None = None

    @classmethod
    def of(cls, table: Table, column: str) -> Self:
        """The quarters of a column of more than FEWEST_NUMBERS different numbers, else its values.

        Raises:
            HeadwayError: there is no such column.
        """
        if column not in table.columns:
            known = ", ".join(table.columns)
            raise HeadwayError(f"--slice {column}: {table.source} has no such column. Its columns are: {known}.")
        rows = np.unique(np.linspace(0, len(table) - 1, min(SAMPLED_ROWS, len(table))).astype(np.int64)).tolist()
        cells = [cell for cell in (table.rows[row].get(column) for row in rows) if not is_missing(cell)]
        numbers = [number for number in map(_number, cells) if number is not None]
        divided = len(numbers) == len(cells) and len(set(numbers)) > FEWEST_NUMBERS
        return cls(column, Quarters.of(np.array(numbers)) if divided else None)

    def name(self, cell: Any) -> str:
        """The part of a row with this cell."""
        if is_missing(cell):
            return EMPTY
        number = None if self.quarters is None else _number(cell)
        return name_value(cell) if self.quarters is None or number is None else self.quarters.name(number)


class Parts:
    """The parts of the data, as they occur in examples that are added one after the other."""

    def __init__(self) -> None:
        self._known: dict[str, set[str]] = {}

    def rows(self, values: Values) -> dict[tuple[str, str], list[int]]:
        """The examples of each part, by what divides the data and the value.

        Args:
            values: of the examples that are added.
        """
        rows: dict[tuple[str, str], list[int]] = {}
        for by, of_examples in values.items():
            known = self._known.setdefault(by, set())
            for i, own in enumerate(of_examples):
                for value in own:
                    part = value if value in known or len(known) < MAX_VALUES else OTHER_VALUES
                    known.add(part)
                    rows.setdefault((by, part), []).append(i)
        return rows


class Divisions:
    """What divides the rows of a table: what the task knows of them, such as labels, and columns.

    Args:
        table: the rows.
        columns: whose values or numbers make parts.
        label: the column of the labels, which divide the rows without being named; None: there is none.
    """

    def __init__(self, table: Table, columns: Sequence[str], label: Any = None) -> None:
        self._table, self._label = table, label
        self._columns = [ColumnDivision.of(table, column) for column in columns]

    def values(self, task: Task[Any, Any], predictions: Sequence[Any], examples: Sequence[Any]) -> Values:
        """The parts of examples, which are rows of the table."""
        of_task = [task.slices_of(*pair) for pair in zip(predictions, examples, strict=True)]
        names = dict.fromkeys(name for one in of_task for name in one)
        found = {name: [tuple(map(name_value, one.get(name, ()))) for one in of_task] for name in names}
        rows = [self._table.rows[example.row] for example in examples]
        for one in self._columns:
            if one.column != self._label or "label" not in found:
                found[f"column {one.column}"] = [(one.name(row.get(one.column)),) for row in rows]
        return found


def name_value(value: Any) -> str:
    """A value on one line, shortened."""
    text = " ".join(str(value).split())
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"


def _number(cell: Any) -> float | None:
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None
