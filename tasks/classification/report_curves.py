"""Calibration and threshold curves of classifiers, from histograms of their probabilities.

Shapes: E examples, L labels, B bins.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..base.report_parts import Chart, ReportCollector, ReportPart, ReportTable, Series
from ..metrics import CALIBRATION_BINS
from .predictions import LabelPrediction, LabelsPrediction

BINS = 1000  # of probabilities: more points than a chart shows
MAX_CURVES = 6  # labels with a curve of their own
MAX_POINTS = 200  # of a curve
ALL_LABELS = "all labels"


class Reliability:
    """How often predictions are correct, by their probability."""

    def __init__(self) -> None:
        self._sums = np.zeros((3, CALIBRATION_BINS))  # examples, their probabilities, how many are correct

    def add(self, confidence: np.ndarray, correct: np.ndarray) -> None:
        """Adds predictions, (E,) each."""
        clipped = np.clip(confidence, 0, 1)
        bins = np.minimum((clipped * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
        for row, weights in zip(self._sums, (np.ones_like(clipped), clipped, correct.astype(float)), strict=True):
            row += np.bincount(bins, weights, CALIBRATION_BINS)

    @property
    def error(self) -> float:
        """The expected calibration error (metrics.calibration_error)."""
        number, confidence, correct = self._sums
        return float(np.abs(confidence - correct).sum() / max(1, number.sum()))

    def series(self, name: str) -> Series:
        """The share of correct predictions over the mean probability, in bins with examples."""
        number, confidence, correct = self._sums[:, self._sums[0] > 0]
        return Series(name, _rounded(confidence / number), _rounded(correct / number))

    def histogram(self, name: str) -> Series:
        """The share of predictions in each bin, over its middle."""
        middles = (np.arange(CALIBRATION_BINS) + 0.5) / CALIBRATION_BINS
        return Series(name, _rounded(middles), _rounded(self._sums[0] / max(1, self._sums[0].sum())))


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
        lines = tuple(Series(name, _rounded(recall), _rounded(precision)) for name, _, precision, recall in curves)
        name, thresholds, precision, recall = curves[0]
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        over = {"precision": precision, "recall": recall, "F1": f1}
        at = tuple(Series(metric, _rounded(thresholds), _rounded(values)) for metric, values in over.items())
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


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(np.round(values.astype(float), 5).tolist())


def calibration_parts(before: Reliability | None, after: Reliability, note: str = "") -> list[ReportPart]:
    """The reliability diagram, the calibration errors and the histogram of probabilities.

    Args:
        before: without the temperature; None if there is none.
        after: as the model predicts.
        note: about the probabilities.
    """
    both = [*([("without temperature", before)] if before else []), ("as predicted", after)]
    return [
        ReportTable(
            "Calibration error", [{"probabilities": name, "calibration error": one.error} for name, one in both], note
        ),
        Chart(
            "Reliability",
            ("mean probability of the prediction", "share that is correct"),
            tuple(one.series(name) for name, one in both),
            diagonal=True,
            note="On the diagonal, probabilities mean what they say; below it, the model is too sure.",
        ),
        Chart(
            "Histogram of probabilities",
            ("probability of the prediction", "share of predictions"),
            tuple(one.histogram(name) for name, one in both),
            kind="bars",
        ),
    ]


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
