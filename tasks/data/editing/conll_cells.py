"""Tags of CoNLL files."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..reading.conll import Layout
from ..reading.file_format import SourceFile
from ..rows import Table
from .raw_text import RawText

CELL = re.compile(r"[^ \t\r\n]+")  # where spaces separate columns


def edit_conll(file: SourceFile, table: Table, edits: Mapping[int, Mapping[str, Any]]) -> bytes:
    """A file with new tags, which a row has as a list with one for each word."""
    raw, layout = RawText.read(file), Layout.infer(file)
    lines = list(raw.lines)
    for place, row in edits.items():
        for name, values in row.items():
            _edit_sentence(lines, place - 1, table.columns.index(name), values, layout)
    return raw.to_bytes(lines)


def _edit_sentence(lines: list[str], first: int, column: int, values: Sequence[str], layout: Layout) -> None:
    """Changes a column of the sentence that begins at a line."""
    left, number = list(values), first
    while left:
        line = lines[number]
        if not layout.is_comment(line) and layout.has_words([layout.splitter.split(line)]):
            lines[number] = _edit_line(line, column, left.pop(0), tabs=layout.splitter.tabs)
        number += 1


def _edit_line(line: str, column: int, value: str, *, tabs: bool) -> str:
    if tabs:
        body = line.rstrip("\r\n")
        cells = body.split("\t")
        cells[column] = value if cells[column].strip() != value else cells[column]
        return "\t".join(cells) + line[len(body) :]
    cell = list(CELL.finditer(line))[column]
    return line[: cell.start()] + value + line[cell.end() :]
