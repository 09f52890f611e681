"""CoNLL files: a word and its tags on each line, a blank line after each sentence.

Reads CoNLL-2003 (Tjong Kim Sang and De Meulder 2003, https://aclanthology.org/W03-0419), CoNLL-U
(https://universaldependencies.org/format.html), MultiCoNER, GermEval 2014 and two-column IOB files.
"""

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ....core.errors import HeadwayError
from ..column_names import KNOWN_COLUMNS, normalize_name
from ..places import shorten
from ..rows import Rows, RowStream
from . import conll_u
from .conll_lines import ENTITY_TAG, LineSplitter, usual_width
from .csv_files import TSV_SUFFIXES
from .file_format import FileFormat, SourceFile
from .text_files import Sample

CONLL_U_SUFFIX = ".conllu"
SUFFIXES = (".conll", CONLL_U_SUFFIX, ".iob", ".iob2", ".bio")
# Names of columns of words or tags, normalized.
WORD_COLUMNS = frozenset({"token", "tokens", "word", "words", "tag", "tags", "nertags", "ner", "pos", "chunk"})
OUTSIDE_MARKS = ("_", "-", "0")  # written for O by some tools
MIN_SAME_WIDTH = 0.9  # share of the lines that have the same number of columns

MAX_BEFORE_COUNTER = 3  # columns before a running number: CoNLL-2012 has the document and its part there

Sentence = list[list[str]]


def _matches(file: SourceFile) -> bool:
    if file.suffix in SUFFIXES:
        return True
    lines = file.sample.filled_lines
    is_table = file.suffix in TSV_SUFFIXES and bool(lines) and _is_table_header(lines[0])
    return not is_table and _looks_like_conll(file.sample)


def _is_table_header(line: str) -> bool:
    """Whether all cells are well-known column names, and none is the name of a column of words or tags."""
    return {normalize_name(cell) for cell in line.split("\t")} <= KNOWN_COLUMNS - WORD_COLUMNS


def _looks_like_conll(sample: Sample) -> bool:
    """Whether lines have the same number of columns, and end in entity tags or form sentences of words.

    Where they end in entity tags, some lines may have another number: they are errors, named by their line.
    """
    splitter = LineSplitter.infer(sample.lines)
    lines = splitter.token_lines(sample.lines)
    rows = [splitter.split(line) for line in lines if line.strip()]
    width = usual_width(rows)
    same = [row for row in rows if len(row) == width]
    if width < 2 or len(same) < MIN_SAME_WIDTH * len(rows):
        return False
    if all(row[-1] in OUTSIDE_MARKS or ENTITY_TAG.fullmatch(row[-1]) for row in same) and any(
        ENTITY_TAG.fullmatch(row[-1]) for row in same
    ):
        return True
    if len(same) < len(rows) or any("\t" in line and not line.strip() for line in lines):
        return False  # a row of empty cells in a TSV
    sentences = sum(filled for filled, _ in groupby(lines, lambda line: bool(line.strip())))
    single_words = not any(" " in cell for row in rows for cell in row)
    return single_words and sentences > 1 and len(rows) >= max(5, 2 * sentences)


@dataclass(frozen=True)
class Layout:
    """How to read the lines of a file."""

    columns: tuple[str, ...]
    header: bool
    universal: bool  # CoNLL-U
    splitter: LineSplitter
    notes: tuple[str, ...] = ()

    @classmethod
    def infer(cls, file: SourceFile) -> "Layout":
        """The layout of a file.

        Raises:
            HeadwayError: it has no sentence.
        """
        splitter = LineSplitter.infer(file.sample.lines)
        lines = splitter.token_lines(file.sample.lines)
        sentences = [
            [splitter.split(line) for line in group]
            for filled, group in groupby(lines, lambda line: bool(line.strip()))
            if filled
        ]
        rows = [row for sentence in sentences for row in sentence]
        if not rows:
            raise HeadwayError(f"{file.path}: the file has no sentence. Write a word and its tag on each line.")
        header = file.options.header
        if header is None:
            header = len(rows) > 1 and all(normalize_name(cell) in KNOWN_COLUMNS | WORD_COLUMNS for cell in rows[0])
        if header:
            del sentences[0][0]
        width = usual_width(rows)
        same = [[row for row in sentence if len(row) == width] for sentence in sentences]
        numbered = splitter.has_universal_ids(row for sentence in same for row in sentence)
        if width == len(conll_u.COLUMNS) and (numbered or file.suffix == CONLL_U_SUFFIX):
            return cls(conll_u.COLUMNS, header, True, splitter)
        skipped = _columns_before_words([sentence for sentence in same if sentence], width)
        before = tuple(f"column_{number}" for number in range(skipped))
        between = tuple(f"column_{number}" for number in range(skipped + 1, width - 1))
        tags = ("ner_tags",) if width > skipped + 1 else ()
        columns = (*before, "tokens", *between, *tags)
        notes = (_counter_note(file, skipped),) if skipped else ()
        return cls(columns, header, False, splitter, notes)

    @property
    def words(self) -> int:
        """The position of the column of words."""
        return self.columns.index("form" if self.universal else "tokens")

    @property
    def table_columns(self) -> tuple[str, ...]:
        """The columns of the table: those of the lines, and what comments tell about the sentences."""
        return (*self.columns, *(conll_u.SENTENCE_COLUMNS if self.universal else ()))

    def is_comment(self, line: str) -> bool:
        """Whether a line is a comment."""
        return conll_u.is_comment(line) if self.universal else self.splitter.is_comment(line)

    def has_words(self, rows: Sentence) -> bool:
        """Whether the rows of a sentence are not all empty nodes and multiword tokens."""
        return not self.universal or any(row[0].isdecimal() for row in rows)

    def sentence(self, rows: Sentence, comments: list[str]) -> dict[str, Any]:
        """The rows of a sentence as one list per column."""
        if self.universal:
            return conll_u.sentence_row(rows, comments)
        return dict(zip(self.columns, map(list, zip(*rows, strict=True)), strict=True))


def _columns_before_words(sentences: list[Sentence], width: int) -> int:
    """The number of columns up to a running number that starts again at each sentence; 0 without such a column.

    Columns before the running number must be the same in all lines of a sentence, as those of a document are. A last
    column of words follows it in text without tags.
    """
    if not any(len(sentence) > 2 for sentence in sentences):
        return 0
    tagged = all(ENTITY_TAG.fullmatch(row[-1]) or row[-1] in OUTSIDE_MARKS for rows in sentences for row in rows)
    for column in range(min(width - 1 - tagged, MAX_BEFORE_COUNTER)):
        if all(_counts(sentence, column) for sentence in sentences):
            return column + 1
        if any(row[column] != sentence[0][column] for sentence in sentences for row in sentence):
            return 0
    return 0


def _counts(sentence: Sentence, column: int) -> bool:
    first = sentence[0][column]
    return first in ("0", "1") and all(row[column] == str(int(first) + i) for i, row in enumerate(sentence))


def _counter_note(file: SourceFile, skipped: int) -> str:
    ordinal = ("first", "second", "third")[skipped - 1]
    return (
        f"{file.path}: the {ordinal} column counts the words of each sentence (1, 2, 3, ...), so the words are read "
        f"from column {skipped + 1} (--text column_{skipped - 1}: read the numbers as the words)"
    )


def _open(file: SourceFile) -> RowStream:
    layout = Layout.infer(file)
    splitter = layout.splitter

    def read() -> Rows:
        sentence: Sentence = []
        comments: list[str] = []
        place, skip_header, after_blank = 0, layout.header, False
        for number, line in enumerate(file.lines(), start=1):
            if layout.is_comment(line):
                comments.append(line)
                continue
            if splitter.ends_sentence(line):
                if sentence and layout.has_words(sentence):
                    yield place, layout.sentence(sentence, comments)
                sentence, comments = [], []
                after_blank = not line.strip()
                continue
            if skip_header:
                skip_header = False
                continue
            row = splitter.split(line)
            _check_row(f"{file.path}, line {number}", line, row, layout, after_blank)
            after_blank = False
            place = place if sentence else number
            sentence.append(row)
        if sentence and layout.has_words(sentence):
            yield place, layout.sentence(sentence, comments)

    kind, named = ("CoNLL-U", True) if layout.universal else ("CoNLL", layout.header)
    return RowStream(str(file.path), kind, layout.table_columns, named, read, notes=layout.notes)


def _check_row(where: str, line: str, row: list[str], layout: Layout, after_blank: bool) -> None:
    """Checks that a line has all columns and a word.

    Args:
        where: The line, for messages.
        line: The line.
        row: Its columns.
        layout: That of the file.
        after_blank: Whether the line before it is blank.

    Raises:
        HeadwayError: It has not.
    """
    words = layout.words
    empty = "write another sign for it, or delete it with its tag"
    if len(row) == len(layout.columns):
        if layout.universal:
            conll_u.check_id(where, row)
        if row[words].strip() or not layout.splitter.tabs:
            return
        cause = "The word may be a line break, which ends the sentence here" if after_blank else "It may be a space"
        raise HeadwayError(f"{where}: the word is empty. {cause}: {empty}.")
    if len(row) > len(layout.columns) and "" in row[: words + 2]:
        raise HeadwayError(f"{where}: the word is empty, or a TAB, the separator here: {empty}.")
    sign = "TABs" if layout.splitter.tabs else "spaces"
    number = "1 column" if len(row) == 1 else f"{len(row)} columns"
    missing = ", so a word or a tag is missing" if len(row) < len(layout.columns) else ""
    raise HeadwayError(
        f'{where}: {number} where {len(layout.columns)} are expected{missing}: "{shorten(line)}". Each line has a '
        f"word and its tags, separated by {sign}; a blank line ends a sentence."
    )


CONLL = FileFormat(
    _matches,
    _open,
    frozenset({"header", "encoding"}),
    title="CoNLL",
    files="`.conll`, `.conllu`, `.iob`, `.iob2`, `.bio`, or lines of a word and its tags; a blank line ends a "
    "sentence, which is a row",
)
