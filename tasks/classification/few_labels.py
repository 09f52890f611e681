"""Classifiers for few labels, which logistic regression fits: their options, and what a folder says about reading."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from ...core.errors import HeadwayError
from ..data.labels import REGRESSION
from ..embedding.published_pooling import PublishedPooling

CLS, MEAN = POOLING = ("cls", "mean")


class FewLabels:
    """The hooks of text classification for `frozen` and `few_shot`."""

    problem_type: str | None
    max_length: int | None
    frozen: bool
    few_shot: bool
    pooling: str | None

    def check_few_labels(self) -> None:
        """Raises HeadwayError if options for few labels contradict each other or the kind of label."""
        if self.frozen and self.few_shot:
            raise HeadwayError(
                "--few-shot includes what --frozen does, and trains the model as well. Give one of them."
            )
        if self.pooling and self.uses_training_loop:
            raise HeadwayError("--pooling is only for --frozen and --few-shot. Add one of them, or omit --pooling.")
        if self.few_shot and self.problem_type == REGRESSION:
            raise HeadwayError(
                "--few-shot is for labels, and the label is a number. Use --frozen, or train without it."
            )

    def for_folder(self, folder: Path) -> Self:
        """Without the training loop, the pooling and the maximum length that the folder of a sentence encoder states.

        Raises:
            HeadwayError: a file of the folder is damaged, or its vectors have a module that is not supported.
        """
        published = None if self.uses_training_loop or self.pooling else PublishedPooling.read(folder)
        if published is None or published.pooling.modes not in ((CLS,), (MEAN,)):
            return self
        (pooling,) = published.pooling.modes
        changed: Any = {"pooling": pooling, "max_length": self.max_length or published.max_length}
        return replace(self, **changed)  # type: ignore[type-var]

    @property
    def uses_training_loop(self) -> bool:
        """Not with `frozen` or `few_shot`."""
        return not (self.frozen or self.few_shot)
