"""Text files of every layout people have -> a stream of rows: CSV (RFC 4180), TSV, CoNLL, labelled and plain lines.

The layout is told from the file's name and a sample of its lines; rows are then read one at a time, in constant
memory. A row that does not fit stops the reading with its line: nothing is trained on half-read data.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from ....core.errors import HeadwayError
from ..column_names import KNOWN_COLUMNS, normalize_name
from ..places import shorten
from ..rows import Rows, RowStream
from .lines import Sample, read_lines, take_sample

if TYPE_CHECKING:
    import _csv

Records = Iterator[tuple[int, list[str]]]

DELIMITERS = ",;\t|"
CONLL_ENDINGS = (".conll", ".iob", ".iob2", ".bio")
TSV_ENDINGS = (".tsv", ".tab")
DOCUMENT_MARK = "-DOCSTART-"  # of CoNLL-2003, before each of its documents
# How the columns of words and of their tags are called.
WORD_NAMES = frozenset({"token", "tokens", "word", "words", "tag", "tags", "nertags", "ner", "pos", "chunk"})

FASTTEXT = re.compile(r"((?:__label__\S+(?:\s+|$))+)(.*)")
TREC = re.compile(r"([A-Z][A-Z_]*):(\w+)\s+(\S.*)")  # Li and Roth (2002): DESC:manner How did serfdom ...
ENTITY_TAG = re.compile(r"O|[BIESLUM]-\S+")
PART_OF_SPEECH = re.compile(r"[A-Z]+\$?|\W+")  # a "#" is its own
CONLL_U = ("id", "tokens", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
CONLL_U_ID = re.compile(r"\d+([-.]\d+)?")  # 3; 3-4 is written as one word, and 3.1 is not written at all
DIGITS = re.compile(r"[-+]?[\d.,]*\d[\d.,]*%?")
NAME_LIKE = re.compile(r"[^\W\d][\w.#/()-]*( [\w.#/()-]+){0,2}")


def layout_of(ending: str, sample: Sample) -> str:
    """The kind of a text file that is no JSON, from the ending of its name and its first lines."""
    if ending == ".csv":
        return "CSV"
    lines = [line for line in sample.lines if line.strip()]
    is_table = ending in TSV_ENDINGS and lines and _names_a_table(lines[0])
    if ending in CONLL_ENDINGS or (_looks_like_conll(sample) and not is_table):
        return "CoNLL"
    if ending in TSV_ENDINGS:
        return "TSV"
    labelled = sum(bool(FASTTEXT.fullmatch(line) or TREC.fullmatch(line)) for line in lines)
    if labelled >= 0.9 * len(lines):
        return "label-prefixed lines"
    tabs = Counter(line.count("\t") for line in lines)
    most_common, times = tabs.most_common(1)[0]
    return "TSV" if most_common and times > 0.8 * len(lines) else "lines"


def _names_a_table(line: str) -> bool:
    """Whether a line is a header by names that everybody knows, and none of them is that of words or tags."""
    names = {normalize_name(cell) for cell in line.split("\t")}
    return names <= KNOWN_COLUMNS - WORD_NAMES


def open_text(path: Path, ending: str, header: bool | None) -> RowStream:
    """Opens a CSV, TSV, CoNLL, label-prefixed or plain text file as a stream of rows."""
    sample = take_sample(path)
    kind = layout_of(ending, sample)
    if kind == "CoNLL":
        return _open_conll(path, sample, header)
    if kind == "label-prefixed lines":
        return _open_labelled(path, sample)
    if kind == "lines":
        return _open_lines(path, sample, header)
    return _open_table(path, kind, sample, header)


# Tables: CSV, where quotes quote, and TSV, where they are letters like any other.


def _open_table(path: Path, kind: str, sample: Sample, header: bool | None) -> RowStream:
    delimiter = _sniff_delimiter(sample) if kind == "CSV" else "\t"

    def records(lines: Iterable[str], strict: bool = True) -> Records:
        if kind == "TSV":
            return _tsv_records(lines)
        return _csv_records(path, lines, delimiter, strict)

    seen = _whole_records(records, sample)
    if not seen:  # one record that is longer than the sample
        seen = [next(records(read_lines(path)))]
    first = seen[0][1]
    if header is None:
        width = _usual_width(seen[1:]) or len(first)
        header = len(first) == width and looks_like_header(
            first, [record for _, record in seen[1:] if len(record) == width]
        )
    if header:
        columns = _header_names(path, seen[0][0], first)
        if sample.whole and len(seen) == 1:
            raise HeadwayError(
                f"{path}, line {seen[0][0]}: only a header ({shorten(', '.join(columns))}) and no row below it. "
                "Add rows, or say that the file has no header."
            )
    else:
        columns = tuple(str(number) for number in range(_usual_width(seen)))

    def read() -> Rows:
        found = records(read_lines(path))
        if header:
            next(found)
        for place, record in found:
            if len(record) == 1 < len(columns) and not record[0].strip():
                continue  # a line of spaces
            if len(record) != len(columns):
                raise _wrong_width(path, kind, delimiter, place, record, columns)
            yield place, dict(zip(columns, record, strict=True))

    return RowStream(str(path), kind, columns, header, read)


def _tsv_records(lines: Iterable[str]) -> Records:
    for number, line in enumerate(lines, start=1):
        record = line.rstrip("\r\n")
        if record:
            yield number, record.split("\t")


def _csv_records(path: Path, lines: Iterable[str], delimiter: str, strict: bool) -> Records:
    reader = _csv_reader(lines, delimiter, strict)
    while True:
        place = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error as error:
            raise _broken_quote(path, place, reader.line_num, str(error)) from error
        if record is None:
            return
        if record:
            yield place, record


def _csv_reader(lines: Iterable[str], delimiter: str, strict: bool) -> "_csv.Reader":
    csv.field_size_limit(2**31 - 1)  # the largest that every platform takes; the default refuses long documents
    return csv.reader(_cr_lines(lines), delimiter=delimiter, strict=strict)


def _cr_lines(lines: Iterable[str]) -> Iterator[str]:
    """Lines that end at a CR as well, as spreadsheets on old Macs wrote them."""
    for line in lines:
        if "\r" in line.rstrip("\r\n"):
            yield from re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", line)
        else:
            yield line


def _whole_records(records: Callable[[Iterable[str], bool], Records], sample: Sample) -> list[tuple[int, list[str]]]:
    """The records of a sample, without one that the sample's end may have cut."""
    found = list(records((line + "\n" for line in sample.lines), sample.whole))
    return found if sample.whole else found[:-1]


def _sniff_delimiter(sample: Sample) -> str:
    """The sign that cuts most rows into as many fields as the first one, and that the fewest spaces follow."""
    best, best_score = ",", (0.0, 0.0)
    for delimiter in DELIMITERS:
        reader = _csv_reader((line + "\n" for line in sample.lines), delimiter, strict=False)
        records = [record for record in reader if record]
        width = len(records[0])
        if width == 1:
            continue
        share = sum(len(record) == width for record in records) / len(records)
        after = [field.startswith(" ") for record in records for field in record[1:]]
        score = (round(share, 1), 1 - sum(after) / len(after))
        if share >= 0.5 and score > best_score:
            best, best_score = delimiter, score
    return best


def _usual_width(records: Sequence[tuple[int, list[str]]]) -> int:
    widths = Counter(len(record) for _, record in records)
    return widths.most_common(1)[0][0] if widths else 0


def looks_like_header(first: Sequence[str], rest: Sequence[Sequence[str]]) -> bool:
    """Whether the first row of a table names the columns: known names, or names above columns unlike them."""
    cells = [cell.strip() for cell in first]
    below = [{row[column].strip() for row in rest} - {""} for column in range(len(cells))]
    if len(cells) > 1 and cells == [str(number) for number in range(len(cells))]:
        return any(not DIGITS.fullmatch(cell) for cell in set().union(*below))  # pandas numbers unnamed columns
    if any(DIGITS.fullmatch(cell) or len(cell) > 60 for cell in cells):
        return False
    recurs = [cell in seen for cell, seen in zip(cells, below, strict=True)]
    if any(normalize_name(cell) in KNOWN_COLUMNS and not again for cell, again in zip(cells, recurs, strict=True)):
        return True
    if any(recurs):
        return False
    if any(cell and seen and all(map(DIGITS.fullmatch, seen)) for cell, seen in zip(cells, below, strict=True)):
        return True
    # Names that nobody knows: only a column of few values, none of which is its first cell, gives them away.
    # An empty name in front is that of the row numbers that pandas writes.
    named = all(NAME_LIKE.fullmatch(cell) for cell in (cells[1:] if cells[0] == "" else cells))
    return named and len(rest) >= 4 and any(2 * len(seen) <= len(rest) for seen in below if seen)


def _header_names(path: Path, place: int, first: Sequence[str]) -> tuple[str, ...]:
    names = [cell.strip() or str(number) for number, cell in enumerate(first)]
    for number, name in enumerate(names):
        if names.index(name) != number:
            raise HeadwayError(
                f'{path}, line {place}: the header has "{name}" twice (columns {names.index(name)} and {number}, '
                "counted from 0). Rename one of them."
            )
    return tuple(names)


def _wrong_width(
    path: Path, kind: str, delimiter: str, place: int, record: Sequence[str], columns: Sequence[str]
) -> HeadwayError:
    sign = {"\t": "TAB", ",": "comma", ";": "semicolon", "|": "vertical bar"}[delimiter]
    if kind == "TSV":
        many = "a stray TAB inside a text; take it out"
        few = "a line break inside a text, or a missing TAB (in a TSV quotes do not quote; in a .csv they do)"
    else:
        many = f'a {sign} inside a text that is not in quotes; write such a text as "..."'
        few = f'a line break inside a text that is not in quotes (write such a text as "..."), or a missing {sign}'
    cause = many if len(record) > len(columns) else few
    fields = "1 field" if len(record) == 1 else f"{len(record)} fields"
    return HeadwayError(
        f"{path}, line {place}: {fields} where {len(columns)} are expected ({shorten(', '.join(columns))}). "
        f'The row begins "{shorten(delimiter.join(record), 50)}". Most likely {cause}.'
    )


def _broken_quote(path: Path, place: int, last: int, reason: str) -> HeadwayError:
    if "unexpected end" in reason:
        what = f"a quote that opens here is never closed (looked for up to the file's end, line {last})"
    elif last > place:
        what = f"a quote that opens here is not closed before line {last}, where it meets another one"
    else:
        what = "text follows the closing quote of a field"
    return HeadwayError(
        f'{path}, line {place}: {what}. Close it; a quote inside a quoted text is written twice (""). '
        "If quotes are plain letters in this file, separate the columns by TABs and let its name end in .tsv."
    )


# One text a line, with or without a label before it.


def _open_lines(path: Path, sample: Sample, header: bool | None) -> RowStream:
    texts = [line.strip() for line in sample.lines if line.strip()]
    if header is None:
        header = len(texts) > 1 and normalize_name(texts[0]) in KNOWN_COLUMNS and texts[0] not in texts[1:]
    column = texts[0] if header else "text"

    def read() -> Rows:
        skip = header
        for number, line in enumerate(read_lines(path), start=1):
            if not line.strip():
                continue
            if skip:
                skip = False
                continue
            yield number, {column: line.rstrip("\r\n")}

    return RowStream(str(path), "lines", (column,), header, read)


def _open_labelled(path: Path, sample: Sample) -> RowStream:
    fasttext = any(line.startswith("__label__") for line in sample.lines)
    pattern, columns = (FASTTEXT, ("label", "text")) if fasttext else (TREC, ("label", "fine", "text"))

    def read() -> Rows:
        for number, line in enumerate(read_lines(path), start=1):
            if not line.strip():
                continue
            match = pattern.fullmatch(line.rstrip("\r\n"))
            if match is None:
                begins = "__label__NAME" if fasttext else "LABEL:fine"
                raise HeadwayError(
                    f'{path}, line {number}: does not begin with {begins} as the other lines: "{shorten(line)}". '
                    "Put its label before the text, or take the line out."
                )
            if fasttext:
                labels = [label.removeprefix("__label__") for label in match[1].split()]
                yield number, {"label": ";".join(labels), "text": match[2]}
            else:
                yield number, {"label": match[1], "fine": f"{match[1]}:{match[2]}", "text": match[3]}

    return RowStream(str(path), "label-prefixed lines", columns, False, read)


# CoNLL: a word and its tags a line, a blank line after each sentence.


def _conll_cells(line: str) -> list[str]:
    """The columns of a line: at TABs where it has one, else at plain spaces (others may stand inside a word)."""
    if "\t" in line:
        word, *tags = line.rstrip("\r\n").split("\t")
        return [word, *(tag.strip() for tag in tags)]
    return [cell for cell in line.rstrip("\r\n").split(" ") if cell]


def _comment_of(lines: Sequence[str]) -> Callable[[str], bool]:
    """What tells comments ("# id 4d9b domain=en", "# sent_id = 1") from the word "#" with its tags.

    Args:
        lines: of the file, as many as a sample has.
    """
    others = [line for line in lines if line.strip() and not line.startswith(("# ", DOCUMENT_MARK))]
    cells = [_conll_cells(line) for line in others]
    width = len(cells[0]) if cells else 0
    tags = {row[-1] for row in cells}
    # There a comment may end as a tag does ("# text = Vitamin O"); where spaces part tags, a tag may be missing.
    by_width = width == 1 or all("\t" in line for line in others)

    def is_comment(line: str) -> bool:
        if not line.startswith("# "):
            return False
        row = _conll_cells(line)
        is_tag = row[-1] in tags or ENTITY_TAG.fullmatch(row[-1])
        is_tag = is_tag or (len(row) == width and PART_OF_SPEECH.fullmatch(row[-1]))
        return not is_tag or (by_width and len(row) != width)

    return is_comment


def _conll_lines(sample: Sample) -> list[str]:
    """A sample's lines but for comments and the marks between documents."""
    is_comment = _comment_of(sample.lines)
    return [line for line in sample.lines if not line.startswith(DOCUMENT_MARK) and not is_comment(line)]


def _looks_like_conll(sample: Sample) -> bool:
    """Lines of equally many columns that end in entity tags, or that blank lines group into sentences of words."""
    lines = _conll_lines(sample)
    cells = [_conll_cells(line) for line in lines if line.strip()]
    if not cells or len({len(row) for row in cells}) != 1 or len(cells[0]) < 2:
        return False
    if all(ENTITY_TAG.fullmatch(row[-1]) for row in cells):
        return True
    if any("\t" in line and not line.strip() for line in lines):
        return False  # a table's row of empty cells
    groups = [list(group) for filled, group in groupby(lines, lambda line: bool(line.strip())) if filled]
    words = not any(" " in cell for row in cells for cell in row)
    return words and len(groups) > 1 and len(cells) >= max(5, 2 * len(groups))


def _open_conll(path: Path, sample: Sample, header: bool | None) -> RowStream:
    is_comment = _comment_of(sample.lines)
    cells = [_conll_cells(line) for line in _conll_lines(sample) if line.strip()]
    if not cells:
        raise HeadwayError(f"{path}: no sentence in it. Write a word and its tag on each line.")
    first = cells[0]
    if header is None:
        header = len(cells) > 1 and all(normalize_name(cell) in KNOWN_COLUMNS | WORD_NAMES for cell in first)
    width = len(first)
    universal = width == len(CONLL_U) and all(CONLL_U_ID.fullmatch(row[0]) for row in cells)
    if universal:
        columns = CONLL_U
    else:
        between = (f"column_{number}" for number in range(1, width - 1))
        columns = ("tokens", *between, "ner_tags") if width > 1 else ("tokens",)

    def read() -> Rows:
        sentence: list[list[str]] = []
        start, skip = 0, header
        for number, line in enumerate(read_lines(path), start=1):
            if is_comment(line):
                continue
            blank = not line.strip() or line.startswith(DOCUMENT_MARK)
            if blank and sentence:
                yield start, dict(zip(columns, map(list, zip(*sentence, strict=True)), strict=True))
                sentence = []
            if blank:
                continue
            if skip:
                skip = False
                continue
            row = _conll_cells(line)
            if len(row) != width:
                raise HeadwayError(
                    f'{path}, line {number}: {len(row)} columns where {width} are expected: "{shorten(line)}". '
                    "Each line holds a word and its tags, separated by TABs or spaces; a blank line ends a sentence."
                )
            if universal and not row[0].isdecimal():
                continue
            start = start if sentence else number
            sentence.append(row)
        if sentence:
            yield start, dict(zip(columns, map(list, zip(*sentence, strict=True)), strict=True))

    return RowStream(str(path), "CoNLL", columns, header, read)
