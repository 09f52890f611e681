"""CSV (RFC 4180), where quotes delimit a field, and TSV, where quotes are ordinary characters.

Rows are read one at a time, in constant memory. A row with too few or too many fields is an error. The line `sep=;`
that Excel writes and reads names the separator. Text that Excel saves as "Unicode text" is TSV with quotes.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING

from ....core.errors import HeadwayError
from ..column_names import KNOWN_COLUMNS, normalize_name
from ..places import format_place, shorten
from ..rows import Rows, RowStream
from .file_format import FileFormat, SourceFile
from .limits import MAX_CELL_CHARACTERS, MEBIBYTE
from .table_layout import TableLayout, infer_layout

if TYPE_CHECKING:
    import _csv

Records = Iterator[tuple[int, list[str]]]  # (line number of the first line, fields)

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "TAB", "|": "vertical bar"}
CSV_SUFFIX = ".csv"
WORKBOOK_SUFFIXES = (".xls", ".xlsx")  # also of text that was named so
TSV_SUFFIXES = (".tsv", ".tab")
OPTIONS = frozenset({"header", "encoding", "delimiter", "decimal"})
SEP_LINE = re.compile(r'"?sep=(.)"?,*\s*', re.IGNORECASE)  # an instruction of Excel; "," if it was saved as CSV again
QUOTED = re.compile(r'"[^"]*(?:""[^"]*)*"(?!")')
MIN_TABLE_LINES = 4
MIN_SAME_WIDTH = 0.8  # share of the lines, from which TABs separate columns


@dataclass(frozen=True)
class Dialect:
    """How the lines of a file become records.

    Args:
        path: The file, for messages.
        delimiter: Between the fields.
        quoted: Whether quotes delimit a field.
        skipped: Number of lines before the table.
        notes: What was inferred.
    """

    path: Path
    delimiter: str
    quoted: bool
    skipped: int = 0
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The name of the format."""
        return "TSV" if self.delimiter == "\t" and not self.quoted else "CSV"

    def records(self, lines: Iterable[str], *, strict: bool = True) -> Records:
        """The records from the first one that is not blank; `strict` raises HeadwayError for an unmatched quote."""
        numbered = ("\n" if number < self.skipped else line for number, line in enumerate(lines))
        records = self._quoted_records(numbered, strict) if self.quoted else self._plain_records(numbered)
        return dropwhile(lambda record: not any(field.strip() for field in record[1]), records)

    def split(self, record: str) -> list[str] | None:
        """The fields of a record as they are written, with their quotes; None if a quote is not closed."""
        if not self.quoted:
            return record.split(self.delimiter)
        fields, start = [], 0
        while True:
            end = start
            if record[start : start + 1] == '"':
                closing = QUOTED.match(record, start)
                if closing is None:
                    return None
                end = closing.end()
            end = record.find(self.delimiter, end)
            if end < 0:
                return [*fields, record[start:]]
            fields.append(record[start:end])
            start = end + 1

    def _plain_records(self, lines: Iterable[str]) -> Records:
        for number, line in enumerate(lines, start=1):
            record = line.rstrip("\r\n")
            if record:
                yield number, record.split(self.delimiter)

    def _quoted_records(self, lines: Iterable[str], strict: bool) -> Records:
        reader = _csv_reader(lines, self.delimiter, strict)
        while True:
            place = reader.line_num + 1
            try:
                fields = next(reader, None)
            except csv.Error as error:
                raise _unreadable_record(self.path, place, reader.line_num, str(error)) from error
            if fields is None:
                return
            if fields:
                yield place, fields


def _has_tabs(file: SourceFile) -> bool:
    """Whether the name says TSV, or most lines have the same number of TABs."""
    if file.suffix in TSV_SUFFIXES:
        return True
    lines = file.sample.filled_lines
    return bool(lines) and "\t" in lines[0] and (_is_even(file.path, lines, quoted=False) or _is_quoted_tsv(file))


def _is_even(path: Path, lines: Sequence[str], delimiter: str = "\t", *, quoted: bool) -> bool:
    """Whether most records have the same number of fields, and more than one."""
    records = Dialect(path, delimiter, quoted).records((f"{line}\n" for line in lines), strict=False)
    widths = Counter(len(fields) for _, fields in records)
    width, number = widths.most_common(1)[0] if widths else (0, 0)
    return width > 1 and number > MIN_SAME_WIDTH * widths.total()


def _is_quoted_tsv(file: SourceFile) -> bool:
    """Whether records have the same number of fields only if line breaks in quotes do not end a record."""
    lines = file.sample.lines
    has_quotes = any('\t"' in line or line.startswith('"') for line in lines)
    return has_quotes and not _is_even(file.path, lines, quoted=False) and _is_even(file.path, lines, quoted=True)


def _is_csv(file: SourceFile) -> bool:
    """Whether the name or an option says CSV, or a file without a known suffix begins with well-known column names."""
    if file.suffix == CSV_SUFFIX or file.options.delimiter is not None:
        return True
    if file.suffix not in ("", *WORKBOOK_SUFFIXES) or not (lines := file.sample.filled_lines):
        return False
    dialect = infer_dialect(file)
    names = next((fields for _, fields in dialect.records(lines, strict=False)), [])
    known = sum(normalize_name(name) in KNOWN_COLUMNS for name in names)
    columns = len(names) > 1 and known > 0
    return columns and dialect.delimiter != "\t" and _is_even(file.path, lines, dialect.delimiter, quoted=True)


def describe_table(file: SourceFile) -> tuple[str, ...]:
    """A note if the lines of a file that is read otherwise could be the rows of a table."""
    lines = file.sample.filled_lines
    delimiter = _detect_delimiter(file.path, lines)
    if len(lines) < MIN_TABLE_LINES or not _is_even(file.path, lines, delimiter, quoted=True):
        return ()
    option = {"\t": "tab", "|": "bar"}.get(delimiter, _sign(delimiter))
    return (f"each line is a text; --delimiter {option} reads columns",)


def _open_csv(file: SourceFile) -> RowStream:
    return _open_table(file, infer_dialect(file))


def tsv_dialect(file: SourceFile) -> Dialect:
    """TABs as separators; quotes delimit fields only if there are line breaks in fields."""
    quoted = _is_quoted_tsv(file)
    notes = ("quotes delimit fields, since a field has line breaks",) if quoted else ()
    return Dialect(file.path, "\t", quoted, 0, notes)


def _open_tsv(file: SourceFile) -> RowStream:
    return _open_table(file, tsv_dialect(file))


CSV = FileFormat(
    _is_csv,
    _open_csv,
    OPTIONS,
    title="CSV",
    files="`.csv`, any file with `--delimiter`, or a file without a suffix that begins with usual column "
    "names; separator, header and quotes are inferred",
)
TSV = FileFormat(
    _has_tabs,
    _open_tsv,
    OPTIONS,
    title="TSV",
    files="`.tsv`, `.tab`, or a file whose lines have the same number of TABs; quotes are ordinary characters, "
    "except in Excel's Unicode text",
)


def _open_table(file: SourceFile, dialect: Dialect) -> RowStream:
    sample = _sample_records(file, dialect)
    if not sample:
        raise HeadwayError(f"{file.path}: the file is empty: no field has text. Give a file with at least one row.")
    layout = infer_layout(
        lambda place: format_place(str(file.path), "line", place),
        sample,
        header=file.options.header,
        whole=file.sample.whole,
    )

    def read() -> Rows:
        records = dialect.records(file.lines())
        if layout.header:
            next(records)
        for place, fields in records:
            cells = layout.cells(fields)
            if cells is None and len(fields) == 1 and not fields[0].strip():
                continue  # a line of spaces
            if cells is None:
                raise _wrong_width(f"{file.path}, line {place}", dialect, fields, layout)
            yield place, dict(zip(layout.columns, cells, strict=True))

    notes = (*dialect.notes, *layout.notes)
    kind, delimiter = dialect.kind, dialect.delimiter
    return RowStream(str(file.path), kind, layout.columns, layout.header, read, notes=notes, delimiter=delimiter)


def _sample_records(file: SourceFile, dialect: Dialect) -> list[tuple[int, list[str]]]:
    """The records of the sample without the last one, which may be truncated; at least two if there are as many."""
    whole = file.sample.whole
    records = list(dialect.records((f"{line}\n" for line in file.sample.lines), strict=whole))
    if not whole and len(records) < 3:
        read = dialect.records(file.lines())
        return [record for record, _ in zip(read, range(2), strict=False)]
    return records if whole else records[:-1]


def _csv_reader(lines: Iterable[str], delimiter: str, strict: bool) -> "_csv.Reader":
    csv.field_size_limit(MAX_CELL_CHARACTERS)  # the default rejects long documents
    return csv.reader(split_at_cr(lines), delimiter=delimiter, strict=strict)


def split_at_cr(lines: Iterable[str]) -> Iterator[str]:
    """Splits lines at a single CR too, the line break of spreadsheets on classic Mac OS."""
    for line in lines:
        if "\r" in line.rstrip("\r\n"):
            yield from re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", line)
        else:
            yield line


# The separator


def infer_dialect(file: SourceFile) -> Dialect:
    """The separator that is given, named by the line `sep=;`, or inferred from the records."""
    lines, skipped = file.sample.lines, 0
    instruction = SEP_LINE.fullmatch(next(iter(file.sample.filled_lines), ""))
    if instruction:
        skipped = next(number for number, line in enumerate(lines, start=1) if line.strip())
        lines = lines[skipped:]
    if file.options.delimiter is not None:
        delimiter, notes = file.options.delimiter, ()
    elif instruction:
        delimiter = instruction[1]
        notes = (f"separator: {_sign(delimiter)}, as the line {shorten(instruction[0])} says",)
    else:
        delimiter = _detect_delimiter(file.path, lines)
        notes = () if delimiter == "," else (f"separator: {_sign(delimiter)} (detected; --delimiter overrules)",)
    return Dialect(file.path, delimiter, True, skipped, notes)


def _sign(delimiter: str) -> str:
    return DELIMITERS.get(delimiter, repr(delimiter))


def _detect_delimiter(path: Path, lines: Sequence[str]) -> str:
    """The delimiter that gives most rows the width of the first row and is least often followed by a space."""
    best, best_score = ",", (0.0, 0.0)
    for delimiter in DELIMITERS:
        dialect = Dialect(path, delimiter, True)
        records = [fields for _, fields in dialect.records((f"{line}\n" for line in lines), strict=False)]
        width = len(records[0]) if records else 1
        if width == 1:
            continue
        same_width = sum(len(fields) == width for fields in records) / len(records)
        followed_by_space = [field.startswith(" ") for fields in records for field in fields[1:]]
        score = (round(same_width, 1), 1 - sum(followed_by_space) / len(followed_by_space))
        if same_width >= 0.5 and score > best_score:
            best, best_score = delimiter, score
    return best


# Errors


def _wrong_width(where: str, dialect: Dialect, fields: Sequence[str], layout: TableLayout) -> HeadwayError:
    sign, columns = _sign(dialect.delimiter), layout.columns
    if dialect.kind == "TSV":
        too_many = "a TAB inside a text; remove it"
        too_few = "a line break inside a text, or a missing TAB (quotes have no meaning in a .tsv; in a .csv they do)"
    else:
        too_many = f'a {sign} inside a text without quotes; write such a text as "..."'
        too_few = f'a line break inside a text without quotes (write such a text as "..."), or a missing {sign}'
    cause = too_many if len(fields) > len(columns) else too_few
    number = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
    return HeadwayError(
        f"{where}: {number} where {len(columns)} are expected ({shorten(', '.join(columns))}). "
        f'The row starts with "{shorten(dialect.delimiter.join(fields), 50)}". The likely cause is {cause}.'
    )


def _unreadable_record(path: Path, place: int, last: int, reason: str) -> HeadwayError:
    if "field larger than field limit" in reason:
        return HeadwayError(
            f"{path}, line {place}: a field has more than {MAX_CELL_CHARACTERS // MEBIBYTE} million characters. "
            "Close its quote, or divide the text."
        )
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
