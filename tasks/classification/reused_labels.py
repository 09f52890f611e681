"""A classifier that is trained further: its labels, and those of the new data."""

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from ..data.labels import REGRESSION, SINGLE_LABEL

if TYPE_CHECKING:
    from .classification import TextClassification

TaskT = TypeVar("TaskT", bound="TextClassification")


def with_labels_of(before: "TextClassification", task: TaskT) -> TaskT | None:
    """The task with the labels of a trained one; None if they do not include all labels of the new data."""
    if before.problem_type != task.problem_type or not task.uses_training_loop or task.prompt_template:
        return None
    if task.problem_type == REGRESSION:
        return task
    if task.numbered:  # the user gave all labels, in their order
        return task if task.labels == before.labels else None
    if not set(task.labels) <= set(before.labels):
        return None
    weight = dict(zip(task.labels, task.weights, strict=bool(task.weights)))
    absent = 0.0 if task.problem_type == SINGLE_LABEL else 1.0
    weights = tuple(weight.get(label, absent) for label in before.labels) if weight else ()
    return replace(task, labels=before.labels, numbered=before.numbered, weights=weights, shares=())
