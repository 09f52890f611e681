"""Labels in the cells of a table: one label, several labels or a number, and which of these a column contains.

Several labels are a list, `a;b`, ids joined by commas (`3,27`), or one column with 0 and 1 per label. The errors say
what is wrong and how to fix it; the caller adds the location of the row.
"""

import ast
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from ...core.errors import HeadwayError
from .numbers import COMMA, are_joined_ids, infer_decimal, parse_finite
from .places import shorten

T = TypeVar("T")

# Problem types, as in the config.json of transformers.
SINGLE_LABEL = "single_label_classification"
MULTI_LABEL = "multi_label_classification"
REGRESSION = "regression"

UNLABELLED = "-1"  # the id of unlabelled rows in GLUE
MISSING = ("", "nan")  # texts of an empty cell and of a missing number
SHOWN_LABELS = 12  # in a message
MAX_NESTING = 20  # brackets at the start of a list in a cell; with more, the cell is a text

# Rules that distinguish class ids from numeric targets.
JOINED_IDS = re.compile(r"-?\d+(\s*,\s*\d+)*")
INTEGER = re.compile(r"-?\d{1,18}")
MAX_INTEGER_CLASSES = 30  # more distinct integers are a numeric target, unless they are ids
MIN_ROWS_PER_ID = 5  # mean number of rows per value, from which 0, 1, 2, ... without a gap are ids
MIN_NUMERIC = 0.9  # share of numbers from which a column is numeric; other cells are then errors


def raw_label(cells: Mapping[str, Any], column: str | tuple[str, ...] | None) -> Any:
    """The cell of the label column of a row; for several columns with 0 and 1, the list of those with 1.

    Raises:
        HeadwayError: One of several label columns contains another value than 0 or 1.
    """
    if isinstance(column, tuple):
        return [name for name in column if _is_true(cells.get(name), name)]
    return None if column is None else cells.get(column)


def _is_true(value: Any, column: str) -> bool:
    text = str(value).strip().lower()
    if text in ("1", "1.0", "true", "yes"):
        return True
    if text in ("0", "0.0", "false", "no"):
        return False
    shown = "nothing" if value is None or value == "" else repr(value)
    raise HeadwayError(f'column "{column}" contains {shown}; the column of one label contains 0 or 1. Correct it.')


def is_missing(value: Any) -> bool:
    """Whether a cell has no label: it is None, blank or NaN."""
    if value is None or isinstance(value, str):
        return value is None or value.strip().lower() in MISSING
    return not isinstance(value, list | tuple | dict) and str(value).strip().lower() in MISSING


def missing_label_checker(column: str | tuple[str, ...] | None) -> Callable[[Mapping[str, Any]], bool]:
    """A function that tells whether all cells of the label columns of a row are empty; False without such columns."""
    columns = (column,) if isinstance(column, str) else column or ()
    return lambda cells: bool(columns) and all(is_missing(cells.get(name)) for name in columns)


def map_valid(read: Callable[[Any], T], values: Iterable[Any]) -> Iterator[T]:
    """Yields `read(value)` for each value, except where it raises HeadwayError."""
    for value in values:
        with suppress(HeadwayError):
            yield read(value)


def infer_problem_type(values: Sequence[Any], decimal: str | None = None) -> tuple[str, str]:
    """The problem type of a label column, and the reason as a clause.

    Args:
        values: All cells of the column.
        decimal: Decimal mark of numbers that the user chose; None to infer it.
    """
    present = [value for value in values if not is_missing(value)]
    if any(isinstance(value, list | tuple) for value in present):
        return MULTI_LABEL, "the labels are lists"
    texts = [str(value).strip() for value in present]
    mark = decimal or infer_decimal(present)
    with_comma = next((text for text in texts if COMMA in text), "")
    are_ids = decimal is None and mark == COMMA and are_joined_ids(texts)
    numbers = [] if are_ids else [number for value in present if (number := parse_finite(value, mark)) is not None]
    if numbers and len(numbers) >= MIN_NUMERIC * len(present) and (reason := _why_numeric(numbers)):
        return REGRESSION, reason + _other_reading(with_comma, mark, decimal)
    if any(_parse_list(text) is not None for text in texts):
        return MULTI_LABEL, "the labels are written as lists"
    joined = are_ids or (mark is None and all(JOINED_IDS.fullmatch(text) for text in texts))
    for separator, possible in ((";", True), (COMMA, joined)):
        if possible and any(separator in text for text in texts):
            parts = {part.strip() for text in texts for part in text.split(separator)}
            if len(parts) < len(set(texts)):
                other = f" (--decimal {COMMA} reads numbers: {with_comma})" if are_ids else ""
                return MULTI_LABEL, f'the labels are joined by "{separator}"{other}'
    joined_labels = next((text for text in texts if ";" in text), "") if all(";" in text for text in texts) else ""
    other = f' (--multi-label reads several in each: "{shorten(joined_labels, 40)}")' if joined_labels else ""
    return SINGLE_LABEL, f"the column has {len(set(texts))} different values{other}"


def _why_numeric(numbers: Sequence[float]) -> str | None:
    """Why numbers are a numeric target; None if they are class ids."""
    if any(number != int(number) for number in numbers):
        return "the labels are numbers with decimals"
    distinct = set(numbers)
    are_ids = distinct == set(range(len(distinct))) and len(numbers) >= MIN_ROWS_PER_ID * len(distinct)
    many = len(distinct) > MAX_INTEGER_CLASSES and not are_ids
    return f"the labels are {len(distinct)} different whole numbers" if many else None


def _other_reading(text: str, mark: str | None, given: str | None) -> str:
    """How a label with a comma was read as a number, and how it could be read."""
    if not text or mark is None or given is not None:
        return ""
    if mark == COMMA:
        return f", with a decimal comma: {text} (--multi-label reads two labels)"
    return f", with a comma between thousands: {text} (--decimal , reads a decimal comma)"


def _parse_list(text: str) -> list[Any] | None:
    """A list in JSON, or in Python as pandas exports it, or None."""
    if not (text.startswith("[") and text.endswith("]")) or text.startswith("[" * MAX_NESTING):
        return None
    for parse in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):  # the last two: deep brackets
            return parse(text)
    return None


def label_reader(
    problem_type: str, values: Iterable[Any], known: Sequence[str] = (), *, numbered: bool = False, merge: bool = False
) -> Callable[[Any], Any]:
    """A function that reads a cell as a label (SINGLE_LABEL) or a tuple of labels (MULTI_LABEL).

    Args:
        problem_type: SINGLE_LABEL or MULTI_LABEL.
        values: All cells of the column. They show how several labels are joined, and are read only for MULTI_LABEL.
        known: The labels of the model. Default: any label is valid.
        numbered: Whether a cell may contain the position of a label in `known`, from 0.
        merge: Whether labels that differ only in case and spaces are one: that of `known`, or else the most frequent.
    """
    names = set(known)
    merged = {}
    if merge:
        values = list(values)
        spellings = [(name, 0) for name in known] or count_labels(problem_type, values).most_common()
        merged = {merging_key(name): name for name, _ in reversed(spellings)}

    def label_of(value: Any) -> str:
        if isinstance(value, list | tuple | dict):
            raise HeadwayError(f"the label is {shorten(value, 40)}, not a text or a number. Correct it.")
        label = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
        label = merged.get(merging_key(label), label) if merged else label
        if not names or label in names:
            return label
        if numbered and len(label) < 10 and label.isdecimal() and int(label) < len(known):
            return known[int(label)]
        raise _unknown_label(label, known, numbered)

    def read_one(value: Any) -> str:
        if is_missing(value):
            raise HeadwayError("there is no label. Add one, or delete the row.")
        if isinstance(value, list | tuple):
            raise HeadwayError(
                f"the label is the list {shorten(value)}, not a single label. Correct it, or use --multi-label."
            )
        return label_of(value)

    if problem_type == SINGLE_LABEL:
        return read_one
    separator = ";" if any(";" in value for value in values if isinstance(value, str)) else ","

    def read_several(value: Any) -> tuple[str, ...]:
        if is_missing(value):
            return ()
        if not isinstance(value, list | tuple):
            text = str(value).strip()
            listed = [text] if text in names else _parse_list(text)
            value = text.split(separator) if listed is None else listed
        return tuple(dict.fromkeys(label_of(part) for part in value if not is_missing(part)))

    return read_several


def count_labels(problem_type: str, values: Sequence[Any]) -> Counter[str]:
    """How many rows have each label, as it is spelled there."""
    rows = map_valid(label_reader(problem_type, values), values)
    return Counter(label for row in rows for label in ([row] if problem_type == SINGLE_LABEL else row))


def merging_key(label: str) -> str:
    """What labels have in common that differ only in case and spaces."""
    return " ".join(label.split()).casefold()


def merged_spellings(counts: Mapping[str, int]) -> list[str]:
    """The spellings that `--merge-labels` makes one label: "'BILLING' (3) and 'billing' (2) become 'Billing' (20)"."""
    groups: dict[str, list[str]] = {}
    for label in sorted(counts, key=lambda label: -counts[label]):
        groups.setdefault(merging_key(label), []).append(label)
    return [
        f"{' and '.join(f'{label!r} ({counts[label]:,})' for label in others)} become {first!r} ({counts[first]:,})"
        for first, *others in groups.values()
        if others
    ]


def describe_merging(problem_type: str, values: Sequence[Any]) -> str:
    """A note about the labels that `--merge-labels` merges."""
    return (
        f"labels merged (--merge-labels): {'; '.join(merged_spellings(count_labels(problem_type, values))) or 'none'}"
    )


def _unknown_label(label: str, known: Sequence[str], numbered: bool) -> HeadwayError:
    listed = ", ".join(known[:SHOWN_LABELS]) + (", ..." if len(known) > SHOWN_LABELS else "")
    number = f", nor the number of one (0 to {len(known) - 1})" if numbered else ""
    hint = " -1 usually means unlabelled; such rows can only be predicted." if label == UNLABELLED else ""
    return HeadwayError(
        f"the label {shorten(repr(label))} is not one of the {len(known)} known labels ({listed}){number}.{hint} "
        "Correct it, delete the row, or train on data with this label."
    )


def sort_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """The distinct labels, in numerical order if all are integers, else in alphabetical order."""
    distinct = sorted(set(labels))
    if all(INTEGER.fullmatch(label) for label in distinct):
        distinct.sort(key=int)
    return tuple(distinct)
