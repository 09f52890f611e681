"""Held-out texts that a model folder keeps as examples to try."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..data.examples import Example
from .results import Evaluation
from .task import Task

MAX_CHARACTERS = 2000  # of all texts of an example


def held_out_texts(task: Task[Any, Any], evaluation: Evaluation) -> list[dict[str, str]]:
    """The first held-out texts that are not long, by the names of the task's fields; empty for unlabelled text."""
    names = [field.name for field in task.fields]
    found = (
        dict(zip(names, example.texts, strict=False))
        for example in evaluation.examples
        if isinstance(example, Example) and sum(map(len, example.texts)) <= MAX_CHARACTERS
    )
    return _distinct(found, task.keep_examples)


def stored_texts(task: Task[Any, Any], info: Mapping[str, Any]) -> list[dict[str, str]]:
    """The examples in headway.json that have the texts that the task reads."""
    stored = info.get("examples")
    required = {field.name for field in task.fields if field.required}
    known = {field.name for field in task.fields}
    return [
        one
        for one in (stored if isinstance(stored, list) else [])
        if isinstance(one, dict) and required <= one.keys() <= known and all(isinstance(v, str) for v in one.values())
    ]


def _distinct(texts: Iterable[dict[str, str]], most: int) -> list[dict[str, str]]:
    """The first examples without a text in common, such as the passage of several questions.

    If these are too few, as where all examples ask the same question, the first of the others follow.
    """
    found: list[dict[str, str]] = []
    others: list[dict[str, str]] = []
    for one in texts:
        if len(found) == most:
            break
        if all(one[name] != other.get(name) for other in found for name in one):
            found.append(one)
        elif len(others) < most and one not in (*found, *others):
            others.append(one)
    return (found + others)[:most]
