"""Parses the cells of tagged data: words, tags and the entities they mark.

Words are a list or a raw text. The annotation is a list with one tag per word (or a text with the tags, separated by
spaces or commas), or a list of character spans in the raw text (character_spans.py).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.errors import HeadwayError
from ..data.columns import parse_text
from ..data.features import IGNORE_INDEX
from ..data.places import shorten
from ..data.words import WordSegmenter
from .character_spans import Annotation, is_span_list
from .tag_schemes import OUTSIDE, tags_to_spans

IGNORED_TAG = str(IGNORE_INDEX)  # a word with this tag is skipped by the loss and the metrics
MAX_DIGITS = 9  # of the number of a tag


@dataclass(frozen=True)
class SegmentedText:
    """A text and its words: word i starts at text[starts[i]]."""

    text: str
    words: tuple[str, ...]
    starts: tuple[int, ...]

    @classmethod
    def cut(cls, text: str, offsets: Sequence[tuple[int, int]]) -> "SegmentedText":
        """Cuts a text into words at (start, end) offsets."""
        return cls(text, tuple(text[start:end] for start, end in offsets), tuple(start for start, _ in offsets))

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """(start, end) of each word."""
        return [(start, start + len(word)) for start, word in zip(self.starts, self.words, strict=True)]


def is_tagged(words: Any, annotation: Any) -> bool:
    """Whether an annotation consists of one tag per word, and not of character spans.

    Args:
        words: the cell with the words or the text.
        annotation: the cell with the annotation.
    """
    if annotation == []:
        return isinstance(words, list)
    return isinstance(annotation, str) or (isinstance(annotation, list) and not is_span_list(annotation))


# -- words


def parse_words(
    cell: Any, column: str, segmenter: WordSegmenter, *, strip_digits: bool = False, labelled: bool = True
) -> SegmentedText:
    """The words of a list, or those of a raw text.

    Raises:
        HeadwayError: the cell contains something else; or, in labelled data, no word or an empty one.
    """
    if isinstance(cell, list):
        words = [_parse_word(word, column) for word in cell]
        if labelled and (not words or "" in words):
            what = f"word {words.index('') + 1} of {len(words)} is empty" if words else "there is no word"
            raise HeadwayError(f'column "{column}": {what}. Fill it in, or delete the row.')
        if strip_digits:
            words = [word[:-1] if len(word) > 1 and word[-1].isdecimal() else word for word in words]
        text, starts = segmenter.join(words)
        return SegmentedText(text, tuple(words), tuple(starts))
    if isinstance(cell, Mapping):
        raise HeadwayError(
            f'column "{column}" contains an object instead of a text or a list of words. Name the right column with '
            "--text."
        )
    text = parse_text(cell, column, "text", labelled=labelled)
    return SegmentedText.cut(text, segmenter.split(text))


def _parse_word(word: Any, column: str) -> str:
    if isinstance(word, list | Mapping):
        raise HeadwayError(
            f'column "{column}" contains a list of {type(word).__name__}s instead of words. Name the right column '
            "with --text."
        )
    return "" if word is None else str(word)


def split_at_spaces(cell: Any, column: str) -> SegmentedText:
    """The words of a raw text with one tag per word; such words can only be separated by spaces."""
    text = parse_words(cell, column, WordSegmenter("spaces")).text
    return SegmentedText.cut(text, [match.span() for match in re.finditer(r"\S+", text)])


# -- tags


@dataclass(frozen=True)
class TagReading:
    """How tags are read.

    Args:
        names: the names of tags that may be given as numbers.
        outside: the tags that are read as O.
        unspecified: the tags of words that have none, which are ignored.
        prefixed: whether the tags have prefixes (B-PER).
        every_word: whether the tags are classes of all words, not entities.
    """

    names: tuple[str, ...] = ()
    outside: frozenset[str] = frozenset()
    unspecified: frozenset[str] = frozenset()
    prefixed: bool = True
    every_word: bool = False


def tag_texts(cell: Any) -> list[str]:
    """The tags in a cell as they are written.

    Args:
        cell: a list of tags, or a text with the tags separated by spaces or commas.

    Raises:
        HeadwayError: there are no tags.
    """
    if isinstance(cell, str):
        cell = cell.split() if " " in cell.strip() or "," not in cell else cell.split(",")
    if not isinstance(cell, list):
        what = "there is no annotation" if cell is None else f"the annotation is {shorten(cell, 40)!r}"
        raise HeadwayError(f"{what}; a list of tags or of spans is expected. Annotate the row, or delete it.")
    return ["" if tag is None else str(tag).strip() for tag in cell]


def parse_tags(cell: Any, reading: TagReading) -> list[str]:
    """The tags in a cell.

    Args:
        cell: a list of tags, or a text with the tags separated by spaces or commas.
        reading: how tags are read.

    Raises:
        HeadwayError: there are no tags, or they are numbers without names.
    """
    return [_parse_tag(text, reading) for text in tag_texts(cell)]


def parse_counted_tags(cell: Any, reading: TagReading) -> list[str]:
    """As `parse_tags`, without ignored tags."""
    return [tag for tag in parse_tags(cell, reading) if tag != IGNORED_TAG]


def _parse_tag(text: str, reading: TagReading) -> str:
    names = reading.names
    if text in reading.outside:
        return OUTSIDE
    if text in reading.unspecified:
        return IGNORED_TAG
    if text in names or not text.isdecimal():
        return text
    if len(text) <= MAX_DIGITS and int(text) < len(names):
        return names[int(text)]
    text = shorten(text, 40)
    if names:
        raise HeadwayError(f"the tag {text} is not the number of a label (0 to {len(names) - 1}). Correct it.")
    raise HeadwayError(
        f"the tags are numbers ({text}) without names. Give a file with the names of the tags, one per line, with "
        "--label-names."
    )


def annotation_from_tags(cell: Any, num_words: int, reading: TagReading) -> Annotation:
    """The entities that tags mark.

    Args:
        cell: as in `parse_tags`.
        num_words: of the row.
        reading: how tags are read.

    Raises:
        HeadwayError: a tag cannot be parsed, or the number of tags differs from the number of words.
    """
    tags = parse_tags(cell, reading)
    if len(tags) != num_words:
        raise HeadwayError(
            f"there are {num_words} words but {len(tags)} tags. Give each word one tag, or delete the row."
        )
    ignored = tuple(word for word, tag in enumerate(tags) if tag == IGNORED_TAG)
    spans = tags_to_spans(tags, reading.prefixed, ignored, every_word=reading.every_word)
    return Annotation(tuple(spans), ignored=ignored)
