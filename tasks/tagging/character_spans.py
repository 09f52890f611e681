"""Aligns entities annotated by character offsets to words.

Reads the exports of doccano (`[0, 12, "PER"]`, or objects with `start_offset`), Prodigy, spaCy and Label Studio
(objects with `start`, `end` and `label`), and the spans by type and text of CLUENER (Xu et al. 2020,
https://arxiv.org/abs/2001.04351): `{"PER": {"Ada Lovelace": [[0, 11]]}}`.

Offsets count code points, and `end` is exclusive. If a span's text is given, the two must agree; with its help, ends
that are inclusive and offsets in UTF-16 units, as in JavaScript, are recognized and converted.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.errors import HeadwayError
from ..data.places import shorten
from .tag_schemes import WordSpan

START_KEYS, END_KEYS = ("start", "start_offset"), ("end", "end_offset")
LABEL_KEYS = ("label", "labels", "type", "entity_group")
FORMATS = '[start, end, "TYPE"] or {"start": ..., "end": ..., "label": "TYPE"}'
BY_TYPE = '{"TYPE": {"text of the entity": [[start, end]]}}'


@dataclass(frozen=True)
class CharacterSpan:
    """An entity as a range of characters: text[start:end]."""

    start: int
    end: int
    label: str
    was_inclusive: bool = False  # whether the data gives the last character instead of `end`


@dataclass(frozen=True)
class Annotation:
    """The entities of a row, and what was changed to align character spans to words."""

    spans: tuple[WordSpan, ...]  # in order, without overlaps
    widened: tuple[str, ...] = ()  # a description of each widened character span
    dropped: tuple[str, ...] = ()  # a description of each dropped character span
    ignored: tuple[int, ...] = ()  # words without a tag, which the loss and the metrics skip
    inclusive: tuple[str, ...] = ()  # a description of each character span whose end was inclusive


def is_span_list(cell: Any) -> bool:
    """Whether a cell is a list of character spans, or an empty list."""
    return isinstance(cell, list) and all(isinstance(one, list | Mapping) for one in cell)


def parse_spans(cell: Any, text: str) -> list[CharacterSpan]:
    """The character spans in a cell.

    Raises:
        HeadwayError: the cell is null, its format is unknown, or a span is not in the text.
    """
    if cell is None:
        raise HeadwayError("it is not annotated. Annotate it (an empty list: no entities), or delete the row.")
    if isinstance(cell, Mapping):
        cell = _spans_by_type(cell)
    if not is_span_list(cell):
        raise HeadwayError(f"the annotation is {shorten(cell, 40)}; a list of {FORMATS} is expected. Correct it.")
    return [span for one in cell for span in _parse_span(one, text)]


def _spans_by_type(cell: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The spans of an object {type: {text: [[start, end], ...]}}."""
    spans: list[dict[str, Any]] = []
    for label, mentions in cell.items():
        found = _mentions(mentions)
        if found is None:
            raise HeadwayError(
                f"the annotation of {shorten(label, 40)!r} is {shorten(mentions, 40)}; {BY_TYPE} is expected. "
                "Correct it."
            )
        spans += [{"start": start, "end": end, "label": label, "text": text} for text, start, end in found]
    return spans


def _mentions(mentions: Any) -> list[tuple[str, Any, Any]] | None:
    """The text, the start and the end of each span in {text: [[start, end], ...]}; None for another object."""
    if not isinstance(mentions, Mapping) or not all(isinstance(pairs, list) for pairs in mentions.values()):
        return None
    pairs = [(text, pair) for text, pairs in mentions.items() for pair in pairs]
    if not all(isinstance(pair, list) and len(pair) == 2 for _, pair in pairs):
        return None
    return [(text, *pair) for text, pair in pairs]


def span_fields(given: Any) -> tuple[Any, Any, Any]:
    """The start, the end and the label of a span, in any of the formats; None for one that is missing."""
    if isinstance(given, Mapping):
        start, end, label = (_first_value(given, keys) for keys in (START_KEYS, END_KEYS, LABEL_KEYS))
        return start, end, label
    return (given[0], given[1], given[2]) if len(given) >= 3 else (None, None, None)


def _parse_span(given: Any, text: str) -> list[CharacterSpan]:
    start, end, found = span_fields(given)
    labels = found if isinstance(found, list) else [found]
    covered = given.get("text") if isinstance(given, Mapping) else None
    are_labels = bool(labels) and all(isinstance(label, str | int | float) and label != "" for label in labels)
    if not isinstance(start, int) or not isinstance(end, int) or not are_labels:
        raise HeadwayError(f"the span {shorten(given, 60)} is not written as {FORMATS}. Correct it.")
    inclusive = False
    if isinstance(covered, str) and not _agree(text[max(start, 0) : max(end, 0)], covered):
        inclusive = 0 <= start <= end < len(text) and _agree(text[start : end + 1], covered)
        start, end = (start, end + 1) if inclusive else _from_utf16(text, start, end, covered)
    if not 0 <= start < end <= len(text):
        raise HeadwayError(
            f"the span {shorten(start, 20)} to {shorten(end, 20)} ({shorten(labels[0], 40)}) is not in the text of "
            f"{len(text)} characters. Correct its offsets (code points, from 0, the end exclusive), or delete the "
            "span."
        )
    return [CharacterSpan(start, end, str(label), inclusive) for label in labels]


def _first_value(given: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((given[key] for key in keys if given.get(key) is not None), None)


def _agree(found: str, covered: str) -> bool:
    return found.split() == covered.split()


def _from_utf16(text: str, start: int, end: int, covered: str) -> tuple[int, int]:
    """Converts offsets in UTF-16 units to code points, if the span then covers the given text."""
    units = text.encode("utf-16-le", "surrogatepass")
    before, inside = (
        units[2 * max(a, 0) : 2 * max(b, 0)].decode("utf-16-le", "replace") for a, b in ((0, start), (start, end))
    )
    if not _agree(inside, covered):
        raise HeadwayError(
            f'the span {start} to {end} is "{shorten(text[max(start, 0) : max(end, 0)], 40)}", but its text is given '
            f'as "{shorten(covered, 40)}". Correct its offsets (code points, from 0, the end exclusive).'
        )
    return len(before), len(before) + len(inside)


def align_spans(spans: Sequence[CharacterSpan], text: str, words: Sequence[tuple[int, int]]) -> Annotation:
    """The entities by words.

    A span that ends inside a word is widened to the whole word. Of spans that share a word only the longest is kept,
    because a word has one tag. A span without a word is dropped.

    Args:
        spans: in any order.
        text: of the row.
        words: (start, end) of each word in the text, in order.
    """
    starts, ends = [start for start, _ in words], [end for _, end in words]
    span_of_word: dict[int, WordSpan] = {}
    widened: list[str] = []
    dropped: list[str] = []
    inclusive = [
        f'{span.start} to {span.end - 1}: "{text[span.start : span.end]}"' for span in spans if span.was_inclusive
    ]
    for span in sorted(spans, key=lambda one: (one.start - one.end, one.start)):
        shown = f'"{shorten(text[span.start : span.end], 40)}" ({span.label})'
        aligned = WordSpan(bisect_right(ends, span.start), bisect_left(starts, span.end), span.label)
        longer = next(
            (span_of_word[word] for word in range(aligned.start, aligned.stop) if word in span_of_word), None
        )
        if aligned.start >= aligned.stop:
            dropped.append(f"{span.start} to {span.end} ({span.label}) contains no word")
        elif longer is None:
            start, end = starts[aligned.start], ends[aligned.stop - 1]
            if start < span.start or span.end < end:
                widened.append(f'{shown} to "{shorten(text[start:end], 40)}"')
            span_of_word |= dict.fromkeys(range(aligned.start, aligned.stop), aligned)
        elif longer != aligned:  # a repeated span is not reported
            overlapped = text[starts[longer.start] : ends[longer.stop - 1]]
            dropped.append(f'{shown} overlaps "{shorten(overlapped, 40)}" ({longer.label})')
    kept = tuple(sorted(set(span_of_word.values())))
    return Annotation(kept, tuple(widened), tuple(dropped), inclusive=tuple(inclusive))
