"""What the folder of a sentence encoder says about reading texts, for a classifier on its vectors."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..embedding.published_pooling import PublishedPooling

if TYPE_CHECKING:
    from .classification import TextClassification

CLS, MEAN = POOLING = ("cls", "mean")
TaskT = TypeVar("TaskT", bound="TextClassification")


def with_published_pooling(task: TaskT, folder: Path) -> TaskT:
    """The task with the pooling and the maximum length of a sentence encoder, if the folder is one's.

    Raises:
        HeadwayError: a file of the folder is damaged, or its vectors have a module that is not supported.
    """
    published = PublishedPooling.read(folder)
    if published is None or published.pooling.modes not in ((CLS,), (MEAN,)):
        return task
    (pooling,) = published.pooling.modes
    return replace(task, pooling=pooling, max_length=task.max_length or published.max_length)
