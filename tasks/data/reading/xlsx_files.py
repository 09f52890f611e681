"""Sheets of Excel workbooks (.xlsx), read with openpyxl row by row.

Cells keep their types: numbers are numbers, dates are ISO 8601 texts, formulas have the value that Excel stored.
"""

import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....core.errors import HeadwayError
from ..places import format_place, shorten
from ..rows import SAMPLE_ROWS, Rows, RowStream
from .file_format import FileFormat, SourceFile
from .limits import check_expansion
from .python_objects import plain_value
from .table_layout import Record, infer_layout, is_filled
from .xlsx_cells import SpecialCells

if TYPE_CHECKING:
    from openpyxl import Workbook
    from openpyxl.worksheet._read_only import ReadOnlyWorksheet

ZIP_MAGIC = b"PK\x03\x04"
WORKBOOK = "xl/workbook.xml"  # the file that makes a zip archive a workbook
# What zipfile, the XML parser and openpyxl raise for damaged files.
DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, SyntaxError, EOFError, OSError),
    *(KeyError, ValueError, TypeError, AttributeError, IndexError),
    RuntimeError,  # an encrypted file, or a compression that zipfile does not know
)


def _matches(file: SourceFile) -> bool:
    with file.path.open("rb") as opened:
        if opened.read(len(ZIP_MAGIC)) != ZIP_MAGIC:
            return False
    try:
        with zipfile.ZipFile(file.path) as archive:
            return WORKBOOK in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, EOFError):
        return False


def _open(file: SourceFile) -> RowStream:
    path = file.path
    with open_workbook(path) as book:
        title, notes = choose_sheet(path, book, file.options.sheet)
        special = _find_special(path, book[title])
        records = _filled_rows(path, book[title], special)
        sample = list(islice(records, SAMPLE_ROWS))
        whole = next(records, None) is None
    if not sample:
        raise HeadwayError(f'{path}: the sheet "{title}" is empty. Give a sheet with at least one row (--sheet).')
    above = _rows_above(sample)
    if above:
        shown = shorten(" ".join(str(cell) for _, cells in sample[:above] for cell in cells if is_filled(cell)))
        rows = "1 row" if above == 1 else f"{above} rows"
        notes.append(f"{rows} with a single cell above the table left out ({shown})")
    width = max(len(cells) for _, cells in sample)

    def where(place: int) -> str:
        return format_place(str(path), "row", place)

    table = [(place, _padded(cells, width)) for place, cells in sample[above:]]
    notes += special.notes
    layout = infer_layout(where, table, header=file.options.header, whole=whole)

    def read() -> Rows:
        with open_workbook(path) as book:
            rows = islice(_filled_rows(path, book[title], special), above + layout.header, None)
            for place, row in rows:
                cells = layout.cells(_padded(row, len(layout.columns)))
                if cells is None:
                    raise HeadwayError(
                        f"{where(place)}: a cell beyond the last column ({layout.columns[-1]}). Delete it, or give "
                        "the column a name."
                    )
                yield place, dict(zip(layout.columns, map(plain_value, cells), strict=True))

    kind = f'Excel, sheet "{title}"'
    return RowStream(str(path), kind, layout.columns, layout.header, read, "row", (*notes, *layout.notes))


XLSX = FileFormat(
    _matches,
    _open,
    frozenset({"header", "decimal", "sheet"}),
    title="Excel",
    files="A workbook of Excel, whatever its name; one sheet is read, cells keep their types",
)


@contextmanager
def open_workbook(path: Path) -> "Iterator[Workbook]":
    """Opens a workbook.

    Raises:
        HeadwayError: It is damaged or expands to far more than a table would.
    """
    from openpyxl import load_workbook

    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))  # closed here even if openpyxl fails
            with zipfile.ZipFile(file) as archive:
                expanded = sum(entry.file_size for entry in archive.infolist())
            check_expansion(path, path.stat().st_size, expanded)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about styles and other features that do not matter here
                book = load_workbook(file, read_only=True, data_only=True)
            stack.callback(book.close)
        except DAMAGED as error:
            raise _damaged(path, error) from error
        yield book


def _damaged(path: Path, error: Exception) -> HeadwayError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return HeadwayError(f"{path}: a damaged Excel workbook ({shorten(reason)}). Save it again, or as CSV (UTF-8).")


def choose_sheet(path: Path, book: "Workbook", given: str | None) -> tuple[str, list[str]]:
    """The title of the sheet that is given, or of the only visible one with rows, and notes."""
    sheets = {sheet.title: sheet for sheet in book.worksheets}
    listed = ", ".join(f'"{title}"' for title in sheets)
    if given is not None:
        by_name = {title.casefold(): title for title in sheets} | {title: title for title in sheets}
        title = by_name.get(given) or by_name.get(given.casefold())
        if title is None and given.isdecimal() and len(given) < 5 and 1 <= int(given) <= len(sheets):
            title = list(sheets)[int(given) - 1]
        if title is None:
            raise HeadwayError(f"{path}: there is no sheet {given!r}. The sheets are: {listed}.")
        return title, []
    visible = [title for title, sheet in sheets.items() if sheet.sheet_state == "visible"]
    filled = [title for title in visible if any(_filled_rows(path, sheets[title]))]
    if len(filled) > 1:
        names = ", ".join(f'"{title}"' for title in filled)
        raise HeadwayError(f"{path}: several sheets have rows: {names}. Name one with --sheet.")
    if not filled:
        raise HeadwayError(f"{path}: the file is empty: no visible sheet has rows ({listed}). Name one with --sheet.")
    others = len(sheets) - 1
    return filled[0], [f'sheet: "{filled[0]}", the only visible one with rows (--sheet overrules)'] if others else []


def _find_special(path: Path, sheet: Any) -> SpecialCells:
    """The cells whose values openpyxl does not read; a sheet of charts has none."""
    try:
        with sheet._get_source() as xml:
            return SpecialCells.find(xml)
    except DAMAGED as error:
        raise _damaged(path, error) from error


def _filled_rows(
    path: Path, sheet: "ReadOnlyWorksheet | Any", special: SpecialCells | None = None
) -> Iterator[Record]:
    """The rows that have a cell that is not empty."""
    try:
        sheet.reset_dimensions()  # the stored size may be wrong
        rows = (special or SpecialCells()).apply(enumerate(sheet.iter_rows(values_only=True), start=1))
        while (row := next(rows, None)) is not None:
            if any(map(is_filled, row[1])):
                yield row
    except DAMAGED as error:
        raise _damaged(path, error) from error


def _rows_above(sample: Sequence[Record]) -> int:
    """Number of rows with a single cell, such as a title, above a table that has several columns."""
    widths = [sum(map(is_filled, cells)) for _, cells in sample]
    number = next((position for position, width in enumerate(widths) if width > 1), 0)
    return number if 2 * sum(width > 1 for width in widths) > len(widths) else 0


def _padded(cells: Sequence[Any], width: int) -> list[Any]:
    return [*cells, *[None] * (width - len(cells))]
