"""Numbers in cells, which may be texts with a decimal comma ("4,7") or separators between thousands ("1,234.5")."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...core.errors import HeadwayError
from .places import shorten

POINT, COMMA = ".", ","
WITH_COMMA = re.compile(r"[-+]?\d+,\d+")
THOUSANDS = {
    POINT: re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?"),
    COMMA: re.compile(r"[-+]?[1-9]\d{0,2}(\.\d{3})+(,\d+)?"),
}
MAX_NUMBER = 1e30  # the squared error of larger ones is not finite in fp32


def infer_decimal(values: Iterable[Any]) -> str | None:
    """The decimal mark of a column of numbers, some of which have a comma; None for any other column."""
    texts = [text for value in values if isinstance(value, str) and COMMA in (text := value.strip())]
    if texts and all(THOUSANDS[POINT].fullmatch(text) for text in texts):
        return POINT
    if texts and all(WITH_COMMA.fullmatch(text) or THOUSANDS[COMMA].fullmatch(text) for text in texts):
        return COMMA
    return None


def are_joined_ids(values: Sequence[str]) -> bool:
    """Whether values such as "3,27" are more plausibly two ids than a number with a decimal comma.

    The parts of such a pair are also separate values, or pairs are ascending and less frequent than single ids.
    Halves ("4,5") and leading zeros ("0,05") are numbers.
    """
    pairs = [tuple(value.split(COMMA)) for value in values if COMMA in value]
    single = {value for value in values if COMMA not in value}
    parts = {part for pair in pairs for part in pair}
    if {second for _, second in pairs} <= {"5", "50"} or any(part[:1] == "0" != part for part in parts):
        return False
    ascending = all(float(first) < float(second) for first, second in pairs)
    return parts <= single or (ascending and 2 * len(pairs) < len(values))


def parse_finite(value: Any, decimal: str | None = None) -> float | None:
    """A finite number, or None. Booleans are not numbers.

    Args:
        value: The cell.
        decimal: Decimal mark of the column, if some of its numbers have a comma.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and decimal is not None:
        value = value.strip()
        if THOUSANDS[decimal].fullmatch(value):
            value = value.replace(POINT if decimal == COMMA else COMMA, "")
        if decimal == COMMA and WITH_COMMA.fullmatch(value):
            value = value.replace(COMMA, POINT)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def parse_number(value: Any, decimal: str | None = None) -> float:
    """A numeric target.

    Args:
        value: The cell.
        decimal: Decimal mark of the column, if some of its numbers have a comma.

    Raises:
        HeadwayError: It is missing, not a finite number, or too large to train on.
    """
    number = parse_finite(value, decimal)
    if number is not None and abs(number) <= MAX_NUMBER:
        return number
    is_empty = value is None or value == ""
    limit = "" if number is None else f" up to {MAX_NUMBER:g}"
    what = "there is no label" if is_empty else f"the label is {_shown(value)}, which is not a finite number{limit}"
    raise HeadwayError(f"{what}. Correct the row, or delete it.")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "too large" if isinstance(value, int) and not isinstance(value, bool) else shorten(repr(value))


def number_reader(values: Iterable[Any], decimal: str | None) -> Callable[[Any], float]:
    """`parse_number` with the decimal mark of a column.

    Args:
        values: All cells of the column.
        decimal: Decimal mark that the user chose; None to infer it.
    """
    mark = decimal or infer_decimal(values)
    return lambda value: parse_number(value, mark)
