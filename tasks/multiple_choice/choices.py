"""Reads the choices in a row, and which of them its label names.

Choices are a list, one text with a choice per line (or with `|` between choices), several columns (`ending0`,
`ending1`, ... as in SWAG, Zellers et al. 2018, https://arxiv.org/abs/1808.05326; `A`, `B`, ...), or an object with the
lists `text` and `label` (ARC, Clark et al. 2018, https://arxiv.org/abs/1803.05457).
"""

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ...core.errors import HeadwayError
from ..data.column_names import normalize_name
from ..data.columns import parse_text
from ..data.labels import is_missing
from ..data.places import shorten

# What is before the number or letter in the names of several columns, in order of preference; "" for letters alone.
STEMS = ("choice", "ending", "option", "answer", "candidate", "alternative", "solution", "sol", "opt", "op", "")
FIRST = re.compile("(.+)([01])|(.*)(a)")
FEWEST = 2  # choices; of columns that are called by a letter alone one more
FORMS = "Write a list, one choice per line, or | between choices"


@dataclass(frozen=True)
class Choices:
    """The choices of a row, and their names ("A", "B", ...) if the row gives them."""

    texts: tuple[str, ...]
    names: tuple[str, ...] = ()


def series(columns: Sequence[str], first: str) -> tuple[str, ...]:
    """The column and those that continue its number or letter: ending0, ending1, ...; at least the column itself."""
    by_name = {normalize_name(column): column for column in columns}
    match = FIRST.fullmatch(normalize_name(first))
    found = [first]
    while match is not None:
        stem, start = match[1] or match[3] or "", match[2] or match[4]
        code = str(int(start) + len(found)) if start.isdecimal() else chr(ord(start) + len(found))
        if stem + code not in by_name:
            break
        found.append(by_name[stem + code])
    return tuple(found)


def find_series(columns: Sequence[str]) -> str | None:
    """The first of several columns that hold one choice each, by its name."""
    by_name = {normalize_name(column): column for column in columns}
    for stem in STEMS:
        for start in ("0", "1", "a") if stem else ("a",):
            first = by_name.get(stem + start)
            if first is not None and len(series(columns, first)) >= FEWEST + (not stem):
                return first
    return None


def choice_reader(columns: tuple[str, ...], *, labelled: bool) -> Callable[[Mapping[str, Any]], Choices]:
    """A function that reads the choices of a row from one column or from several.

    It raises HeadwayError if they cannot be read, or if there is only one.
    """

    def read(cells: Mapping[str, Any]) -> Choices:
        if len(columns) == 1:
            found = _parse(cells.get(columns[0]), columns[0])
        else:
            given = [cells.get(column) for column in columns]
            while given and is_missing(given[-1]):
                given.pop()
            texts = (
                parse_text(cell, name, "choices", labelled=labelled)
                for name, cell in zip(columns, given, strict=False)
            )
            found = Choices(tuple(texts))
        if len(found.texts) < 2:
            has = f"one choice ({shorten(found.texts[0])!r})" if found.texts else "no choice"
            raise HeadwayError(f'column "{columns[0]}" has {has}; at least two are needed. {FORMS}.')
        if labelled and not all(text.strip() for text in found.texts):
            raise HeadwayError(f'column "{columns[0]}": a choice is empty. Fill it in, or delete it.')
        return found

    return read


def parse_choices(value: Any) -> tuple[str, ...]:
    """The choices in a cell or in a field of a form; any number of them."""
    return _parse(value, "choices").texts


def join_choices(choices: Sequence[str]) -> str:
    """Choices as one text, which `parse_choices` divides again."""
    lines = "\n".join(choices)
    return lines if parse_choices(lines) == tuple(choices) else json.dumps(list(choices), ensure_ascii=False)


def _parse(value: Any, column: str) -> Choices:
    if isinstance(value, str):
        value = _unpack(value)
    if isinstance(value, Mapping):
        texts, names = value.get("text"), value.get("label", ())
    elif isinstance(value, list | tuple) and value and all(isinstance(one, Mapping) for one in value):
        texts, names = [one.get("text") for one in value], [one["label"] for one in value if "label" in one]
    else:
        texts, names = value, ()
    if not isinstance(texts, list | tuple) or any(isinstance(one, list | dict | None) for one in texts):
        raise HeadwayError(f'column "{column}": these are not choices: {shorten(repr(value), 80)}. {FORMS}.')
    named = isinstance(names, list | tuple) and len(names) == len(texts)
    return Choices(tuple(map(str, texts)), tuple(map(str, names)) if named else ())


def _unpack(text: str) -> Any:
    """A list or an object that is written as JSON or as Python prints it; else the lines, or what is between `|`."""
    stripped = text.strip()
    if stripped[:1] + stripped[-1:] in ("[]", "{}"):
        for parse in (json.loads, ast.literal_eval):
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                value = parse(stripped)
                if isinstance(value, list | dict):
                    return value
    parts = stripped.splitlines() if "\n" in stripped else stripped.split("|")
    return [part.strip() for part in parts if part.strip()]


# The label.


def _by_name(label: str, choices: Choices) -> int | None:
    return choices.names.index(label) if label in choices.names else None


def _by_text(label: str, choices: Choices) -> int | None:
    texts = [text.strip() for text in choices.texts]
    return texts.index(label) if label in texts else None


def _by_number(first: int) -> Callable[[str, Choices], int | None]:
    def read(label: str, choices: Choices) -> int | None:
        index = int(label) - first if re.fullmatch(r"\d{1,9}", label) else -1
        return index if 0 <= index < len(choices.texts) else None

    return read


def _by_letter(label: str, choices: Choices) -> int | None:
    index = ord(label.upper()) - ord("A") if re.fullmatch("[A-Za-z]", label) else -1
    return index if 0 <= index < len(choices.texts) else None


NAME, TEXT = "name", "text"
# How a label can name a choice; of several ways that fit equally well, the first is taken.
READINGS: dict[str, tuple[str, Callable[[str, Choices], int | None]]] = {
    NAME: ("its name in the row", _by_name),
    TEXT: ("its text", _by_text),
    "from-0": ("its number, from 0", _by_number(0)),
    "from-1": ("its number, from 1", _by_number(1)),
    "letter": ("its letter", _by_letter),
}


def read_answer(label: Any, choices: Choices, reading: str) -> int:
    """The index of the choice that a label names.

    Args:
        label: a cell.
        choices: of its row.
        reading: one of READINGS.

    Raises:
        HeadwayError: there is no label, or it names none of the choices.
    """
    if is_missing(label):
        raise HeadwayError("there is no label. Add one, or delete the row.")
    what, read = READINGS[reading]
    index = read(_spelled(label), choices)
    if index is None:
        listed = f"{len(choices.texts)} choices ({shorten(' | '.join(choices.texts), 120)})"
        raise HeadwayError(
            f"the label {shorten(repr(label), 60)} does not name one of the {listed} by {what}. Correct it, or name "
            "another way with --answer-as."
        )
    return index


def infer_reading(rows: Sequence[tuple[Any, Choices]], known: str | None = None) -> tuple[str, list[str]]:
    """How labels name the choices of their rows, and the other ways that fit every row but give other answers.

    Args:
        rows: labels with the choices of their rows.
        known: the way that is taken if it fits as well as any other.
    """
    found = {name: [read(_spelled(label), choices) for label, choices in rows] for name, (_, read) in READINGS.items()}
    fits = {name: sum(index is not None for index in indices) for name, indices in found.items()}
    best = max(READINGS, key=lambda name: (fits[name], name == known))
    others = [name for name in READINGS if fits[name] == len(rows) and found[name] != found[best]]
    return best, others


def _spelled(label: Any) -> str:
    """A label as text; a whole number without ".0", which pandas writes in a column with empty cells."""
    text = str(label).strip()
    return text.partition(".")[0] if re.fullmatch(r"\d+\.0+", text) else text
