"""Labels as people write them: one value, several, or a number; and which of these a column holds.

Several labels come as a list, as `a;b`, as ids joined by commas (`3,27`), or as one 0/1 column for each label.
What cannot be read is a HeadwayError that says what is wrong and what to do; the caller knows where.
"""

import ast
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from ...core.errors import HeadwayError

T = TypeVar("T")

SINGLE_LABEL = "single_label_classification"  # the published names of the three forms of a target (config.json)
MULTI_LABEL = "multi_label_classification"
REGRESSION = "regression"

UNLABELLED = "-1"  # in a column of integers, as GLUE's test sets have it
VERDICT, REJECTED = "answer", ("reject", "ignore")  # what Prodigy's annotators say of a row
IDS = re.compile(r"-?\d+(\s*,\s*\d+)*")
MOST_CLASSES_OF_INTEGERS = 30  # a column of more different integers than this is a quantity, unless they are ids
LEAST_NUMBERS = 0.9  # of the values: then the column is one of numbers, and the others are mistakes
ROWS_PER_ID = 5  # on average, where integers from 0 on without a gap are ids of classes


def raw_label(cells: Mapping[str, Any], column: str | tuple[str, ...] | None) -> Any:
    """What a row's label column holds; of several 0/1 columns, the list of those that say yes.

    Raises:
        HeadwayError: a 0/1 column holds something else.
    """
    if isinstance(column, tuple):
        return [name for name in column if _is_yes(cells.get(name), name)]
    return None if column is None else cells.get(column)


def _is_yes(value: Any, column: str) -> bool:
    text = str(value).strip().lower()
    if text in ("1", "1.0", "true", "yes"):
        return True
    if text in ("0", "0.0", "false", "no"):
        return False
    raise HeadwayError(f'column "{column}" holds {_shown(value)}; a column for one label holds 0 or 1. Correct it.')


def is_missing(value: Any) -> bool:
    """Whether a cell holds no label at all: nothing, only spaces, or what is left of a missing number."""
    return value is None or (not isinstance(value, list | tuple) and str(value).strip().lower() in ("", "nan"))


def rejection_checker(
    rows: Iterable[Mapping[str, Any]], taken: Collection[str]
) -> Callable[[Mapping[str, Any]], None]:
    """What refuses a row whose annotator did not accept it, as Prodigy says in a column "answer".

    Other data has answers too: a column with anything else than Prodigy's three words is none of verdicts.

    Args:
        rows: all of them.
        taken: the columns that are read as something else.
    """
    answers = (row.get(VERDICT) for row in rows)
    judged = VERDICT not in taken and all(is_missing(one) or one in ("accept", *REJECTED) for one in answers)

    def read(cells: Mapping[str, Any]) -> None:
        if judged and (answer := cells.get(VERDICT)) in REJECTED:
            raise HeadwayError(f'its annotation is not to be used: its answer is "{answer}". Delete the row.')

    return read


def _shown(value: Any) -> str:
    return "nothing" if value is None or value == "" else repr(value)


def map_valid(read: Callable[[Any], T], values: Iterable[Any]) -> Iterator[T]:
    """What can be read of some values; the others are passed over."""
    for value in values:
        with suppress(HeadwayError):
            yield read(value)


def infer_problem_type(values: Sequence[Any]) -> tuple[str, str]:
    """Which form of target a column holds, and why, as the end of a sentence."""
    present = [value for value in values if not is_missing(value)]
    if any(isinstance(value, list | tuple) for value in present):
        return MULTI_LABEL, "its values are lists"
    texts = [str(value).strip() for value in present]
    numbers = [number for number in map(_finite, present) if number is not None]
    if numbers and len(numbers) >= LEAST_NUMBERS * len(present):
        if any(number != int(number) for number in numbers):
            return REGRESSION, "its values are numbers with decimals"
        distinct = set(numbers)
        are_ids = distinct == set(range(len(distinct))) and len(numbers) >= ROWS_PER_ID * len(distinct)
        if len(distinct) > MOST_CLASSES_OF_INTEGERS and not are_ids:
            return REGRESSION, f"it holds {len(distinct)} different whole numbers"
    if any(_list_in(text) is not None for text in texts):
        return MULTI_LABEL, "its values are written as lists"
    for separator, possible in ((";", True), (",", all(IDS.fullmatch(text) for text in texts))):
        if possible and any(separator in text for text in texts):
            parts = {part.strip() for text in texts for part in text.split(separator)}
            if len(parts) < len(set(texts)):
                return MULTI_LABEL, f'its values are joined by "{separator}"'
    return SINGLE_LABEL, f"it holds {len(set(texts))} different values"


def _finite(value: Any) -> float | None:
    """A value as a number; true and false, which Python counts as 1 and 0, are none."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _list_in(text: str) -> list[Any] | None:
    """The list that a text writes out, in JSON or (as DataFrames are exported) in Python."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for parse in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError):
            return parse(text)
    return None


def parse_number(value: Any) -> float:
    """A numeric target.

    Raises:
        HeadwayError: it is missing or not a finite number.
    """
    number = _finite(value)
    if number is None:
        missing = value is None or value == ""
        what = "there is no label" if missing else f"the label is {value!r}, which is not a finite number"
        raise HeadwayError(f"{what}. Correct the row, or delete it.")
    return number


def label_reader(
    problem_type: str, values: Iterable[Any], known: Sequence[str] = (), *, numbered: bool = False
) -> Callable[[Any], Any]:
    """How to read a raw value of a column into a label (SINGLE_LABEL), or into a tuple of labels (MULTI_LABEL).

    Args:
        problem_type: SINGLE_LABEL or MULTI_LABEL.
        values: the whole column, which says how several labels are joined; read only if there are several.
        known: the labels that there are, if that is known; others are refused.
        numbered: whether a label may be given by its position in `known`.
    """
    joined = problem_type == MULTI_LABEL and any(";" in value for value in values if isinstance(value, str))
    separator = ";" if joined else ","
    names = set(known)

    def named(value: Any) -> str:
        label = str(int(value)) if isinstance(value, float) and value == int(value) else str(value).strip()
        if not names or label in names:
            return label
        if numbered and label.isdecimal() and int(label) < len(known):
            return known[int(label)]
        listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
        number = f", nor the number of one (0 to {len(known) - 1})" if numbered else ""
        stands = " -1 usually stands for unlabelled: such rows can only be predicted." * (label == UNLABELLED)
        raise HeadwayError(
            f"the label {label!r} is none of the {len(known)} that are known ({listed}){number}.{stands} "
            "Correct it, delete the row, or train with such labels in the training data."
        )

    def one(value: Any) -> str:
        if is_missing(value):
            raise HeadwayError("there is no label. Give it one, or delete the row.")
        if isinstance(value, list | tuple):
            raise HeadwayError(
                f"the label is the list {value!r}; one label is expected. Correct it, or say --multi-label."
            )
        return named(value)

    def several(value: Any) -> tuple[str, ...]:
        if is_missing(value):
            return ()  # no label applies
        if not isinstance(value, list | tuple):
            text = str(value).strip()
            listed = [text] if text in names else _list_in(text)
            value = text.split(separator) if listed is None else listed
        return tuple(dict.fromkeys(named(part) for part in value if not is_missing(part)))

    return one if problem_type == SINGLE_LABEL else several


def sort_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Each label once: by number if all are numbers, else by the alphabet."""
    distinct = sorted(set(labels))
    if all(re.fullmatch(r"-?\d+", label) for label in distinct):
        distinct.sort(key=int)
    return tuple(distinct)
