"""CSV (RFC 4180), where quotes delimit a field, and TSV, where quotes are ordinary characters.

Rows are read one at a time, in constant memory. A row with too few or too many fields is an error.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ....core.errors import HeadwayError
from ..places import shorten
from ..rows import Rows, RowStream
from .file_format import FileFormat, SourceFile
from .header import looks_like_header
from .text_files import Sample

if TYPE_CHECKING:
    import _csv

Records = Iterator[tuple[int, list[str]]]  # (line number of the first line, fields)
RecordReader = Callable[[Iterable[str], bool], Records]  # (lines, strict) -> records

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "TAB", "|": "vertical bar"}
CSV_SUFFIX = ".csv"
TSV_SUFFIXES = (".tsv", ".tab")


def _has_tabs(file: SourceFile) -> bool:
    """Whether the name says TSV, or most lines have the same number of TABs."""
    if file.suffix in TSV_SUFFIXES:
        return True
    tabs = Counter(line.count("\t") for line in file.sample.filled_lines)
    number, lines = tabs.most_common(1)[0] if tabs else (0, 0)
    return number > 0 and lines > 0.8 * tabs.total()


def _open_csv(file: SourceFile) -> RowStream:
    delimiter = _detect_delimiter(file.sample)

    def records(lines: Iterable[str], strict: bool) -> Records:
        return _csv_records(file.path, lines, delimiter, strict)

    return _open_table(file, "CSV", delimiter, records)


def _open_tsv(file: SourceFile) -> RowStream:
    return _open_table(file, "TSV", "\t", _tsv_records)


OPTIONS = frozenset({"header", "encoding", "delimiter", "decimal"})
CSV = FileFormat(lambda file: file.suffix == CSV_SUFFIX, _open_csv, OPTIONS)
TSV = FileFormat(_has_tabs, _open_tsv, OPTIONS)


def _open_table(file: SourceFile, kind: str, delimiter: str, read_records: RecordReader) -> RowStream:
    sample = _sample_records(file, read_records)
    header = _has_header(sample) if file.options.header is None else file.options.header
    if header:
        columns = _column_names(file.path, *sample[0])
        if file.sample.whole and len(sample) == 1:
            raise HeadwayError(
                f"{file.path}, line {sample[0][0]}: only a header ({shorten(', '.join(columns))}) and no row "
                "below it. Add rows, or say that the file has no header."
            )
    else:
        columns = tuple(str(number) for number in range(_usual_width(sample)))

    def read() -> Rows:
        records = read_records(file.lines(), True)
        if header:
            next(records)
        for place, fields in records:
            if len(fields) == 1 < len(columns) and not fields[0].strip():
                continue  # a line of spaces
            if len(fields) != len(columns):
                raise _wrong_width(f"{file.path}, line {place}", kind, delimiter, fields, columns)
            yield place, dict(zip(columns, fields, strict=True))

    return RowStream(str(file.path), kind, columns, header, read)


# Records


def _sample_records(file: SourceFile, read_records: RecordReader) -> list[tuple[int, list[str]]]:
    """The records of the sample without the last one, which may be truncated; at least one record."""
    whole = file.sample.whole
    records = list(read_records((line + "\n" for line in file.sample.lines), whole))
    return (records if whole else records[:-1]) or [next(read_records(file.lines(), True))]


def _tsv_records(lines: Iterable[str], strict: bool) -> Records:  # noqa: ARG001
    for number, line in enumerate(lines, start=1):
        record = line.rstrip("\r\n")
        if record:
            yield number, record.split("\t")


def _csv_records(path: Path, lines: Iterable[str], delimiter: str, strict: bool) -> Records:
    reader = _csv_reader(lines, delimiter, strict)
    while True:
        place = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise _unmatched_quote(path, place, reader.line_num, str(error)) from error
        if fields is None:
            return
        if fields:
            yield place, fields


def _csv_reader(lines: Iterable[str], delimiter: str, strict: bool) -> "_csv.Reader":
    csv.field_size_limit(2**31 - 1)  # the largest value on every platform; the default rejects long documents
    return csv.reader(_split_at_cr(lines), delimiter=delimiter, strict=strict)


def _split_at_cr(lines: Iterable[str]) -> Iterator[str]:
    """Splits lines at a single CR too, the line break of spreadsheets on classic Mac OS."""
    for line in lines:
        if "\r" in line.rstrip("\r\n"):
            yield from re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", line)
        else:
            yield line


# Delimiter, width and header


def _detect_delimiter(sample: Sample) -> str:
    """The delimiter that gives most rows the width of the first row and is least often followed by a space."""
    best, best_score = ",", (0.0, 0.0)
    for delimiter in DELIMITERS:
        reader = _csv_reader((line + "\n" for line in sample.lines), delimiter, strict=False)
        records = [fields for fields in reader if fields]
        width = len(records[0])
        if width == 1:
            continue
        same_width = sum(len(fields) == width for fields in records) / len(records)
        followed_by_space = [field.startswith(" ") for fields in records for field in fields[1:]]
        score = (round(same_width, 1), 1 - sum(followed_by_space) / len(followed_by_space))
        if same_width >= 0.5 and score > best_score:
            best, best_score = delimiter, score
    return best


def _usual_width(records: Sequence[tuple[int, list[str]]]) -> int:
    widths = Counter(len(fields) for _, fields in records)
    return widths.most_common(1)[0][0] if widths else 0


def _has_header(records: Sequence[tuple[int, list[str]]]) -> bool:
    first = records[0][1]
    width = _usual_width(records[1:]) or len(first)
    return len(first) == width and looks_like_header(
        first, [fields for _, fields in records[1:] if len(fields) == width]
    )


def _column_names(path: Path, place: int, header: Sequence[str]) -> tuple[str, ...]:
    """The names in a header; an unnamed column gets its number."""
    names = [cell.strip() or str(number) for number, cell in enumerate(header)]
    for number, name in enumerate(names):
        if names.index(name) != number:
            raise HeadwayError(
                f'{path}, line {place}: the header has "{name}" twice (columns {names.index(name)} and {number}, '
                "counted from 0). Rename one of them."
            )
    return tuple(names)


# Errors


def _wrong_width(where: str, kind: str, delimiter: str, fields: Sequence[str], columns: Sequence[str]) -> HeadwayError:
    sign = DELIMITERS[delimiter]
    if kind == "TSV":
        too_many = "a TAB inside a text; remove it"
        too_few = "a line break inside a text, or a missing TAB (quotes have no meaning in a .tsv; in a .csv they do)"
    else:
        too_many = f'a {sign} inside a text without quotes; write such a text as "..."'
        too_few = f'a line break inside a text without quotes (write such a text as "..."), or a missing {sign}'
    cause = too_many if len(fields) > len(columns) else too_few
    number = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
    return HeadwayError(
        f"{where}: {number} where {len(columns)} are expected ({shorten(', '.join(columns))}). "
        f'The row starts with "{shorten(delimiter.join(fields), 50)}". The likely cause is {cause}.'
    )


def _unmatched_quote(path: Path, place: int, last: int, reason: str) -> HeadwayError:
    if "unexpected end" in reason:
        what = f"the quote that opens here is never closed (the file ends at line {last})"
    elif last > place:
        what = f"the quote that opens here is not closed before line {last}, which has another quote"
    else:
        what = "text follows the closing quote of a field"
    return HeadwayError(
        f'{path}, line {place}: {what}. Close it, and write a quote inside a quoted text twice (""). '
        "If quotes are ordinary characters in this file, separate the columns by TABs and rename it to .tsv."
    )
