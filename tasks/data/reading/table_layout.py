"""The columns of a table of cells: whether its first row is a header, and empty columns at its end."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ....core.errors import HeadwayError
from ..places import shorten
from .header import HeaderGuess, guess_header
from .limits import check_columns

Record = tuple[int, list[Any]]  # (place, cells)


@dataclass(frozen=True)
class TableLayout:
    """The columns of a table.

    Args:
        columns: Their names, or their numbers from 0 if there is no header.
        header: Whether the first record names them.
        notes: What was inferred.
    """

    columns: tuple[str, ...]
    header: bool
    notes: tuple[str, ...]

    def cells(self, record: Sequence[Any]) -> Sequence[Any] | None:
        """The cells of a record, one per column; None if their number is wrong.

        Empty cells after the last column are dropped, as spreadsheets write them.
        """
        width = len(self.columns)
        if len(record) > width and not any(map(is_filled, record[width:])):
            return record[:width]
        return record if len(record) == width else None


def infer_layout(
    where: Callable[[int], str], sample: Sequence[Record], *, header: bool | None, whole: bool
) -> TableLayout:
    """The layout of a table.

    Args:
        where: Place -> location of a record, for messages.
        sample: The first records, at least one.
        header: Whether the first one is a header; None to infer it.
        whole: Whether the sample is the whole table.

    Raises:
        HeadwayError: There is only a header, two columns have the same name, or there are too many.
    """
    place, first = sample[0][0], [_text(cell) for cell in sample[0][1]]
    check_columns(where(place), len(first))
    usual = _usual_width(sample)
    width, notes = _filled_width(sample, usual), []
    if width < usual:
        what = "1 empty column" if usual - width == 1 else f"{usual - width} empty columns"
        notes.append(f"{what} at the end of the table left out")
    first = first[:width] if not any(map(is_filled, first[width:])) else first
    if header is None:
        rest = [[_text(cell) for cell in cells[:width]] for _, cells in sample[1:] if len(cells) == usual]
        guess = guess_header(first, rest) if len(first) == width else HeaderGuess(False)
        header = guess.found
        notes += guess.notes(first)
    if not header:
        return TableLayout(tuple(str(number) for number in range(width)), False, tuple(notes))
    columns = _column_names(where(place), first)
    if whole and len(sample) == 1:
        raise HeadwayError(
            f"{where(place)}: only a header ({shorten(', '.join(columns))}) and no row "
            "below it. Add rows, or say that the file has no header."
        )
    return TableLayout(columns, True, tuple(notes))


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)


def is_filled(cell: Any) -> bool:
    """Whether a cell is not empty."""
    return cell is not None and bool(_text(cell).strip())


def _usual_width(records: Sequence[Record]) -> int:
    widths = Counter(len(cells) for _, cells in records)
    return widths.most_common(1)[0][0]


def _filled_width(records: Sequence[Record], usual: int) -> int:
    """Number of columns up to the last one with a cell that is not empty, among records of the usual width."""
    full = (cells for _, cells in records if len(cells) == usual)
    return max((column for cells in full for column, cell in enumerate(cells, start=1) if is_filled(cell)), default=1)


def _column_names(where: str, header: Sequence[str]) -> tuple[str, ...]:
    """The names in a header; an unnamed column gets its number."""
    names = [cell.strip() or str(number) for number, cell in enumerate(header)]
    numbers: dict[str, int] = {}
    for number, name in enumerate(names):
        if numbers.setdefault(name, number) != number:
            raise HeadwayError(
                f'{where}: the header has "{name}" twice (columns {numbers[name]} and {number}, '
                "counted from 0). Rename one of them."
            )
    return tuple(names)
