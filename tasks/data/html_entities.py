"""HTML entities in texts ("&amp;", "&#39;", and "#39;" as in AG News): found, and decoded on request."""

import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.entities import html5
from typing import Any

from ...core.errors import HeadwayError
from .examples import Example
from .findings import Finding, count, have
from .places import format_places
from .rows import Rows, RowStream

ENTITY = re.compile(r"&(?:[A-Za-z][A-Za-z0-9]{1,30}|#\d{1,6}|#[xX][0-9A-Fa-f]{1,5});|(?<![&\w])#\d{2,5};")
OFFSET_KEYS = frozenset({"start", "start_offset", "answer_start"})
MAX_SHOWN = 3


def html_entities(examples: Sequence[Example]) -> list[Finding]:
    """A note about the texts with entities; none without them."""
    found: Counter[str] = Counter()
    places: list[str] = []
    for example in examples:
        entities = [one for text in example.texts for one in ENTITY.findall(text) if _decode_one(one) != one]
        found.update(entities)
        if entities:
            places.append(example.where)
    if not places:
        return []
    shown = ", ".join(f'"{one}" ({number:,})' for one, number in found.most_common(MAX_SHOWN))
    what = f"{len(places):,} of {count(len(examples), 'text')} {have(places)} HTML entities: {shown}"
    message = f"{what}: {format_places(places)}. --decode-html replaces them by their characters."
    return [Finding("html", "note", message, tuple(places))]


def decode_html(stream: RowStream) -> RowStream:
    """The rows with the characters for which entities stand, in texts and in lists of words.

    Raises:
        HeadwayError: While iterating: a row has offsets into its text, which would then be wrong.
    """
    read = stream.read

    def decoded() -> Rows:
        for place, row in read():
            if any(_has_offsets(name, cell) for name, cell in row.items()):
                raise HeadwayError(
                    f"{stream.where(place)}: --decode-html would move the offsets of the labels in the texts. Omit it."
                )
            yield place, {name: _decode_cell(cell) for name, cell in row.items()}

    return replace(stream, read=decoded)


def decode_text(text: str) -> str:
    """A text with the characters for which its entities stand."""
    return ENTITY.sub(lambda match: _decode_one(match[0]), text)


def _decode_one(entity: str) -> str:
    """The character of an entity; the entity itself if the name is unknown."""
    written = entity if entity.startswith("&") else f"&{entity}"
    known = written.startswith("&#") or written[1:] in html5
    decoded = html.unescape(written) if known else entity
    return entity if decoded in ("", "\0", "\ufffd") else decoded


def _decode_cell(cell: Any) -> Any:
    if isinstance(cell, str):
        return decode_text(cell)
    if isinstance(cell, list):
        return [decode_text(item) if isinstance(item, str) else item for item in cell]
    return cell


def _has_offsets(name: str, cell: Any) -> bool:
    if name in OFFSET_KEYS:
        return True
    if isinstance(cell, Mapping):
        return bool(OFFSET_KEYS & cell.keys()) or any(isinstance(value, Mapping) for value in cell.values())
    if not isinstance(cell, list):
        return False
    return any(isinstance(item, list) or (isinstance(item, Mapping) and OFFSET_KEYS & item.keys()) for item in cell)
