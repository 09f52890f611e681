"""A person's rows -> words, and the entities that tags or character spans on them say.

Words are a list, or a raw text; tags are a list beside the words (or one text, with spaces between the tags), spans a
list of character offsets in the raw text (character_spans.py).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

from ...core.errors import HeadwayError
from ..data.column_names import normalize_name
from ..data.columns import SAMPLE_ROWS, ColumnMapping, parse_text
from ..data.examples import Example
from ..data.features import IGNORE_INDEX
from ..data.labels import map_valid, rejection_checker
from ..data.places import shorten
from ..data.rows import RowStream, Table
from ..data.words import WordSegmenter
from .character_spans import Annotation, fit_spans, holds_spans, read_spans
from .tag_schemes import Chunk, counted_tags_to_spans, is_prefixed

IGNORED_TAG = str(IGNORE_INDEX)  # as a word's tag: the loss and the metrics skip the word
MANY_WORDS = 200  # from here on tags that hardly repeat, or rows of one word each, are taken for a mistake
# Columns that hold words, and that hold tags or spans, as published data sets and annotation tools name them.
WORD_COLUMNS = ("tokens", "words", "token", "word")
TAG_COLUMNS = ("ner_tags", "spans", "ner", "tags", "tag", "entities", "labels", "label", "word_labels", "annotations")


@dataclass(frozen=True)
class TaggedExample(Example):
    """A text, its words, and the entities among them."""

    often_unlabelled: ClassVar[bool] = True  # most sentences name nobody

    text: str
    words: tuple[str, ...]
    starts: tuple[int, ...]  # of each word in the text
    chunks: tuple[Chunk, ...] | None = None
    widened: tuple[str, ...] = ()  # character spans that were changed to fit the words
    dropped: tuple[str, ...] = ()  # character spans that could not be kept
    uncounted: tuple[int, ...] = ()  # words of which nobody has said what they are

    @property
    def texts(self) -> tuple[str, ...]:
        """The text."""
        return (self.text,)

    @property
    def gold(self) -> tuple[str, ...] | None:
        """The entities in words: "PER: Ada Lovelace"."""
        if self.chunks is None:
            return None
        return tuple(f"{chunk.label}: {self.text[slice(*self.place(chunk))]}" for chunk in self.chunks)

    @property
    def labels(self) -> tuple[str, ...]:
        """The type of each entity."""
        return tuple(chunk.label for chunk in self.chunks or ())

    @property
    def stratum(self) -> str | None:
        """The type of the first entity."""
        return None if self.chunks is None else next(iter(self.labels), "")

    def place(self, chunk: Chunk) -> tuple[int, int]:
        """Where an entity stands: text[start:end]."""
        last = chunk.stop - 1
        return self.starts[chunk.start], self.starts[last] + len(self.words[last])


@dataclass(frozen=True)
class Worded:
    """A text and its words: text[start : start + len(word)] is the word."""

    text: str
    words: tuple[str, ...]
    starts: tuple[int, ...]

    @property
    def places(self) -> list[tuple[int, int]]:
        """(start, end) of each word."""
        return [(start, start + len(word)) for start, word in zip(self.starts, self.words, strict=True)]


def column_named(table: Table | RowStream, names: Sequence[str], taken: Any = None) -> str | None:
    """The first column with one of these names, in their order, that is not taken."""
    by_plain = {normalize_name(column): column for column in reversed(table.columns) if column != taken}
    return next((by_plain[normalize_name(name)] for name in names if normalize_name(name) in by_plain), None)


def has_tags_beside(table: Table | RowStream, words: str, label: str | None) -> bool:
    """Whether a column of words has tags beside it, judged by the first rows that have both."""
    if label is None:
        return False
    cells = [(row.get(words), row.get(label)) for _, row in islice(table, SAMPLE_ROWS)]
    return any(isinstance(given, list) and cell and holds_tags(given, cell) for given, cell in cells)


def holds_tags(words: Any, annotation: Any) -> bool:
    """Whether the annotation of a row is one tag for each word, rather than spans of characters."""
    if annotation == []:
        return isinstance(words, list)
    return isinstance(annotation, str) or (isinstance(annotation, list) and not holds_spans(annotation))


def read_words(
    cell: Any, column: str, splitter: WordSegmenter, *, strip_digits: bool = False, labelled: bool = True
) -> Worded:
    """The words of a cell: as they are given in a list, or cut out of a raw text.

    Raises:
        HeadwayError: it holds something else; or, in data that somebody labelled, there is no word or an empty one.
    """
    if isinstance(cell, list):
        words = [_read_word(word, column) for word in cell]
        if labelled and (not words or "" in words):
            what = f"word {words.index('') + 1} of {len(words)} is empty" if words else "there is no word"
            raise HeadwayError(f'column "{column}": {what}. Fill it in, or delete the row.')
        if strip_digits:
            words = [word[:-1] if len(word) > 1 and word[-1].isdecimal() else word for word in words]
        text, starts = splitter.join(words)
        return Worded(text, tuple(words), tuple(starts))
    if isinstance(cell, Mapping):
        raise HeadwayError(
            f'column "{column}" holds an object, not a text or a list of words. Name the right one with --text.'
        )
    text = parse_text(cell, column, "text", labelled=labelled)
    return _cut(text, splitter.split(text))


def _read_word(word: Any, column: str) -> str:
    if isinstance(word, list | Mapping):
        raise HeadwayError(
            f'column "{column}" holds a list of {type(word).__name__}s, not of words. Name the right one with --text.'
        )
    return "" if word is None else str(word)


def _cut(text: str, places: Sequence[tuple[int, int]]) -> Worded:
    return Worded(text, tuple(text[start:end] for start, end in places), tuple(start for start, _ in places))


def words_at_spaces(cell: Any, column: str) -> Worded:
    """The words of a raw text that has a tag for each of them: they can only be what stands between spaces."""
    whole = read_words(cell, column, WordSegmenter("spaces"))
    return _cut(whole.text, [match.span() for match in re.finditer(r"\S+", whole.text)])


def read_tags(cell: Any, names: Sequence[str] = ()) -> list[str]:
    """The tags of a cell.

    Args:
        cell: a list of tags, or one text with spaces (or commas) between them.
        names: of the tags, where the cell may also hold their positions.

    Raises:
        HeadwayError: there are none, or they are numbers without names.
    """
    if isinstance(cell, str):
        cell = cell.split() if " " in cell.strip() or "," not in cell else cell.split(",")
    if not isinstance(cell, list):
        what = "there is no annotation" if cell is None else f"the annotation is {shorten(cell, 40)!r}"
        raise HeadwayError(f"{what}; a list of tags or of spans is expected. Annotate the row, or delete it.")
    return [_read_tag(tag, names) for tag in cell]


def counted_tags(cell: Any, names: Sequence[str] = ()) -> list[str]:
    """The tags of a cell without those that are not counted; as `read_tags`."""
    return [tag for tag in read_tags(cell, names) if tag != IGNORED_TAG]


def _read_tag(tag: Any, names: Sequence[str]) -> str:
    text = "" if tag is None else str(tag).strip()
    if text in names or not text.isdecimal():
        return text
    if int(text) < len(names):
        return names[int(text)]
    if names:
        raise HeadwayError(f"the tag {text} is not the number of a label (0 to {len(names) - 1}). Correct it.")
    raise HeadwayError(
        f"the tags are numbers ({text}), and nothing says what they stand for. Give a file with the names of the "
        "tags, one a line, with --label-names."
    )


def annotation_of_tags(cell: Any, words: Worded, prefixed: bool, names: Sequence[str] = ()) -> Annotation:
    """The entities that tags say, one a word.

    Args:
        cell: as `read_tags` takes it.
        words: of the row.
        prefixed: whether tags are written with prefixes (B-PER).
        names: as `read_tags` takes them.

    Raises:
        HeadwayError: a tag cannot be read, or there are more or fewer of them than words.
    """
    tags = read_tags(cell, names)
    if len(tags) != len(words.words):
        raise HeadwayError(
            f"there are {len(words.words)} words but {len(tags)} tags. Give each word one tag, or delete the row."
        )
    uncounted = tuple(word for word, tag in enumerate(tags) if tag == IGNORED_TAG)
    return Annotation(tuple(counted_tags_to_spans(tags, uncounted, prefixed)), uncounted=uncounted)


def annotation_of_spans(cell: Any, words: Worded) -> Annotation:
    """The entities that character spans say.

    Raises:
        HeadwayError: the spans cannot be read, or do not fit the text.
    """
    return fit_spans(read_spans(cell, words.text), words.text, words.places)


def tagged_reader(
    table: Table,
    columns: ColumnMapping,
    *,
    labelled: bool,
    splitter: WordSegmenter,
    strip_digits: bool,
    names: Sequence[str],
    types: Sequence[str],
) -> Callable[[int], TaggedExample]:
    """How to read the row at a position; as `Task.row_reader`.

    Args:
        table: the rows.
        columns: of the text and the annotation.
        labelled: whether the annotation is read.
        splitter: how raw text is cut into words.
        strip_digits: whether each word that is given loses a digit at its end.
        names: as `read_tags` takes them.
        types: of entities that are known; all are where there are none.
    """
    text, label = columns.texts["text"], columns.label
    known = set(types)
    refuse_rejected = rejection_checker(table.rows, columns.used_columns)
    prefixed = labelled and is_prefixed(tag for tags in _all_tags(table, text, label, names) for tag in tags)

    def read(row: int) -> TaggedExample:
        given, cell = table.rows[row].get(text), table.rows[row].get(str(label))
        tagged = labelled and holds_tags(given, cell)
        if tagged and not isinstance(given, list):
            words = words_at_spaces(given, text)
        else:
            words = read_words(given, text, splitter, strip_digits=strip_digits, labelled=labelled)
        example = TaggedExample(row, table.where(row), words.text, words.words, words.starts)
        if not labelled:
            return example
        if not tagged:
            refuse_rejected(table.rows[row])
        if not tagged and isinstance(given, list):
            raise HeadwayError(
                f'column "{label}" holds no tags, and column "{text}" a list of words. Give each word a tag; '
                "character spans need a column with the raw text (--text)."
            )
        found = annotation_of_tags(cell, words, prefixed, names) if tagged else annotation_of_spans(cell, words)
        unknown = next((chunk.label for chunk in found.chunks if known and chunk.label not in known), None)
        if unknown is not None:
            listed = ", ".join(types[:12]) + (", ..." if len(types) > 12 else "")
            raise HeadwayError(
                f"the entity type {unknown!r} is none of the {len(types)} that are known ({listed}). "
                "Correct it, delete the row, or train with such entities in the training data."
            )
        return replace(
            example,
            chunks=found.chunks,
            widened=found.widened,
            dropped=found.dropped,
            uncounted=found.uncounted,
        )

    return read


def _all_tags(table: Table, text: str, label: Any, names: Sequence[str]) -> list[list[str]]:
    cells = [(row.get(text), row.get(label)) for row in table.rows]
    tagged = [cell for words, cell in cells if holds_tags(words, cell)]
    return list(map_valid(lambda cell: counted_tags(cell, names), tagged))


def refuse_no_tags(
    source: str, column: str, tags: Sequence[Sequence[str]], counts: Mapping[str, int], scheme: str
) -> None:
    """Refuses what looks like tags and is something else.

    Args:
        source: of the data, for the message.
        column: that holds the tags.
        tags: of each row.
        counts: how many entities of each type they say.
        scheme: that they are written in.

    Raises:
        HeadwayError: each row is a single word, or the tags hardly repeat.
    """
    words = sum(map(len, tags))
    if words < MANY_WORDS:
        return
    if words == len(tags):
        raise HeadwayError(
            f"{source}: every row is a single word, which says nothing about the words around it. Give a row for "
            "each sentence, or CoNLL: a word, a TAB and its tag on each line, and an empty line after a sentence."
        )
    if scheme == "IO" and 5 * len(counts) > words:
        raise HeadwayError(
            f'{source}: column "{column}" holds {len(counts)} different values for {words} words '
            f"({next(iter(counts))!r}, ...), which are no tags. Name another with --label."
        )
