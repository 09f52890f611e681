"""Copies a file with some cells changed.

Text formats and workbooks keep all other bytes: encoding, line breaks, quotes, comments, formats of cells. The copy is
read again before it gets its name, and must have the new cells and no other difference.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ....core.atomic_files import atomic_file, disk_errors, new_path, refuse_existing, user_path
from ....core.errors import HeadwayError
from ..places import format_place, shorten
from ..read import read_table
from ..read_options import INFER, ReadOptions
from ..reading.conll import CONLL
from ..reading.csv_files import CSV, TSV
from ..reading.file_format import FileFormat, SourceFile
from ..reading.formats import find_format
from ..reading.json_files import JSON
from ..reading.parquet import PARQUET
from ..reading.xlsx_files import XLSX
from ..rows import Table
from .conll_cells import edit_conll
from .csv_cells import edit_csv, edit_tsv
from .json_cells import edit_json
from .parquet_cells import edit_parquet
from .xlsx_cells import edit_xlsx

Edits = Mapping[int, Mapping[str, Any]]  # place of a row -> column -> new value of its cell
Editor = Callable[[SourceFile, Table, Edits], bytes]

EDITORS: dict[FileFormat, Editor] = {
    CSV: edit_csv,
    TSV: edit_tsv,
    JSON: edit_json,
    CONLL: edit_conll,
    XLSX: edit_xlsx,
    PARQUET: edit_parquet,
}


def copy_with_edits(
    source: str | Path,
    edits: Edits,
    output: str | Path,
    options: ReadOptions = INFER,
    *,
    overwrite: bool = False,
) -> Path:
    """Writes a copy of a file in which some cells have other values.

    Args:
        source: A file: CSV, TSV, Excel workbook, JSON lines, a JSON array of objects, CoNLL or Parquet.
        edits: Place of a row -> column -> new value.
        output: The copy, with the same suffix.
        options: How the file is read.
        overwrite: Whether an existing `output` is replaced. The file itself never is.

    Raises:
        HeadwayError: The file or its format cannot be edited, a new value cannot be written in this format or
            encoding, or `output` exists or is the file itself. Nothing is written.
    """
    path, output = user_path(source), new_path(output)
    refuse_output(path, output, overwrite=overwrite)
    file = SourceFile(path, options)
    edit = EDITORS.get(find_format(file))
    table = read_table(path, options)
    if edit is None:
        raise HeadwayError(
            f"{path}: {table.kind} cannot be corrected in place of its labels. Save the data as .csv, .tsv, .xlsx, "
            ".jsonl, .conll or .parquet."
        )
    content = edit(file, table, edits)
    # What is inferred from the name must be inferred again, so the name is that of the source.
    with disk_errors(output), tempfile.TemporaryDirectory(prefix="headway-") as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(content)
        try:
            copied = read_table(copy, options)
        except HeadwayError:
            copied = None  # the new values are taken for a header, another separator, ...
        _check_copy(table, edits, copied)
        with atomic_file(output, overwrite) as unfinished:
            shutil.copyfile(copy, unfinished)
    return output


def refuse_output(path: Path, output: Path, *, overwrite: bool) -> None:
    """Raises HeadwayError if a corrected copy of a file cannot have this name."""
    if path.is_dir():
        raise HeadwayError(f"{path}: a folder cannot be corrected. Give a file.")
    if output.exists() and path.exists() and output.samefile(path):
        raise HeadwayError(f"{output}: the corrected copy would replace the data itself. Give --output another name.")
    if [one.lower() for one in path.suffixes[-1:]] != [one.lower() for one in output.suffixes[-1:]]:
        raise HeadwayError(
            f"{output}: the corrected copy has the format of {path.name}, so its name ends in "
            f'"{path.suffix}". Give such a name with --output.'
        )
    refuse_existing(output, overwrite)


def _check_copy(table: Table, edits: Edits, copy: Table | None) -> None:
    """Raises HeadwayError if a copy has another difference than the edits."""
    if copy is None or table.columns != copy.columns or list(table.places) != list(copy.places):
        raise HeadwayError(
            f"{table.source}: with the new labels the file would be read differently. Nothing is written. Correct it "
            "by hand, or save the data in another format."
        )
    for place, row, copied in zip(table.places, table.rows, copy.rows, strict=True):
        expected = {**row, **edits.get(place, {})}
        wrong = next((name for name in table.columns if not _same(expected[name], copied[name])), None)
        if wrong is not None:
            raise HeadwayError(
                f'{format_place(table.source, table.unit, place)}: column "{wrong}" cannot be changed to '
                f"{shorten(expected[wrong])!r} in this file (it would be read as {shorten(copied[wrong])!r}): a "
                "merged cell, or a value that the format cannot hold. Nothing is written. Correct this row by hand, "
                "or save the data in another format."
            )


def _same(expected: Any, found: Any) -> bool:
    return expected == found or (expected != expected and found != found)  # NaN
