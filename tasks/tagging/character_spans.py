"""Annotations by character offsets -> entities by words.

As doccano (`[0, 12, "PER"]`, or objects with `start_offset`), Prodigy, spaCy and Label Studio (objects with `start`,
`end` and `label`) export them. Offsets count code points and `end` is not part of the span. Where an object also
holds the span's text, the two must agree; offsets that count UTF-16 units, as JavaScript does, are put right by it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.errors import HeadwayError
from ..data.places import shorten
from .tag_schemes import Chunk

STARTS, ENDS = ("start", "start_offset"), ("end", "end_offset")
LABELS = ("label", "labels", "type", "entity_group")
FORMS = '[start, end, "TYPE"] or {"start": ..., "end": ..., "label": "TYPE"}'


@dataclass(frozen=True)
class CharacterSpan:
    """A labelled piece of a text: text[start:end]."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Annotation:
    """The entities of a row, and what had to be changed about the spans that they come from, a span each."""

    chunks: tuple[Chunk, ...]  # in order, without overlaps
    widened: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    uncounted: tuple[int, ...] = ()  # words of which it says nothing


def holds_spans(cell: Any) -> bool:
    """Whether a cell is a list of character spans; an empty list may be one."""
    return isinstance(cell, list) and all(isinstance(one, list | Mapping) for one in cell)


def read_spans(cell: Any, text: str) -> list[CharacterSpan]:
    """The spans that a cell holds.

    Raises:
        HeadwayError: there is no annotation, it is written in another way, or does not fit the text.
    """
    if cell is None:
        raise HeadwayError("nobody has annotated it. Annotate it (an empty list: no entities), or delete the row.")
    if not holds_spans(cell):
        raise HeadwayError(f"the annotation is {shorten(cell, 40)}; a list of {FORMS} is expected. Correct it.")
    return [span for one in cell for span in _read(one, text)]


def _read(given: Any, text: str) -> list[CharacterSpan]:
    if isinstance(given, Mapping):
        start, end, labels = (_first(given, names) for names in (STARTS, ENDS, LABELS))
        said = given.get("text")
    else:
        start, end, labels = given[:3] if len(given) >= 3 else (None, None, None)
        said = None
    if not isinstance(start, int) or not isinstance(end, int) or not labels:
        raise HeadwayError(f"the span {shorten(given, 60)} is not written as {FORMS}. Correct it.")
    if isinstance(said, str) and not _agree(text[max(start, 0) : max(end, 0)], said):
        start, end = _from_utf16(text, start, end, said)
    if not 0 <= start < end <= len(text):
        raise HeadwayError(
            f"the span {start} to {end} ({shorten(labels, 40)}) does not lie in the text of {len(text)} characters. "
            "Correct its offsets (code points, from 0, the end not included), or take it out."
        )
    return [CharacterSpan(start, end, str(label)) for label in (labels if isinstance(labels, list) else [labels])]


def _first(given: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((given[name] for name in names if given.get(name) is not None), None)


def _agree(found: str, said: str) -> bool:
    return found.split() == said.split()


def _from_utf16(text: str, start: int, end: int, said: str) -> tuple[int, int]:
    """The offsets in code points of a span whose offsets count UTF-16 units, if its text then agrees."""
    units = text.encode("utf-16-le", "surrogatepass")
    before, inside = (
        units[2 * max(a, 0) : 2 * max(b, 0)].decode("utf-16-le", "replace") for a, b in ((0, start), (start, end))
    )
    if not _agree(inside, said):
        raise HeadwayError(
            f'the span {start} to {end} holds "{shorten(text[max(start, 0) : max(end, 0)], 40)}", but says that its '
            f'text is "{shorten(said, 40)}". Correct its offsets (code points, from 0, the end not included).'
        )
    return len(before), len(before) + len(inside)


def fit_spans(spans: Sequence[CharacterSpan], text: str, words: Sequence[tuple[int, int]]) -> Annotation:
    """The entities that the spans mean, by words.

    A span that cuts a word is widened to the whole of it. Of spans that share a word the longest is kept, as a word
    has one tag. A span without any word is dropped.

    Args:
        spans: in any order.
        text: that they count in.
        words: (start, end) of each word in the text, in order.
    """
    starts, ends = [start for start, _ in words], [end for _, end in words]
    chunks: dict[int, Chunk] = {}  # by each of their words
    widened: list[str] = []
    dropped: list[str] = []
    for span in sorted(spans, key=lambda one: (one.start - one.end, one.start)):
        named = f'"{shorten(text[span.start : span.end], 40)}" ({span.label})'
        chunk = Chunk(bisect_right(ends, span.start), bisect_left(starts, span.end), span.label)
        over = next((chunks[word] for word in range(chunk.start, chunk.stop) if word in chunks), None)
        if chunk.start >= chunk.stop:
            dropped.append(f"{span.start} to {span.end} ({span.label}) holds no word")
        elif over is None:
            start, end = starts[chunk.start], ends[chunk.stop - 1]
            if start < span.start or span.end < end:
                widened.append(f'{named} to "{shorten(text[start:end], 40)}"')
            chunks |= dict.fromkeys(range(chunk.start, chunk.stop), chunk)
        elif over != chunk:  # a span may be said twice
            longer = text[starts[over.start] : ends[over.stop - 1]]
            dropped.append(f'{named} overlaps "{shorten(longer, 40)}" ({over.label})')
    return Annotation(tuple(sorted(set(chunks.values()))), tuple(widened), tuple(dropped))
