"""CoNLL files: a word and its tags on each line, a blank line after each sentence.

Reads CoNLL-2003 (Tjong Kim Sang and De Meulder 2003, https://aclanthology.org/W03-0419), CoNLL-U
(https://universaldependencies.org/format.html), MultiCoNER and two-column IOB files.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from ....core.errors import HeadwayError
from ..column_names import KNOWN_COLUMNS, normalize_name
from ..places import shorten
from ..rows import Rows, RowStream
from .csv_files import TSV_SUFFIXES
from .file_format import FileFormat, SourceFile
from .text_files import Sample

SUFFIXES = (".conll", ".iob", ".iob2", ".bio")
DOCUMENT_START = "-DOCSTART-"  # the line before each document of CoNLL-2003
# Names of columns of words or tags, normalized.
WORD_COLUMNS = frozenset({"token", "tokens", "word", "words", "tag", "tags", "nertags", "ner", "pos", "chunk"})

ENTITY_TAG = re.compile(r"O|[BIESLUM]-\S+")
PART_OF_SPEECH = re.compile(r"[A-Z]+\$?|\W+")  # the tag of "#" is "#"
CONLL_U = ("id", "tokens", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
CONLL_U_ID = re.compile(r"\d+([-.]\d+)?")  # 3-4 is a multiword token, 3.1 an empty node

CommentCheck = Callable[[str], bool]


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
    """Whether all lines have the same number of columns, and end in entity tags or form sentences of words."""
    lines = _token_lines(sample, _comment_check(sample.lines))
    rows = [_split(line) for line in lines if line.strip()]
    if not rows or len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
        return False
    if all(ENTITY_TAG.fullmatch(row[-1]) for row in rows):
        return True
    if any("\t" in line and not line.strip() for line in lines):
        return False  # a row of empty cells in a TSV
    sentences = sum(filled for filled, _ in groupby(lines, lambda line: bool(line.strip())))
    single_words = not any(" " in cell for row in rows for cell in row)
    return single_words and sentences > 1 and len(rows) >= max(5, 2 * sentences)


def _split(line: str) -> list[str]:
    """The columns of a line, separated by TABs if it has any, else by U+0020 (words may contain other spaces)."""
    if "\t" in line:
        word, *tags = line.rstrip("\r\n").split("\t")
        return [word, *(tag.strip() for tag in tags)]
    return [cell for cell in line.rstrip("\r\n").split(" ") if cell]


def _comment_check(lines: Sequence[str]) -> CommentCheck:
    """Tells comments ("# id 4d9b domain=en", "# sent_id = 1") from the word "#" and its tags.

    Args:
        lines: The lines of the sample.
    """
    others = [line for line in lines if line.strip() and not line.startswith(("# ", DOCUMENT_START))]
    rows = [_split(line) for line in others]
    width = len(rows[0]) if rows else 0
    tags = {row[-1] for row in rows}
    # With TABs, or words alone, a line of another width is a comment, even if it ends like a tag ("# text = Vitamin
    # O"). With spaces it is not, since a tag may be missing.
    check_width = width == 1 or all("\t" in line for line in others)

    def is_comment(line: str) -> bool:
        if not line.startswith("# "):
            return False
        row = _split(line)
        ends_in_tag = row[-1] in tags or ENTITY_TAG.fullmatch(row[-1])
        ends_in_tag = ends_in_tag or (len(row) == width and PART_OF_SPEECH.fullmatch(row[-1]))
        return not ends_in_tag or (check_width and len(row) != width)

    return is_comment


def _token_lines(sample: Sample, is_comment: CommentCheck) -> list[str]:
    """The lines of a sample without comments and document starts."""
    return [line for line in sample.lines if not line.startswith(DOCUMENT_START) and not is_comment(line)]


@dataclass(frozen=True)
class _Layout:
    """How to read the lines of a file."""

    columns: tuple[str, ...]
    header: bool
    universal: bool  # CoNLL-U
    is_comment: CommentCheck

    @classmethod
    def infer(cls, file: SourceFile) -> "_Layout":
        is_comment = _comment_check(file.sample.lines)
        rows = [_split(line) for line in _token_lines(file.sample, is_comment) if line.strip()]
        if not rows:
            raise HeadwayError(f"{file.path}: the file has no sentence. Write a word and its tag on each line.")
        header = file.options.header
        if header is None:
            header = len(rows) > 1 and all(normalize_name(cell) in KNOWN_COLUMNS | WORD_COLUMNS for cell in rows[0])
        width = len(rows[0])
        if width == len(CONLL_U) and all(CONLL_U_ID.fullmatch(row[0]) for row in rows):
            return cls(CONLL_U, header, True, is_comment)
        between = (f"column_{number}" for number in range(1, width - 1))
        columns = ("tokens", *between, "ner_tags") if width > 1 else ("tokens",)
        return cls(columns, header, False, is_comment)

    def sentence(self, rows: list[list[str]]) -> dict[str, list[str]]:
        """The rows of a sentence as one list per column."""
        return dict(zip(self.columns, map(list, zip(*rows, strict=True)), strict=True))


def _open(file: SourceFile) -> RowStream:
    layout = _Layout.infer(file)

    def read() -> Rows:
        sentence: list[list[str]] = []
        place, skip_header = 0, layout.header
        for number, line in enumerate(file.lines(), start=1):
            if layout.is_comment(line):
                continue
            if not line.strip() or line.startswith(DOCUMENT_START):
                if sentence:
                    yield place, layout.sentence(sentence)
                    sentence = []
                continue
            if skip_header:
                skip_header = False
                continue
            row = _split(line)
            if len(row) != len(layout.columns):
                raise HeadwayError(
                    f"{file.path}, line {number}: {len(row)} columns where {len(layout.columns)} are expected: "
                    f'"{shorten(line)}". Each line has a word and its tags, separated by TABs or spaces; a blank line '
                    "ends a sentence."
                )
            if layout.universal and not row[0].isdecimal():
                continue
            place = place if sentence else number
            sentence.append(row)
        if sentence:
            yield place, layout.sentence(sentence)

    return RowStream(str(file.path), "CoNLL", layout.columns, layout.header, read)


CONLL = FileFormat(_matches, _open, frozenset({"header", "encoding"}))
