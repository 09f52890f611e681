"""Entities given by the numbers of their first and last words, as in GLiNER's and SpERT's data.

`{"tokenized_text": ["Ada", "sat"], "ner": [[0, 0, "PER"]]}` includes the last word; objects with `start` and `end`
(`{"tokens": [...], "entities": [{"type": "PER", "start": 0, "end": 1}]}`) exclude it. A span that would otherwise be
empty, or end after the sentence, decides for all.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...core.errors import HeadwayError
from ..data.places import shorten
from .character_spans import CharacterSpan, span_fields


def ends_are_included(rows: Iterable[tuple[Sequence[Any], Sequence[Any]]]) -> bool:
    """Whether the end of a span is its last word.

    Args:
        rows: The words and the spans of each row.
    """
    as_lists = False
    for words, spans in rows:
        for span in spans:
            start, end, _ = span_fields(span)
            if isinstance(start, int) and start == end:
                return True
            if isinstance(end, int) and end == len(words):
                return False
            as_lists = as_lists or not isinstance(span, Mapping)
    return as_lists


def parse_token_spans(cell: Sequence[Any], offsets: Sequence[tuple[int, int]], included: bool) -> list[CharacterSpan]:
    """The character spans of entities that are given by words.

    Args:
        cell: The spans.
        offsets: (start, end) of each word in the text.
        included: Whether the end of a span is its last word.

    Raises:
        HeadwayError: A span is malformed, or not among the words.
    """
    found: list[CharacterSpan] = []
    for given in cell:
        start, end, label = span_fields(given)
        if not _is_number(start) or not _is_number(end) or not isinstance(label, str) or not label:
            raise HeadwayError(f'the span {shorten(given, 60)} of words is not [first, last, "TYPE"]. Correct it.')
        stop = end + included
        if not 0 <= start < stop <= len(offsets):
            raise HeadwayError(
                f"the span of words {start} to {end} ({shorten(label, 40)}) is not among the {len(offsets)} words, "
                f"counted from 0, the end {'included' if included else 'excluded'}. Correct it."
            )
        found.append(CharacterSpan(offsets[start][0], offsets[stop - 1][1], label))
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
