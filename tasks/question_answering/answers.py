"""People's answers to a question: read from whatever shape their files have, and found in the context.

SQuAD's `{"text": [...], "answer_start": [...]}` (https://huggingface.co/datasets/rajpurkar/squad_v2), the same as
text in a table's cell, lists of such objects or of texts, or one plain text. Offsets are code points.
"""

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...core.errors import HeadwayError
from ..data.places import shorten

TEXT_KEYS = ("text", "answer", "answer_text")
START_KEYS = ("answer_start", "answer_starts", "start")
SHAPES = (
    'Write a text, a list of texts, or {"text": ["..."], "answer_start": [0]}; '
    "an empty text or list where the context has no answer"
)

# What may be the matter with an answer's place, as a message says it.
MOVED = "the place of an answer was wrong and is mended, because its text is in the context once"
SEVERAL = "an answer without a place is in the context several times, and the first of them is taken"
UNCLEAR = "the place of an answer is wrong and its text is in the context several times, so that it has no place"
ABSENT = "an answer is not in its context"


@dataclass(frozen=True)
class Answer:
    """A right answer, and where in its context it stands."""

    text: str  # as the person wrote it
    start: int | None  # context[start : start + length] is the text without spaces around it; None: no place known
    trouble: str | None = None  # MOVED, SEVERAL, UNCLEAR or ABSENT

    @property
    def end(self) -> int | None:
        """Where it ends in the context."""
        return None if self.start is None else self.start + len(self.text.strip())


def place_answer(text: str, start: int | None, context: str) -> Answer:
    """Finds an answer in its context: where it is said to be, or where its text is once.

    An answer without a place (`start` is None) is taken where it is first.
    """
    bare = text.strip()
    if start is not None:
        said = start + len(text) - len(text.lstrip())
        if context.startswith(bare, said):
            return Answer(text, said)
    found = context.find(bare)
    if found < 0:
        return Answer(text, None, ABSENT)
    once = context.find(bare, found + 1) < 0
    if start is None:
        return Answer(text, found, None if once else SEVERAL)
    return Answer(text, found, MOVED) if once else Answer(text, None, UNCLEAR)


def read_answers(value: Any, starts: Any = None) -> list[tuple[str, int | None]]:
    """The answers in a cell, each with the place that is said of it; none where the cell says that there is none.

    Args:
        value: the cell of the answers.
        starts: the cell beside it that holds their places, if there is one.

    Raises:
        HeadwayError: nobody has said what the answers are, or it cannot be read.
    """
    if isinstance(value, str):
        value = _unpack(value)
    if value is None:
        raise HeadwayError(f"nothing is said about the answers (the cell is null). {SHAPES}.")
    if isinstance(value, str):
        pairs = list(_pair([value] if value.strip() else [], _unpack_starts(starts)))
    elif isinstance(value, list) and all(isinstance(one, str) for one in value):
        pairs = list(_pair(value, _unpack_starts(starts)))
    elif isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
        pairs = [pair for one in value for pair in _read_object(one)]
    elif isinstance(value, Mapping):
        pairs = list(_read_object(value))
    else:
        raise HeadwayError(f"no answers: {_show(value)}. {SHAPES}.")
    return [(text, start) for text, start in pairs if text.strip()]


def _unpack(cell: str) -> Any:
    """Lists and objects that a table's cell holds as JSON, or as Python prints them; everything else as it is."""
    text = cell.strip()
    structured = text.startswith(("{'", '{"')) and any(f"{key}{text[1]}" in text for key in TEXT_KEYS)
    if not structured and not (text.startswith("[") and text.endswith("]")):
        return cell
    try:
        value = _parse(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        if structured:
            raise HeadwayError(
                f"the answers are no valid JSON ({error}): {_show(cell)}. Write them with json.dumps."
            ) from error
        return cell  # "[sic]"
    return value if structured or all(isinstance(one, str | dict) for one in value) else cell


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return ast.literal_eval(text)


def _read_object(one: Mapping[str, Any]) -> Iterator[tuple[str, int | None]]:
    if not one:
        return
    text = next((one[key] for key in TEXT_KEYS if key in one), None)
    starts = next((one[key] for key in START_KEYS if key in one), None)
    if isinstance(text, str):
        text = [text]
        starts = starts if isinstance(starts, list) else [starts]
    if not isinstance(text, list) or not all(isinstance(part, str) for part in text):
        raise HeadwayError(f"no answers: {_show(one)}. {SHAPES}.")
    yield from _pair(text, starts)


def _pair(texts: list[str], starts: Any) -> Iterator[tuple[str, int | None]]:
    if not texts:
        return
    if starts is None or (len(texts) == 1 and not isinstance(starts, list)):
        starts = [starts] * len(texts)
    if not isinstance(starts, list) or len(starts) != len(texts):
        raise HeadwayError(
            f"{len(texts)} answers ({_show(texts)}), but their places are {_show(starts)}. "
            "Give each answer its own place, or leave all places out."
        )
    for text, start in zip(texts, starts, strict=True):
        yield text, _read_start(start)


def _unpack_starts(cell: Any) -> Any:
    """A cell of places: a number, or a list of them, perhaps as text."""
    if not isinstance(cell, str) or not cell.strip().startswith("["):
        return cell
    try:
        return json.loads(cell)
    except ValueError as error:
        raise HeadwayError(f"an answer's place is {_show(cell)}. Write a whole number, or a list of them.") from error


def _read_start(value: Any) -> int | None:
    """A place in code points; below 0, as some files have it, means that none is known."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        if isinstance(value, str | int | float) and not isinstance(value, bool) and float(value).is_integer():
            return int(float(value)) if float(value) >= 0 else None
    except (ValueError, OverflowError):
        pass
    raise HeadwayError(f"an answer's place is {_show(value)}. Write a whole number: its first character, from 0.")


def _show(value: Any) -> str:
    return shorten(value if isinstance(value, str) else repr(value), 80)
