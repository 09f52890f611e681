"""The list of all file formats. A new format needs one file and one entry here."""

from dataclasses import replace
from pathlib import Path

from ..read_options import INFER, ReadOptions
from ..rows import RowStream
from .brat import BRAT
from .conll import CONLL
from .csv_files import CSV, TSV
from .docbin import DOCBIN
from .file_format import FileFormat, SourceFile
from .hf_datasets import SAVED_DATA_SET
from .json_files import JSON
from .labelled_lines import LABELLED_LINES
from .parquet import PARQUET
from .plain_lines import PLAIN_LINES
from .text_files import require_file
from .webanno import WEBANNO
from .xlsx_files import XLSX

# The first format that matches is used. The last one matches every text file.
FILE_FORMATS = (PARQUET, XLSX, DOCBIN, CSV, WEBANNO, JSON, CONLL, LABELLED_LINES, TSV, PLAIN_LINES)
FOLDER_FORMATS = (SAVED_DATA_SET, BRAT)


def open_path(path: Path, options: ReadOptions = INFER) -> RowStream:
    """Opens a file or folder as a stream of rows.

    Args:
        path: The file or folder.
        options: How to read it.

    Raises:
        HeadwayError: There is no such file, its format is not supported, or an option has no meaning for it.
    """
    file = SourceFile(path, options)
    found = find_format(file)
    stream = found.open(file)
    options.refuse_unused(str(path), stream.kind, found.options)
    notes = file.encoding.notes if "encoding" in found.options and path.is_file() else ()
    return replace(stream, notes=(*notes, *stream.notes))


def find_format(file: SourceFile) -> FileFormat:
    """The format of a file or folder.

    Raises:
        HeadwayError: There is no such file, or its format is not supported.
    """
    found = next((one for one in FOLDER_FORMATS if one.matches(file)), None) if file.path.is_dir() else None
    if found is None:
        require_file(file.path)
        found = next(one for one in FILE_FORMATS if one.matches(file))
    return found
