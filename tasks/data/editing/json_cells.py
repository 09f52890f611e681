"""Values of JSON lines, and of the objects of a JSON array."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ....core.errors import HeadwayError
from ..reading.file_format import SourceFile
from ..rows import Table
from .raw_text import RawText

SPACE = re.compile(r"[ \t\r\n]*")
DECODER = json.JSONDecoder()


def edit_json(file: SourceFile, table: Table, edits: Mapping[int, Mapping[str, Any]]) -> bytes:
    """A file with new values; spaces, the order of the keys and all other values stay as they are written.

    Raises:
        HeadwayError: it is neither JSON lines nor a JSON array of objects.
    """
    raw = RawText.read(file)
    if table.kind == "JSON lines":
        lines = list(raw.lines)
        for place, row in edits.items():
            lines[place - 1] = _edit_object(lines[place - 1], _after_space(lines[place - 1], 0), row)
        return raw.to_bytes(lines)
    text = "".join(raw.lines)
    if table.kind != "JSON" or text[_after_space(text, 0)] != "[":
        raise HeadwayError(
            f"{file.path}: labels are corrected in JSON lines and in a JSON array of objects, and this is another "
            "layout. Save it as .jsonl."
        )
    starts = list(_items(text))
    for place in sorted(edits, reverse=True):
        text = _edit_object(text, starts[place - 1], edits[place])
    return raw.to_bytes([text])


def _after_space(text: str, position: int) -> int:
    found = SPACE.match(text, position)
    assert found is not None
    return found.end()


def _items(text: str) -> Iterator[int]:
    """Where the items of an array begin."""
    position = _after_space(text, _after_space(text, 0) + 1)
    while text[position] != "]":
        yield position
        position = _after_space(text, DECODER.raw_decode(text, position)[1])
        position = _after_space(text, position + (text[position] == ","))


def _edit_object(text: str, start: int, values: Mapping[str, Any]) -> str:
    """The text with new values in the object that begins at `start`."""
    spans = _value_spans(text, start)
    for name in sorted(values, key=lambda name: spans[name], reverse=True):
        begin, end = spans[name]
        written = json.dumps(values[name], ensure_ascii="\\u" in text[begin:end])
        text = text[:begin] + written + text[end:]
    return text


def _value_spans(text: str, start: int) -> dict[str, tuple[int, int]]:
    """The start and the end of the value of each key of an object; of a repeated key the last one, which is read."""
    found, position = {}, _after_space(text, start + 1)
    while text[position] != "}":
        name, position = DECODER.raw_decode(text, position)
        begin = _after_space(text, _after_space(text, position) + 1)  # after the colon
        _, end = DECODER.raw_decode(text, begin)
        found[name] = begin, end
        position = _after_space(text, end)
        position = _after_space(text, position + (text[position] == ","))
    return found
