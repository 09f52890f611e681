"""Calibration and threshold curves of classifiers, from histograms of their probabilities.

Shapes: E examples, L labels, B bins.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base.report_calibration import Reliability, calibration_parts, rounded
from ..base.report_parts import Chart, ReportCollector, ReportPart, Series
from .predictions import LabelPrediction, LabelsPrediction

BINS = 1000  # of probabilities: more points than a chart shows
MAX_CURVES = 6  # labels that get a curve
MAX_POINTS = 200  # of a curve
ALL_LABELS = "all labels"


class ThresholdCurves:
    """Precision and recall of labels at every threshold.

    Args:
        labels: L.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._counts = np.zeros((2, len(labels), BINS))  # of examples without and with a label

    def add(self, probabilities: np.ndarray, gold: np.ndarray) -> None:
        """Adds the probability of each label and whether it is correct, (E, L) each."""
        bins = np.minimum((np.clip(probabilities, 0, 1) * BINS).astype(int), BINS - 1)
        bins += np.arange(len(self._labels)) * BINS
        for has, counts in enumerate(self._counts):
            chosen = bins[gold == bool(has)]
            counts += np.bincount(chosen, minlength=counts.size).reshape(counts.shape)

    def parts(self) -> list[Chart]:
        """Precision over recall, and precision, recall and F1 over the threshold."""
        without, having = self._counts
        named: list[tuple[str, np.ndarray, np.ndarray]] = []
        if len(self._labels) > 1:
            named.append((ALL_LABELS, without.sum(0), having.sum(0)))
        order = sorted(range(len(self._labels)), key=lambda i: -having[i].sum())[:MAX_CURVES]
        named += [(self._labels[i], without[i], having[i]) for i in order if having[i].sum()]
        curves = [(name, *_precision_recall(*counts)) for name, *counts in named]
        if not curves:
            return []
        lines = tuple(Series(name, rounded(recall), rounded(precision)) for name, _, precision, recall in curves)
        name, thresholds, precision, recall = curves[0]
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        over = {"precision": precision, "recall": recall, "F1": f1}
        at = tuple(Series(metric, rounded(thresholds), rounded(values)) for metric, values in over.items())
        what = f"of {name}" if name == ALL_LABELS else f"of the label {name!r}"
        rest = f" The {len(order)} most frequent labels have curves." if len(self._labels) > MAX_CURVES else ""
        note = f"Each point is a threshold; the higher it is, the lower is the recall.{rest}"
        return [
            Chart("Precision and recall", ("recall", "precision"), lines, note=note),
            Chart(f"Metrics {what} by threshold", ("threshold", "value"), at),
        ]


def _precision_recall(without: np.ndarray, having: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds with their precision and recall, from the counts in bins of probabilities, (B,) each."""
    predicted = (without + having)[::-1].cumsum()[::-1]
    correct = having[::-1].cumsum()[::-1]
    step = max(1, BINS // MAX_POINTS)
    used = np.arange(0, BINS, step)
    used = used[predicted[used] > 0]
    return used / BINS, correct[used] / predicted[used], correct[used] / max(1, having.sum())


class LabelCurves(ReportCollector):
    """Of predictions of one label.

    Args:
        labels: of the model.
        temperature: that its logits are divided by.
    """

    def __init__(self, labels: Sequence[str], temperature: float) -> None:
        self._temperature = temperature
        self._after, self._before = Reliability(), None if temperature == 1 else Reliability()
        self._positive = labels[1] if len(labels) == 2 else None
        self._curves = None if self._positive is None else ThresholdCurves([self._positive])

    def add(self, predictions: Sequence[LabelPrediction], examples: Sequence[Any]) -> None:
        """Adds examples with their predictions."""
        correct = np.array([one.label == example.gold for one, example in zip(predictions, examples, strict=True)])
        self._after.add(np.array([one.score for one in predictions]), correct)
        if self._before is not None:
            raw = np.array([list(one.scores.values()) for one in predictions], dtype=float)
            raw = np.maximum(raw, 1e-30) ** self._temperature  # logits times the temperature
            self._before.add(raw.max(1) / raw.sum(1), correct)
        if self._curves is not None and self._positive is not None:
            scores = np.array([[one.scores[self._positive]] for one in predictions])
            self._curves.add(scores, np.array([[one.gold == self._positive] for one in examples]))

    def parts(self) -> list[ReportPart]:
        """Calibration and, for two labels, the curves of the second one."""
        note = f"The temperature is {self._temperature:.3f}." if self._before else "The model has no temperature."
        return [*calibration_parts(self._before, self._after, note), *(self._curves.parts() if self._curves else [])]


class LabelSetCurves(ReportCollector):
    """Of predictions of several labels.

    Args:
        labels: of the model.
        thresholds: one per label.
    """

    def __init__(self, labels: Sequence[str], thresholds: Sequence[float]) -> None:
        self._labels, self._thresholds = labels, thresholds
        self._reliability, self._curves = Reliability(), ThresholdCurves(labels)

    def add(self, predictions: Sequence[LabelsPrediction], examples: Sequence[Any]) -> None:
        """Adds examples with their predictions."""
        probabilities = np.array([[one.scores[label] for label in self._labels] for one in predictions])
        gold = np.array([[label in one.gold for label in self._labels] for one in examples])
        self._curves.add(probabilities, gold)
        self._reliability.add(probabilities.ravel(), gold.ravel())

    def parts(self) -> list[ReportPart]:
        """Calibration, curves and the thresholds."""
        low, high = min(self._thresholds), max(self._thresholds)
        used = (
            f"The model uses the threshold {low:.3f}" if low == high else f"The thresholds are {low:.3f} to {high:.3f}"
        )
        note = f"Of the probability of every label of every row. {used}."
        return [*calibration_parts(None, self._reliability, note), *self._curves.parts()]
