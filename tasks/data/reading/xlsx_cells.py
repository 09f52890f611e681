"""Cells of Excel workbooks whose values openpyxl does not read row by row: merged ones, formulas, and errors.

Only the first cell of merged ones has a value in the file; here the rows that they cover have it, too. A formula has a
value only if a spreadsheet program stored one. An error such as #N/A is read as an empty cell.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from .table_layout import Record

CHUNK_BYTES = 1 << 20
MAX_MERGED = 100_000  # ranges of a sheet
MERGED = re.compile(rb'<(?:\w+:)?mergeCell\s+ref="([A-Z]{1,3})(\d{1,7}):[A-Z]{1,3}(\d{1,7})"')
# A formula without a value; one whose result is an empty text has t="str".
UNSTORED = re.compile(rb'<c (?![^>]*t="str")[^>]*><f[^<]*</f>(?:<v\s*/>|<v></v>)?</c>')
ROW_END = b"</row>"


@dataclass
class SpecialCells:
    """What a sheet has beyond plain cells.

    Args:
        merged: First row -> (column, last row) of the merged cells that begin there and cover several rows.
        num_unstored: Formulas without a stored value.
        errors: Examples of errors that were read as empty cells.
    """

    merged: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    num_unstored: int = 0
    errors: list[str] = field(default_factory=list)

    @classmethod
    def find(cls, xml: IO[bytes]) -> "SpecialCells":
        """Those of a sheet, from its XML."""
        found, rest = cls(), b""
        while chunk := xml.read(CHUNK_BYTES):
            rest += chunk
            end = rest.rfind(ROW_END) + len(ROW_END)
            if end >= len(ROW_END):
                found.num_unstored += sum(1 for _ in UNSTORED.finditer(rest, 0, end))
                rest = rest[end:]
        for number, match in enumerate(MERGED.finditer(rest)):  # after the last row
            first, last = int(match[2]), int(match[3])
            if last > first and number < MAX_MERGED:
                found.merged.setdefault(first, []).append((_column(match[1]), last))
        return found

    @property
    def notes(self) -> list[str]:
        """What was done with the cells, a clause each."""
        notes = []
        if self.merged:
            notes.append("merged cells: each row that they cover has their value")
        if self.num_unstored:
            cells = f"{self.num_unstored:,} formula{'s' * (self.num_unstored > 1)} without a stored value"
            notes.append(f"{cells} read as empty: open the file in Excel and save it")
        if self.errors:
            notes.append(f"errors such as {self.errors[0]} are read as empty cells")
        return notes

    def apply(self, rows: Iterator[tuple[int, Sequence[Any]]]) -> Iterator[Record]:
        """Rows of (number, cells) with the values of merged cells and without errors."""
        from openpyxl.cell.cell import ERROR_CODES

        active: dict[int, tuple[int, Any]] = {}  # column -> last row, value
        for number, values in rows:
            cells = list(values)
            for column, value in enumerate(cells):
                if isinstance(value, str) and value in ERROR_CODES:
                    self.errors = self.errors or [f"{value} (row {number})"]
                    cells[column] = None
            active = {column: found for column, found in active.items() if found[0] >= number}
            for column, (_, value) in active.items():
                cells += [None] * (column + 1 - len(cells))
                cells[column] = value
            for column, last in self.merged.get(number, ()):
                if column < len(cells):
                    active[column] = last, cells[column]
            yield number, cells


def _column(letters: bytes) -> int:
    """The index of a column, from 0: A, B, ..., Z, AA, ..."""
    index = 0
    for letter in letters:
        index = 26 * index + letter - ord("A") + 1
    return index - 1
