"""Thresholds that the user sets for several labels: one for all, or one for each of some labels."""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...core.errors import HeadwayError

FORM = re.compile(r"(.+?)=([^=,]+)(?:,\s*|$)")  # label=0.3 and what separates it from the next one
EXAMPLE = "one number, or numbers by label (billing=0.3,refund=0.6)"


def normalize_threshold(given: Any) -> str:
    """A threshold in its stored form: a number, or a JSON object of numbers by label.

    Args:
        given: a number, a mapping of labels to numbers, or either as text: "0.3", "billing=0.3,refund=0.6".

    Raises:
        HeadwayError: it is something else, or not between 0 and 1.
    """
    found = given
    if isinstance(given, str):
        text = given.strip()
        pairs = FORM.findall(text)
        if text.startswith("{"):
            found = _read_json(text)
        elif pairs and "".join(match.group(0) for match in FORM.finditer(text)) == text:
            found = {label.strip(): number for label, number in pairs}
    numbers = found if isinstance(found, Mapping) else {"": found}
    checked = {str(label): _check(number, given) for label, number in numbers.items()}
    if not checked:
        raise HeadwayError(f"--threshold {given} is empty; it must be {EXAMPLE}.")
    return json.dumps(checked, ensure_ascii=False) if isinstance(found, Mapping) else str(checked[""])


def apply_threshold(threshold: str, labels: Sequence[str], fitted: Sequence[float]) -> tuple[float, ...]:
    """The threshold of each label.

    Args:
        threshold: in its stored form.
        labels: of the model.
        fitted: the thresholds of labels for which none is set; empty: 0.5.

    Raises:
        HeadwayError: the model does not have a label.
    """
    given = json.loads(threshold)
    if not isinstance(given, dict):
        return (float(given),) * len(labels)
    for label in given:
        if label not in labels:
            near = difflib.get_close_matches(label, labels, n=1)
            suggestion = f'Did you mean "{near[0]}"?' if near else f"Its labels are: {', '.join(labels)}."
            raise HeadwayError(f'--threshold: the model has no label "{label}". {suggestion}')
    values = zip(labels, fitted or (0.5,) * len(labels), strict=True)
    return tuple(given.get(label, value) for label, value in values)


def _read_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise HeadwayError(f"--threshold {text} is not valid JSON ({error}); it must be {EXAMPLE}.") from error


def _check(number: Any, given: Any) -> float:
    try:
        value = float(number)
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value <= 1 or isinstance(number, bool):
        raise HeadwayError(f"--threshold {given} is invalid; it must be {EXAMPLE}, each from 0 to 1.")
    return value
