"""Cells of CSV and TSV files."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from ....core.errors import HeadwayError
from ..places import format_place
from ..reading.csv_files import Dialect, infer_dialect, split_at_cr, tsv_dialect
from ..reading.file_format import SourceFile
from ..rows import Table
from .raw_text import RawText

LINE_BREAK = re.compile(r"[\r\n]*\Z")


def edit_csv(file: SourceFile, table: Table, edits: Mapping[int, Mapping[str, Any]]) -> bytes:
    """A CSV file with new cells; a cell keeps its quotes, and gets some if it needs them."""
    return _edit(file, table, edits, infer_dialect)


def edit_tsv(file: SourceFile, table: Table, edits: Mapping[int, Mapping[str, Any]]) -> bytes:
    """A TSV file with new cells."""
    return _edit(file, table, edits, tsv_dialect)


def _edit(
    file: SourceFile,
    table: Table,
    edits: Mapping[int, Mapping[str, Any]],
    infer: Callable[[SourceFile], Dialect],
) -> bytes:
    raw, dialect = RawText.read(file), infer(file)
    lines = list(split_at_cr(raw.lines)) if dialect.quoted else list(raw.lines)
    for place, row in edits.items():
        cells = {table.columns.index(name): str(value) for name, value in row.items()}
        _edit_record(lines, place - 1, cells, dialect)
    return raw.to_bytes(lines)


def _edit_record(lines: list[str], first: int, cells: Mapping[int, str], dialect: Dialect) -> None:
    """Changes cells of the record that begins at a line; the lines of the record become one entry and empty ones."""
    last, fields = first, dialect.split(lines[first])
    while fields is None:  # a quote is open: the record continues in the next line
        last += 1
        fields = dialect.split("".join(lines[first : last + 1]))
    ending = LINE_BREAK.search(fields[-1])
    assert ending is not None
    fields[-1] = fields[-1][: ending.start()]
    for column, value in cells.items():
        fields[column] = _field(value, fields[column], dialect, first + 1)
    lines[first : last + 1] = [dialect.delimiter.join(fields) + ending[0], *[""] * (last - first)]


def _field(value: str, before: str, dialect: Dialect, place: int) -> str:
    special = any(sign in value for sign in (dialect.delimiter, "\r", "\n"))
    if not dialect.quoted:
        if special:
            where = format_place(str(dialect.path), "line", place)
            raise HeadwayError(
                f"{where}: {value!r} has a TAB or a line break, which a TSV cannot contain. Use a .csv."
            )
        return value
    quoted = before.startswith('"') or special or value.startswith('"')
    return '"{}"'.format(value.replace('"', '""')) if quoted else value
