"""Reads rows of tagged data as examples."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from ...core.errors import HeadwayError
from ..data.column_names import normalize_name
from ..data.columns import ColumnMapping
from ..data.labels import map_valid, rejection_checker
from ..data.rows import SAMPLE_ROWS, RowStream, Table
from ..data.words import WordSegmenter
from .character_spans import Annotation, align_spans, parse_spans
from .predictions import TaggedExample
from .tag_schemes import is_prefixed
from .words_and_tags import (
    SegmentedText,
    annotation_from_tags,
    is_tagged,
    parse_counted_tags,
    parse_words,
    split_at_spaces,
)

# Column names of words, and of tags or spans, in published data sets and exports of annotation tools.
WORD_COLUMNS = ("tokens", "words", "token", "word")
TAG_COLUMNS = ("ner_tags", "spans", "ner", "tags", "tag", "entities", "labels", "label", "word_labels", "annotations")
MAX_LISTED_TYPES = 12


def find_column(table: Table | RowStream, names: Sequence[str], except_for: Any = None) -> str | None:
    """The column with the first of these names that a column has."""
    columns = {normalize_name(column): column for column in reversed(table.columns) if column != except_for}
    return next((columns[normalize_name(name)] for name in names if normalize_name(name) in columns), None)


def has_tags(table: Table | RowStream, words: str, label: str | None) -> bool:
    """Whether a column has a tag for each word of another column, in one of the first rows."""
    if label is None:
        return False
    cells = [(row.get(words), row.get(label)) for _, row in islice(table, SAMPLE_ROWS)]
    return any(isinstance(given, list) and cell and is_tagged(given, cell) for given, cell in cells)


@dataclass(frozen=True)
class WordOptions:
    """How words and tags are read.

    Args:
        segmenter: divides raw text into words.
        strip_digits: whether the digit at the end of each given word is removed.
        tag_names: the names of tags that may be given as numbers.
        types: the known entity types; empty: all.
    """

    segmenter: WordSegmenter
    strip_digits: bool = False
    tag_names: tuple[str, ...] = ()
    types: tuple[str, ...] = ()


class TaggedRowReader:
    """Reads the row at a position of a table as an example.

    Args:
        table: the rows.
        columns: of the text and the annotation.
        options: how words and tags are read.
        labelled: whether the annotation is read.
    """

    def __init__(self, table: Table, columns: ColumnMapping, options: WordOptions, *, labelled: bool) -> None:
        self.table, self.options, self.labelled = table, options, labelled
        self.text, self.label = columns.texts["text"], str(columns.label)
        self.refuse_rejected = rejection_checker(table.rows, columns.used_columns)
        self.prefixed = labelled and is_prefixed(tag for tags in self._all_tags() for tag in tags)

    def __call__(self, row: int) -> TaggedExample:
        """The example.

        Raises:
            HeadwayError: the row cannot be used.
        """
        cells = self.table.rows[row]
        given, cell = cells.get(self.text), cells.get(self.label)
        tagged = self.labelled and is_tagged(given, cell)
        words = self._words(given, tagged)
        example = TaggedExample(row, self.table.where(row), words.text, words.words, words.starts)
        if not self.labelled:
            return example
        if not tagged:
            self.refuse_rejected(cells)
            if isinstance(given, list):
                raise HeadwayError(
                    f'column "{self.label}" has no tags for the list of words in column "{self.text}". Give each word '
                    "a tag; character spans need a column with the raw text (--text)."
                )
        found = self._annotation(cell, words, tagged)
        self._check_types(found)
        return replace(example, spans=found.spans, widened=found.widened, dropped=found.dropped, ignored=found.ignored)

    def _words(self, given: Any, tagged: bool) -> SegmentedText:
        if tagged and not isinstance(given, list):
            return split_at_spaces(given, self.text)
        options = self.options
        return parse_words(
            given, self.text, options.segmenter, strip_digits=options.strip_digits, labelled=self.labelled
        )

    def _annotation(self, cell: Any, words: SegmentedText, tagged: bool) -> Annotation:
        if tagged:
            return annotation_from_tags(cell, len(words.words), self.prefixed, self.options.tag_names)
        return align_spans(parse_spans(cell, words.text), words.text, words.offsets)

    def _check_types(self, found: Annotation) -> None:
        types = self.options.types
        unknown = next((span.label for span in found.spans if types and span.label not in types), None)
        if unknown is not None:
            listed = ", ".join(types[:MAX_LISTED_TYPES]) + (", ..." if len(types) > MAX_LISTED_TYPES else "")
            raise HeadwayError(
                f"the entity type {unknown!r} is not one of the {len(types)} known types ({listed}). Correct it, "
                "delete the row, or train with such entities in the training data."
            )

    def _all_tags(self) -> list[list[str]]:
        cells = [(row.get(self.text), row.get(self.label)) for row in self.table.rows]
        tagged = [cell for words, cell in cells if is_tagged(words, cell)]
        return list(map_valid(lambda cell: parse_counted_tags(cell, self.options.tag_names), tagged))
