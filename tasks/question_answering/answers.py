"""Parses the gold answers of a question in all common formats, and finds them in the context.

SQuAD's `{"text": [...], "answer_start": [...]}` (https://huggingface.co/datasets/rajpurkar/squad_v2), the same as text
in a table cell, lists of such objects or of texts, or a plain text. Offsets count code points.
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
FORMATS = (
    'Write a text, a list of texts, or {"text": ["..."], "answer_start": [0]}; '
    "an empty text or list if the context has no answer"
)

# Problems with the offset of an answer, as clauses of a message.
CORRECTED = "the offset of an answer was wrong and is corrected, because its text occurs once in the context"
FIRST_OF_SEVERAL = "an answer without an offset occurs several times in the context, and the first occurrence is used"
AMBIGUOUS = "the offset of an answer is wrong and its text occurs several times in the context, so it is not used"
ABSENT = "an answer is not in its context"


@dataclass(frozen=True)
class Answer:
    """A gold answer and its offset in the context."""

    text: str  # as given
    start: int | None  # context[start:end] is the stripped text; None: unknown
    problem: str | None = None  # CORRECTED, FIRST_OF_SEVERAL, AMBIGUOUS or ABSENT

    @property
    def end(self) -> int | None:
        """Its end in the context."""
        return None if self.start is None else self.start + len(self.text.strip())


def locate_answer(text: str, start: int | None, context: str) -> Answer:
    """Finds an answer in its context: at the given offset, or where its text occurs once.

    Without a given offset (`start` is None), the first occurrence is used.
    """
    stripped = text.strip()
    if start is not None:
        given = start + len(text) - len(text.lstrip())
        if context.startswith(stripped, given):
            return Answer(text, given)
    found = context.find(stripped)
    if found < 0:
        return Answer(text, None, ABSENT)
    once = context.find(stripped, found + 1) < 0
    if start is None:
        return Answer(text, found, None if once else FIRST_OF_SEVERAL)
    return Answer(text, found, CORRECTED) if once else Answer(text, None, AMBIGUOUS)


def parse_answers(value: Any, starts: Any = None) -> list[tuple[str, int | None]]:
    """The answers in a cell, each with its given offset; empty if the context has no answer.

    Args:
        value: the cell with the answers.
        starts: the cell with their offsets, if there is one.

    Raises:
        HeadwayError: the cell is null, or its format is unknown.
    """
    if isinstance(value, str):
        value = _unpack(value)
    if value is None:
        raise HeadwayError(f"the cell is null, so it is unknown whether there is an answer. {FORMATS}.")
    if isinstance(value, str):
        pairs = list(_pair([value] if value.strip() else [], _unpack_starts(starts)))
    elif isinstance(value, list) and all(isinstance(one, str) for one in value):
        pairs = list(_pair(value, _unpack_starts(starts)))
    elif isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
        pairs = [pair for one in value for pair in _parse_object(one)]
    elif isinstance(value, Mapping):
        pairs = list(_parse_object(value))
    else:
        raise HeadwayError(f"these are not answers: {_show(value)}. {FORMATS}.")
    return [(text, start) for text, start in pairs if text.strip()]


def _unpack(cell: str) -> Any:
    """A list or an object written in a table cell, as JSON or as printed by Python; any other text unchanged."""
    text = cell.strip()
    structured = text.startswith(("{'", '{"')) and any(f"{key}{text[1]}" in text for key in TEXT_KEYS)
    if not structured and not (text.startswith("[") and text.endswith("]")):
        return cell
    try:
        value = _parse_literal(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        if structured:
            raise HeadwayError(
                f"the answers are not valid JSON ({error}): {_show(cell)}. Write them with json.dumps."
            ) from error
        return cell  # "[sic]"
    return value if structured or all(isinstance(one, str | dict) for one in value) else cell


def _parse_literal(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return ast.literal_eval(text)


def _parse_object(one: Mapping[str, Any]) -> Iterator[tuple[str, int | None]]:
    if not one:
        return
    text = next((one[key] for key in TEXT_KEYS if key in one), None)
    starts = next((one[key] for key in START_KEYS if key in one), None)
    if isinstance(text, str):
        text = [text]
        starts = starts if isinstance(starts, list) else [starts]
    if not isinstance(text, list) or not all(isinstance(part, str) for part in text):
        raise HeadwayError(f"these are not answers: {_show(one)}. {FORMATS}.")
    yield from _pair(text, starts)


def _pair(texts: list[str], starts: Any) -> Iterator[tuple[str, int | None]]:
    if not texts:
        return
    if starts is None or (len(texts) == 1 and not isinstance(starts, list)):
        starts = [starts] * len(texts)
    if not isinstance(starts, list) or len(starts) != len(texts):
        raise HeadwayError(
            f"there are {len(texts)} answers ({_show(texts)}), but their offsets are {_show(starts)}. "
            "Give each answer one offset, or leave out all of them."
        )
    for text, start in zip(texts, starts, strict=True):
        yield text, _parse_start(start)


def _unpack_starts(cell: Any) -> Any:
    """A cell with an offset or a list of offsets; the list may be written as text."""
    if not isinstance(cell, str) or not cell.strip().startswith("["):
        return cell
    try:
        return json.loads(cell)
    except ValueError as error:
        raise HeadwayError(
            f"the offset of an answer is {_show(cell)}. Write an integer, or a list of them."
        ) from error


def _parse_start(value: Any) -> int | None:
    """An offset; None if it is missing, or negative as in some files."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        if isinstance(value, str | int | float) and not isinstance(value, bool) and float(value).is_integer():
            return int(float(value)) if float(value) >= 0 else None
    except (ValueError, OverflowError):
        pass
    raise HeadwayError(
        f"the offset of an answer is {_show(value)}. Write an integer: the position of its first character, from 0."
    )


def _show(value: Any) -> str:
    return shorten(value if isinstance(value, str) else repr(value), 80)
