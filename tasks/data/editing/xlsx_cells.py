"""Cells of Excel workbooks, in the XML of their sheet: everything else in the archive is copied.

Office Open XML (ECMA-376, part 1, 18.3.1.4): a cell is `<c r="B12" s="3" t="s"><v>5</v></c>`. A new text is written
into the cell itself (t="inlineStr"), so that the table of shared texts is unchanged.
"""

import io
import re
import zipfile
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from ....core.errors import HeadwayError
from ..places import format_place
from ..reading.file_format import SourceFile
from ..reading.xlsx_files import choose_sheet, open_workbook
from ..rows import Table

CELL = re.compile(r'<c r="(?P<ref>[A-Z]{1,3}\d+)"(?P<attributes>[^>]*?)(?:/>|>(?P<body>.*?)</c>)', re.DOTALL)
STYLE = re.compile(r'\ss="\d+"')
TYPE = re.compile(r'\st="(\w+)"')


def edit_xlsx(file: SourceFile, table: Table, edits: Mapping[int, Mapping[str, Any]]) -> bytes:
    """A workbook with new cells.

    Raises:
        HeadwayError: a cell is computed by a formula, or is not in the sheet.
    """
    from openpyxl.utils import get_column_letter

    with open_workbook(file.path) as book:
        sheet: Any = book[choose_sheet(file.path, book, file.options.sheet)[0]]
        name = sheet._worksheet_path
    with zipfile.ZipFile(file.path) as archive:
        content = {entry: archive.read(entry) for entry in archive.infolist()}
    xml = next(data for entry, data in content.items() if entry.filename == name).decode()
    new = {
        f"{get_column_letter(table.columns.index(column) + 1)}{place}": (value, place)
        for place, row in edits.items()
        for column, value in row.items()
    }
    done = set()

    def replaced(match: re.Match[str]) -> str:
        reference = match["ref"]
        if reference not in new:
            return match[0]
        value, place = new[reference]
        if "<f" in (match["body"] or ""):
            where = format_place(table.source, table.unit, place)
            raise HeadwayError(
                f"{where}: cell {reference} is computed by a formula. Replace it by its value in Excel."
            )
        done.add(reference)
        return _cell(reference, match["attributes"], value)

    xml = CELL.sub(replaced, xml)
    if missing := set(new) - done:
        raise HeadwayError(
            f"{table.source}: cell {min(missing)} is not in the sheet as Excel writes it. Save the workbook in Excel, "
            "or the data as .csv."
        )
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for entry, data in content.items():
            archive.writestr(entry, xml.encode() if entry.filename == name else data, entry.compress_type)
    return written.getvalue()


def _cell(reference: str, attributes: str, value: Any) -> str:
    """A cell with the style of the one before; a number stays a number, and true or false stays one."""
    style, kind = STYLE.search(attributes), TYPE.search(attributes)
    start = f'<c r="{reference}"{style[0] if style else ""}'
    if isinstance(value, bool):
        return f'{start} t="b"><v>{int(value)}</v></c>'
    if isinstance(value, int | float) and (kind is None or kind[1] == "n"):
        return f"{start}><v>{value!r}</v></c>"
    return f'{start} t="inlineStr"><is><t xml:space="preserve">{escape(str(value))}</t></is></c>'
