"""First floor: what is plugged onto a model, and the one list of tasks."""

from pathlib import Path

from .base import Task
from .classification import TextClassification
from .data import read_table
from .model import TaskModel
from .question_answering import QuestionAnswering
from .tagging import TokenClassification

__all__ = [
    "TASKS",
    "QuestionAnswering",
    "TaskModel",
    "TextClassification",
    "TokenClassification",
    "load",
    "read_table",
]

TASKS: dict[str, type[Task]] = {
    task.name: task for task in (TextClassification, TokenClassification, QuestionAnswering)
}


def load(model: str | Path) -> TaskModel:
    """A model that predicts: a folder that Headway saved, or a published checkpoint with its own head.

    Raises:
        HeadwayError: there is no such model, it cannot be read, or it has no head of a known task.
    """
    return TaskModel.load(model, TASKS)
