"""Rows from Python objects: a list of dicts, a dict of lists, a pandas DataFrame.

pandas is imported by the caller, if at all.
"""

import datetime
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ....core.errors import HeadwayError
from ..places import format_place, shorten
from ..rows import SAMPLE_ROWS, Rows, RowStream

if TYPE_CHECKING:
    import pandas as pd

SOURCE = "the given rows"


def open_object(source: Any) -> RowStream:
    """Opens a list of dicts, a dict of lists or a DataFrame as a stream of rows.

    Raises:
        HeadwayError: It is another object, is empty, or its rows or columns do not match.
    """
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(source, pandas.DataFrame):
        return _open_frame(source)
    if isinstance(source, Mapping) and source and all(_is_column(values) for values in source.values()):
        return _open_rows(rows_from_columns(SOURCE, source))
    if isinstance(source, Iterator):
        return open_rows_once(source)
    if isinstance(source, Sequence):
        return _open_rows(source)
    raise HeadwayError(
        f"{SOURCE}: {type(source).__name__} is not a table. "
        "Give a file name, a list of dicts, a dict of lists, a DataFrame or one split of a data set."
    )


def open_rows_once(rows: Iterator[Any]) -> RowStream:
    """Opens a generator of dicts as a stream of rows, which can be read once.

    Its first SAMPLE_ROWS rows are kept, so that columns can be inferred from them before.

    Raises:
        HeadwayError: There is no row. While iterating: a row is not a dict, or the rows are read again.
    """
    read = _RowsOnce(rows)
    first = next(read(), None)
    if first is None:
        raise HeadwayError(f"{SOURCE}: the generator has no row. Give at least one.")
    return RowStream(SOURCE, "rows", tuple(first[1]), True, read, "row")


class _RowsOnce:
    """Reads the rows of a generator; its first rows can be read again."""

    def __init__(self, rows: Iterator[Any]) -> None:
        self._rows = enumerate(rows, start=1)
        self._kept: list[tuple[int, dict[str, Any]]] = []
        self._num_drawn = 0

    def __call__(self) -> Rows:
        """Yields (place, row)."""
        position = 0
        while True:
            if position < len(self._kept):
                found = self._kept[position]
            elif position < self._num_drawn:
                raise HeadwayError(f"{SOURCE}: a generator can be read only once. Make a list of its rows.")
            elif (found := self._draw()) is None:
                return
            position += 1
            yield found

    def _draw(self) -> tuple[int, dict[str, Any]] | None:
        for number, row in self._rows:
            _check_row(row, number)
            found = number, _plain_row(row, number)
            self._num_drawn = number
            if number <= SAMPLE_ROWS:
                self._kept.append(found)
            return found
        return None


def _plain_row(row: Mapping[Any, Any], number: int) -> dict[str, Any]:
    try:
        return plain_value(row)
    except RecursionError as error:
        raise HeadwayError(
            f"{format_place(SOURCE, 'row', number)}: a value contains itself, or too many lists in lists. Remove it."
        ) from error


def plain_value(value: Any) -> Any:
    """Converts a cell to plain Python: NumPy values to numbers and lists, dates to ISO 8601, NaN and NaT to None."""
    if value is None or type(value) in (str, int, bool):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain_value(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    if hasattr(value, "tolist"):
        return plain_value(value.tolist())
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, float | Decimal):
        number = float(value)
        return None if number != number else number
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value


def rows_from_columns(source: str, columns: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """Turns one list per column into one dict per row.

    Raises:
        HeadwayError: The lists have different lengths.
    """
    lengths = {str(name): len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise HeadwayError(
            f"{source}: the columns have different lengths ({shorten(listed, 120)}). Fill the shorter ones."
        )
    return [dict(zip(lengths, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _is_column(values: Any) -> bool:
    return hasattr(values, "tolist") or (isinstance(values, Sequence) and not isinstance(values, str))


def _open_rows(rows: Sequence[Any]) -> RowStream:
    for number, row in enumerate(rows, start=1):
        _check_row(row, number)
    if not rows:
        raise HeadwayError(f"{SOURCE}: the list is empty. Give at least one row.")
    columns = tuple(dict.fromkeys(str(name) for row in rows for name in row))

    def read() -> Rows:
        for number, row in enumerate(rows, start=1):
            yield number, dict.fromkeys(columns) | _plain_row(row, number)

    return RowStream(SOURCE, "rows", columns, True, read, "row")


def _check_row(row: Any, number: int) -> None:
    if not isinstance(row, Mapping):
        raise HeadwayError(
            f"{format_place(SOURCE, 'row', number)}: {type(row).__name__} where a dict is expected. "
            'Write {"text": "...", "label": "..."}.'
        )


def _open_frame(frame: "pd.DataFrame") -> RowStream:
    columns = tuple(str(name) for name in frame.columns)
    repeated = [name for name, times in Counter(columns).items() if times > 1]
    if repeated:
        raise HeadwayError(f'{SOURCE}: the DataFrame has the column "{repeated[0]}" twice. Rename one of them.')

    def read() -> Rows:
        for number, cells in enumerate(frame.itertuples(index=False, name=None), start=1):
            yield number, _plain_row(dict(zip(columns, cells, strict=True)), number)

    return RowStream(SOURCE, "rows", columns, True, read, "row")
