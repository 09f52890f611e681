"""Multi-label classification: any number of labels per example.

Shapes: E examples, L labels.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.models.heads import SequenceHead
from ..base.baseline import Baseline, agreement, indicators
from ..base.display import DisplayElement, ScoreBars
from ..base.explanation import ExplainableOutput
from ..base.report_parts import ReportCollector
from ..data.labels import MULTI_LABEL
from ..tallies import Tally, tally_label_sets
from .calibration import fit_thresholds
from .predictions import LabelsPrediction
from .report_curves import LabelSetCurves
from .target import MAX_WEIGHT, LabelColumn, Target, explain_labels


@dataclass(frozen=True)
class MultiLabel(Target):
    """Any number of labels."""

    labels: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()
    thresholds: tuple[float, ...] = ()

    description: ClassVar[str] = "any number of labels"

    @classmethod
    def infer(cls, column: LabelColumn, labels: tuple[str, ...], *, balanced: bool) -> Self:
        """The labels, their shares of the rows, and as weights the ratios of negatives to positives, within bounds."""
        rows, counts = column.read(MULTI_LABEL, labels)
        labels = labels or column.order(counts)
        found = [counts[label] for label in labels]
        return cls(labels, _weights(found, len(rows)) if balanced else (), _shares(found, len(rows)))

    def measure(self, gold: Iterable[Any]) -> dict[str, Any]:
        """The shares and the weights."""
        counts: Counter[str] = Counter()
        rows = 0
        for labels in gold:
            counts.update(labels)
            rows += 1
        found = [counts[label] for label in self.labels]
        weights = {"weights": _weights(found, rows)} if self.weights else {}
        return weights | ({"shares": _shares(found, rows)} if self.shares else {})

    @property
    def num_outputs(self) -> int:
        """One logit per label."""
        return len(self.labels)

    def init_head(self, head: SequenceHead) -> None:
        """Sets the biases so that each label starts with the probability of its share of the training rows.

        Most labels are rare. Starting from a probability of one half, the vectors of all texts become equal while
        the biases fall (Lin et al. 2017, section 3.3, https://arxiv.org/abs/1708.02002).
        """
        if self.shares and head.classifier.bias is not None:
            weights = torch.tensor(self.weights or (1.0,) * len(self.shares))
            with torch.no_grad():
                head.classifier.bias.copy_(torch.logit(torch.tensor(self.shares)) + weights.log())

    def encode(self, label: tuple[str, ...]) -> list[float]:
        """0 or 1 for each label."""
        return [float(name in label) for name in self.labels]

    def loss(self, logits: Tensor, gold: Tensor, weights: Tensor | None) -> tuple[Tensor, int]:
        """Binary cross-entropy for each label."""
        return F.binary_cross_entropy_with_logits(logits, gold, pos_weight=weights, reduction="sum"), gold.numel()

    def decode(self, logits: Tensor) -> list[LabelsPrediction]:
        """The labels whose probability reaches their threshold."""
        return [self._decide(dict(zip(self.labels, row, strict=True))) for row in logits.sigmoid().tolist()]

    def _decide(self, scores: dict[str, float]) -> LabelsPrediction:
        return LabelsPrediction(
            tuple(label for label, threshold in self._threshold_of.items() if scores[label] >= threshold), scores
        )

    @property
    def _threshold_of(self) -> dict[str, float]:
        return dict(zip(self.labels, self.thresholds or (0.5,) * len(self.labels), strict=True))

    def tally(self, predictions: Sequence[LabelsPrediction], gold: Sequence[tuple[str, ...]]) -> Tally:
        """Micro F1 first."""
        return tally_label_sets([one.labels for one in predictions], gold, self.labels)

    def baseline(self, predictions: Sequence[LabelsPrediction], gold: Sequence[tuple[str, ...]]) -> Baseline | None:
        """Always the most frequent labels, as many as give the best micro F1."""
        if len({frozenset(labels) for labels in gold}) < 2:
            return None
        counts = Counter(label for labels in gold for label in labels)
        labels = tuple(dict.fromkeys((*self.labels, *counts)))  # the examples may have others
        names, total, size = [label for label, _ in counts.most_common()], counts.total(), len(gold)
        found = 0
        scores = []
        for number, label in enumerate(names, start=1):
            found += counts[label]
            scores.append(2 * found / (number * size + total))
        best = scores.index(max(scores)) + 1
        predicted = [one.labels for one in predictions]
        return Baseline(
            f"always predicting {' and '.join(map(repr, names[:best]))}",
            "f1",
            tally_label_sets(predicted, gold, labels).metrics()["f1"],
            max(scores),
            agreement(indicators(predicted, labels), indicators(gold, labels)),
            size,
        )

    def compare(self, prediction: LabelsPrediction, gold: tuple[str, ...]) -> tuple[str, str, float]:
        """The largest error among the labels that are missing or wrongly predicted."""
        wrong = {*gold} ^ {*prediction.labels}
        error = max((abs((label in gold) - prediction.scores.get(label, 0.0)) for label in wrong), default=0.0)
        return ", ".join(gold) or "none", prediction.brief, error

    def report_collector(self) -> ReportCollector:
        """Calibration, and curves over the thresholds."""
        return LabelSetCurves(self.labels, tuple(self._threshold_of.values()))

    def calibrate(self, predictions: Sequence[LabelsPrediction], gold: Sequence[tuple[str, ...]]) -> Self:
        """Fits the thresholds."""
        probabilities = np.array([[one.scores[label] for label in self.labels] for one in predictions])
        return replace(self, thresholds=fit_thresholds(probabilities, indicators(gold, self.labels) > 0))

    def recalibrate(self, predictions: Sequence[LabelsPrediction], calibrated: Any) -> list[LabelsPrediction]:
        """Compares the probabilities with the thresholds of the copy."""
        return [calibrated._decide(one.scores) for one in predictions]

    @property
    def calibrated(self) -> str:
        """The thresholds."""
        return "the thresholds" if self.thresholds else ""

    def display(self, prediction: LabelsPrediction, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:
        """The labels and all probabilities, each with its threshold."""
        return tuple(
            replace(one, bars=tuple(replace(bar, threshold=self._threshold_of[bar.name]) for bar in one.bars))
            if isinstance(one, ScoreBars)
            else one
            for one in prediction.display(texts)
        )

    def explain(self, logits: Tensor) -> list[ExplainableOutput]:
        """The probability of every label."""
        return explain_labels(self.labels, logits, torch.sigmoid)


def _weights(counts: Iterable[int], rows: int) -> tuple[float, ...]:
    """The ratio of negatives to positives of each label, within bounds; 1 without positives."""
    ratios = ((rows - count) / count if count else 1.0 for count in counts)
    return tuple(min(max(ratio, 1 / MAX_WEIGHT), MAX_WEIGHT) for ratio in ratios)


def _shares(counts: Iterable[int], rows: int) -> tuple[float, ...]:
    """The share of each label in the rows.

    Half a row is added on both sides, so that a label that no row or every row has still has a finite logit.
    """
    return tuple((count + 0.5) / (rows + 1) for count in counts)
