"""Regression: a number per example.

Shapes: E examples.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.errors import HeadwayError
from ..base.baseline import Baseline, agreement
from ..base.explanation import ExplainableOutput
from ..base.report_numbers import NumberCharts
from ..base.report_parts import ReportCollector
from ..data.labels import map_valid
from ..data.numbers import number_reader
from ..tallies import Tally, tally_numbers
from .predictions import NumberPrediction
from .target import LabelColumn, Target


@dataclass(frozen=True)
class Regression(Target):
    """A number. The network learns it scaled to a mean of 0 and a standard deviation of 1.

    With `sigmoid` the number is the sigmoid of the network's output, as of some cross-encoders; never in training.
    """

    target_mean: float = 0.0
    target_std: float = 1.0
    sigmoid: bool = False

    description: ClassVar[str] = "a number"

    @classmethod
    def infer(cls, column: LabelColumn, labels: tuple[str, ...], *, balanced: bool) -> Self:  # noqa: ARG003
        """The mean and the standard deviation."""
        numbers = list(map_valid(number_reader(column.values, column.decimal), column.values))
        if not numbers:
            raise HeadwayError(
                f"{column.source}: no label is a number ({column.values[0]!r}, ...). Name another column with --label."
            )
        if len(set(numbers)) == 1:
            raise HeadwayError(
                f"{column.source}: every label is {numbers[0]:g}; at least two different numbers are needed. "
                "Name another column with --label."
            )
        return cls(**cls().measure(numbers))

    def measure(self, gold: Iterable[Any]) -> dict[str, Any]:
        """The mean and the standard deviation.

        Raises:
            HeadwayError: it is 0.
        """
        numbers = list(gold)
        mean = math.fsum(numbers) / len(numbers)
        std = math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / len(numbers))
        if std == 0:
            raise HeadwayError(
                f"Every label of the training rows is {numbers[0]:g}, and only rows that are held out have others. "
                "Give more rows with other labels."
            )
        return {"target_mean": mean, "target_std": std}

    @property
    def num_outputs(self) -> int:
        """One."""
        return 1

    def encode(self, label: float) -> float:
        """The scaled number."""
        return (label - self.target_mean) / self.target_std

    def loss(self, logits: Tensor, gold: Tensor, weights: Tensor | None) -> tuple[Tensor, int]:  # noqa: ARG002
        """The squared error."""
        found = logits.squeeze(-1)
        return F.mse_loss(found.sigmoid() if self.sigmoid else found, gold, reduction="sum"), len(gold)

    def decode(self, logits: Tensor) -> list[NumberPrediction]:
        """The numbers on their own scale."""
        values = logits.squeeze(-1).double() * self.target_std + self.target_mean
        return [NumberPrediction(value) for value in (values.sigmoid() if self.sigmoid else values).tolist()]

    def tally(self, predictions: Sequence[NumberPrediction], gold: Sequence[float]) -> Tally:
        """Pearson correlation first."""
        return tally_numbers([one.value for one in predictions], gold)

    def baseline(self, predictions: Sequence[NumberPrediction], gold: Sequence[float]) -> Baseline | None:
        """Always the mean, by Pearson correlation, which is 0 for a constant."""
        found, right = np.array([[one.value for one in predictions], gold], dtype=float)[:, :, None]
        if np.ptp(right) == 0:
            return None
        score = self.tally(predictions, gold).metrics()["pearson"]
        constant = f"always predicting the mean, {right.mean():.4g}"
        return Baseline(constant, "pearson", score, 0.0, agreement(found, right), len(gold))

    def compare(self, prediction: NumberPrediction, gold: float) -> tuple[str, str, float]:
        """The absolute error."""
        return f"{gold:g}", prediction.brief, abs(prediction.value - gold)

    def report_collector(self) -> ReportCollector:
        """Predicted beside correct numbers, and the errors."""
        return NumberCharts(lambda one: one.value)

    def explain(self, logits: Tensor) -> list[ExplainableOutput]:  # noqa: ARG002
        """The number on its own scale."""

        def value(outputs: Tensor, kept: Sequence[int]) -> Tensor:  # noqa: ARG001
            number = outputs[0] * self.target_std + self.target_mean
            return number.sigmoid() if self.sigmoid else number

        return [ExplainableOutput("the number", "value", (), value)]

    def rescale(self, classifier: nn.Linear, mean: float, std: float) -> Self:
        """The same predictions with another scale; the classifier's weights change accordingly.

        The mean stays unchanged if the classifier has no bias, as in the published GPT-2 head.
        """
        with torch.no_grad():
            classifier.weight.mul_(self.target_std / std)
            if classifier.bias is None:
                return replace(self, target_std=std)
            classifier.bias.mul_(self.target_std / std).add_((self.target_mean - mean) / std)
        return replace(self, target_mean=mean, target_std=std)
