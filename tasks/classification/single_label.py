"""Single-label classification: exactly one label per example.

Shapes: E examples, L labels.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.errors import HeadwayError
from ..base.baseline import Baseline, agreement, indicators
from ..base.explanation import ExplainableOutput
from ..base.report_parts import ReportCollector
from ..data.labels import SINGLE_LABEL, UNLABELLED
from ..tallies import Tally, tally_labels
from .calibration import fit_temperature
from .predictions import LabelPrediction
from .report_curves import LabelCurves
from .target import MAX_WEIGHT, LabelColumn, Target, explain_labels

ID_COLUMN_ROWS = 50  # with at least this many rows, a column of mostly different values is not a label column


@dataclass(frozen=True)
class SingleLabel(Target):
    """Exactly one label."""

    labels: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    temperature: float = 1.0

    description: ClassVar[str] = "one label"

    @classmethod
    def infer(cls, column: LabelColumn, labels: tuple[str, ...], *, balanced: bool) -> Self:
        """The labels, and weights whose mean over the rows is 1; those of rare labels are bounded."""
        rows, counts = column.read(SINGLE_LABEL, labels)
        cls._check(column, counts, len(rows))
        labels = labels or column.order(counts)
        return cls(labels, _balanced_weights(labels, counts) if balanced else ())

    def measure(self, gold: Iterable[Any]) -> dict[str, Any]:
        """The weights."""
        return {"weights": _balanced_weights(self.labels, Counter(gold))} if self.weights else {}

    @staticmethod
    def _check(column: LabelColumn, counts: Counter[str], rows: int) -> None:
        first = next(iter(counts))
        if len(counts) == 1:
            meaning = ", which usually means unlabelled" * (first == UNLABELLED)
            raise HeadwayError(
                f"{column.source}: every row has the label {first!r}{meaning}; at least two different labels are "
                f'needed. If "{column.name}" is not the label column, name another one with --label.'
            )
        if rows >= ID_COLUMN_ROWS and 2 * len(counts) > rows:
            raise HeadwayError(
                f'{column.source}: column "{column.name}" has {len(counts)} different values in {rows} rows '
                f"({first!r}, ...), so it does not look like a label column. Name another one with --label."
            )

    @property
    def num_outputs(self) -> int:
        """One logit per label."""
        return len(self.labels)

    def encode(self, label: str) -> int:
        """The index of the label."""
        return self.labels.index(label)

    def loss(self, logits: Tensor, gold: Tensor, weights: Tensor | None) -> tuple[Tensor, int]:
        """Cross-entropy over the labels."""
        return F.cross_entropy(logits, gold, weight=weights, reduction="sum"), len(gold)

    def decode(self, logits: Tensor) -> list[LabelPrediction]:
        """The most probable label of each example."""
        predictions = []
        for probabilities in (logits / self.temperature).softmax(-1).tolist():
            scores = dict(zip(self.labels, probabilities, strict=True))
            best = max(scores, key=lambda label: scores[label])
            predictions.append(LabelPrediction(best, scores[best], scores))
        return predictions

    def tally(self, predictions: Sequence[LabelPrediction], gold: Sequence[str]) -> Tally:
        """Accuracy first."""
        return tally_labels(predictions, gold, self.labels)

    def baseline(self, predictions: Sequence[LabelPrediction], gold: Sequence[str]) -> Baseline | None:
        """Always the most frequent label, by accuracy."""
        (label, count), *others = Counter(gold).most_common()
        if not others:
            return None
        labels = sorted({*gold, *(one.label for one in predictions)})
        correct = sum(one.label == right for one, right in zip(predictions, gold, strict=True))
        deviations = agreement(
            indicators(((one.label,) for one in predictions), labels),
            indicators(((right,) for right in gold), labels),
        )
        size = len(gold)
        return Baseline(f"always predicting {label!r}", "accuracy", correct / size, count / size, deviations, size)

    def confusions(self, predictions: Sequence[LabelPrediction], gold: Sequence[str]) -> list[tuple[str, str]]:
        """The gold and the predicted label of each example."""
        return [(str(label), one.label) for one, label in zip(predictions, gold, strict=True)]

    def compare(self, prediction: LabelPrediction, gold: str) -> tuple[str, str, float]:
        """The less probable the gold label, the worse."""
        error = 1 - prediction.scores.get(gold, 0.0) if prediction.label != gold else 0.0
        return gold, f"{prediction.label} ({prediction.score:.2f})", error

    def report_collector(self) -> ReportCollector:
        """Calibration, and the curves of two labels."""
        return LabelCurves(self.labels, self.temperature)

    def calibrate(self, predictions: Sequence[LabelPrediction], gold: Sequence[str]) -> Self:
        """Fits the temperature."""
        factor = fit_temperature(_logits(predictions), torch.tensor([self.encode(str(label)) for label in gold]))
        return self if factor is None else replace(self, temperature=self.temperature * factor)

    def recalibrate(self, predictions: Sequence[LabelPrediction], calibrated: Any) -> list[LabelPrediction]:
        """Divides the logits by the temperature of the copy."""
        if calibrated.temperature == self.temperature or not predictions:
            return list(predictions)
        return replace(self, temperature=calibrated.temperature / self.temperature).decode(_logits(predictions))

    @property
    def calibrated(self) -> str:
        """The temperature."""
        return "the temperature of the probabilities" if self.temperature != 1 else ""

    def explain(self, logits: Tensor) -> list[ExplainableOutput]:
        """The probability of every label."""
        return explain_labels(self.labels, logits, lambda outputs: (outputs / self.temperature).softmax(-1))


def _logits(predictions: Sequence[LabelPrediction]) -> Tensor:
    """Logits with the probabilities of predictions, (E, L)."""
    return torch.tensor([list(one.scores.values()) for one in predictions]).clamp_min(1e-30).log()


def _balanced_weights(labels: Sequence[str], counts: Mapping[str, int]) -> tuple[float, ...]:
    """Weights whose mean over the rows is 1; 0 for a label without rows."""
    most = max(counts.values())
    weights = {label: min(most / count, MAX_WEIGHT) for label, count in counts.items()}
    mean = sum(weights[label] * count for label, count in counts.items()) / sum(counts.values())
    return tuple(weights.get(label, 0.0) / mean for label in labels)
