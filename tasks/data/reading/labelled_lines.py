"""Text files with a label at the start of each line.

Two formats: fastText ("__label__good text", https://fasttext.cc/docs/en/supervised-tutorial.html) and TREC
("DESC:manner How did serfdom ...", Li and Roth 2002, https://aclanthology.org/C02-1150).
"""

import re

from ....core.errors import HeadwayError
from ..places import shorten
from ..rows import Rows, RowStream
from .csv_files import TSV_SUFFIXES
from .file_format import FileFormat, SourceFile

FASTTEXT_LABEL = "__label__"
FASTTEXT = re.compile(r"((?:__label__\S+(?:\s+|$))+)(.*)")
TREC = re.compile(r"([A-Z][A-Z_]*):(\w+)\s+(\S.*)")


def _matches(file: SourceFile) -> bool:
    lines = file.sample.filled_lines
    labelled = sum(bool(FASTTEXT.fullmatch(line) or TREC.fullmatch(line)) for line in lines)
    return file.suffix not in TSV_SUFFIXES and bool(lines) and labelled >= 0.9 * len(lines)


def _open(file: SourceFile) -> RowStream:
    fasttext = any(line.startswith(FASTTEXT_LABEL) for line in file.sample.lines)
    pattern, columns = (FASTTEXT, ("label", "text")) if fasttext else (TREC, ("label", "fine", "text"))

    def read() -> Rows:
        for number, line in enumerate(file.lines(), start=1):
            if not line.strip():
                continue
            match = pattern.fullmatch(line.rstrip("\r\n"))
            if match is None:
                prefix = f"{FASTTEXT_LABEL}NAME" if fasttext else "LABEL:fine"
                raise HeadwayError(
                    f'{file.path}, line {number}: does not start with {prefix} like the others: "{shorten(line)}". '
                    "Put its label before the text, or delete the line."
                )
            if fasttext:
                labels = [label.removeprefix(FASTTEXT_LABEL) for label in match[1].split()]
                yield number, {"label": ";".join(labels), "text": match[2]}
            else:
                yield number, {"label": match[1], "fine": f"{match[1]}:{match[2]}", "text": match[3]}

    return RowStream(str(file.path), "label-prefixed lines", columns, False, read)


LABELLED_LINES = FileFormat(
    _matches,
    _open,
    title="Labelled lines",
    files="Lines that begin with `__label__NAME` (fastText) or `LABEL:fine` (TREC)",
)
