"""Reads rows of tagged data as examples."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from ...core.errors import HeadwayError
from ..data.column_names import normalize_name
from ..data.columns import ColumnMapping
from ..data.labels import map_valid
from ..data.places import shorten
from ..data.rows import Table
from ..data.words import WordSegmenter
from .character_spans import Annotation, align_spans, is_span_list, parse_spans
from .outside_tags import infer_outside_tags, show_tag
from .predictions import TaggedExample
from .tag_columns import UNSPECIFIED, is_class_column
from .tag_schemes import OUTSIDE, is_prefixed
from .token_spans import ends_are_included, parse_token_spans
from .words_and_tags import (
    SegmentedText,
    TagReading,
    annotation_from_tags,
    is_tagged,
    parse_counted_tags,
    parse_words,
    split_at_spaces,
    tag_texts,
)

MAX_LISTED_TYPES = 12
FEATURES = "feats"  # column of CoNLL-U


@dataclass(frozen=True)
class WordOptions:
    """How words and tags are read.

    Args:
        segmenter: divides raw text into words.
        strip_digits: whether the digit at the end of each given word is removed.
        tag_names: the names of tags that may be given as numbers.
        types: the known entity types; empty: all.
        outside_tag: the tag that is read as O; None: inferred from the tags.
    """

    segmenter: WordSegmenter
    strip_digits: bool = False
    tag_names: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    outside_tag: str | None = None


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
        self.reading = self._tag_reading() if labelled else TagReading()
        rows = [(row.get(self.text), row.get(self.label)) for row in table.rows] if labelled else []
        by_words = [(words, cell) for words, cell in rows if isinstance(words, list) and cell and is_span_list(cell)]
        self.has_token_spans = bool(by_words) and not any(tags for _, _, tags in self._tagged_rows())
        self.ends_included = ends_are_included(by_words)

    def __call__(self, row: int) -> TaggedExample:
        """The example.

        Raises:
            HeadwayError: the row cannot be used.
        """
        cells = self.table.rows[row]
        given, cell = cells.get(self.text), cells.get(self.label)
        by_words = self.has_token_spans and isinstance(given, list) and is_span_list(cell)
        tagged = self.labelled and not by_words and is_tagged(given, cell)
        words = self._words(given, tagged)
        example = TaggedExample(row, self.table.where(row), words.text, words.words, words.starts)
        if not self.labelled:
            return example
        if not tagged and isinstance(given, list) and not by_words:
            raise HeadwayError(
                f'column "{self.label}" has no tags for the list of words in column "{self.text}". Give each word '
                "a tag; character spans need a column with the raw text (--text)."
            )
        if tagged:
            found = annotation_from_tags(cell, len(words.words), self.reading)
        elif by_words:
            spans = parse_token_spans(cell or [], words.offsets, self.ends_included)
            found = align_spans(spans, words.text, words.offsets)
        else:
            found = align_spans(parse_spans(cell, words.text), words.text, words.offsets)
        self._check_types(found)
        return replace(example, **{field.name: getattr(found, field.name) for field in fields(Annotation)})

    def _words(self, given: Any, tagged: bool) -> SegmentedText:
        if tagged and not isinstance(given, list):
            return split_at_spaces(given, self.text)
        options = self.options
        return parse_words(
            given, self.text, options.segmenter, strip_digits=options.strip_digits, labelled=self.labelled
        )

    def _check_types(self, found: Annotation) -> None:
        types = self.options.types
        unknown = next((span.label for span in found.spans if types and span.label not in types), None)
        if unknown is not None:
            listed = ", ".join(types[:MAX_LISTED_TYPES]) + (", ..." if len(types) > MAX_LISTED_TYPES else "")
            raise HeadwayError(
                f"the entity type {unknown!r} is not one of the {len(types)} known types ({listed}). Correct it, "
                "delete the row, or train with such entities in the training data."
            )

    def _tag_reading(self) -> TagReading:
        """How the tags of the table are read."""
        options = self.options
        tags = [tag for _, _, of_row in self._tagged_rows() for tag in of_row]
        outside = infer_outside_tags(tags, options.tag_names)
        if options.outside_tag is not None:
            outside = frozenset({options.outside_tag})
            if self.options.types == () and tags and options.outside_tag not in tags:
                raise HeadwayError(
                    f'{self.table.source}: --outside-tag {options.outside_tag}: no word in column "{self.label}" has '
                    "this tag. Name another tag or column, or omit --outside-tag."
                )
        elif is_class_column(self.label):
            # "_" among morphological features is a word without any; elsewhere it is a word that has no tag.
            unspecified = frozenset() if normalize_name(self.label) == FEATURES else frozenset({UNSPECIFIED})
            return TagReading(options.tag_names, unspecified=unspecified, prefixed=False, every_word=True)
        reading = TagReading(options.tag_names, outside)
        counted = map_valid(lambda tag: parse_counted_tags([tag], reading)[0:1], tags)
        found = [tag for one in counted for tag in one]
        prefixed = is_prefixed(found)
        return replace(reading, prefixed=prefixed, every_word=not prefixed and OUTSIDE not in found)

    def _tagged_rows(self) -> Iterator[tuple[int, Any, list[str]]]:
        """The position, the words and the tags of every row with tags of words."""
        for row, cells in enumerate(self.table.rows):
            words, cell = cells.get(self.text), cells.get(self.label)
            if is_tagged(words, cell):
                yield row, words, tag_texts(cell)

    def notes(self) -> list[str]:
        """How spans of words are read; which tags are read as O, how often, and where first."""
        if self.has_token_spans:
            end = "last word is included" if self.ends_included else "end is the word after the last one"
            return [f"the spans are numbers of words, from 0; the {end}"]
        counts: Counter[str] = Counter()
        first: dict[str, str] = {}
        for row, words, tags in self._tagged_rows():
            for position, tag in enumerate(tags):
                if tag in self.reading.outside and tag != OUTSIDE:
                    counts[tag] += 1
                    word = words[position] if isinstance(words, list) and position < len(words) else None
                    shown = "" if word is None else f" ({shorten(ascii(word), 30)})"
                    first.setdefault(tag, f"{self.table.where(row)}, word {position + 1}{shown}")
        return [
            f"{show_tag(tag)} is read as O, outside of entities: {number:,} {'word' if number == 1 else 'words'}, the "
            f"first at {first[tag]} (--outside-tag names the tag that is read as O)"
            for tag, number in counts.items()
        ]


def types_in_table(table: Table, columns: ColumnMapping, options: WordOptions) -> list[str]:
    """The entity types of the rows that can be read, sorted."""
    reader = TaggedRowReader(table, columns, replace(options, types=(), outside_tag=None), labelled=True)
    return sorted({span.label for example in map_valid(reader, range(len(table))) for span in example.spans or ()})
