"""How often predictions are correct, by the probability that the model gives them."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..tallies import CALIBRATION_BINS
from .report_parts import Chart, ReportCollector, ReportPart, ReportTable, Series


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
        """The expected calibration error (tallies.tally_labels)."""
        number, confidence, correct = self._sums
        return float(np.abs(confidence - correct).sum() / max(1, number.sum()))

    def series(self, name: str) -> Series:
        """The share of correct predictions over the mean probability, in bins with examples."""
        number, confidence, correct = self._sums[:, self._sums[0] > 0]
        return Series(name, rounded(confidence / number), rounded(correct / number))

    def histogram(self, name: str) -> Series:
        """The share of predictions in each bin, over its middle."""
        middles = (np.arange(CALIBRATION_BINS) + 0.5) / CALIBRATION_BINS
        return Series(name, rounded(middles), rounded(self._sums[0] / max(1, self._sums[0].sum())))


def rounded(values: np.ndarray) -> tuple[float, ...]:
    """Numbers with as many digits as a chart shows."""
    return tuple(np.round(values.astype(float), 5).tolist())


def calibration_parts(before: Reliability | None, after: Reliability, note: str = "") -> list[ReportPart]:
    """The reliability diagram, the calibration errors and the histogram of probabilities.

    Args:
        before: without the temperature; None if the model has no temperature.
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


class CalibrationCollector(ReportCollector):
    """Of predictions that are right or wrong.

    Args:
        judge: predictions and examples -> the probability of each prediction, and whether it is right, (E,) each.
        note: about the probabilities.
    """

    def __init__(
        self, judge: Callable[[Sequence[Any], Sequence[Any]], tuple[np.ndarray, np.ndarray]], note: str
    ) -> None:
        self._judge, self._note = judge, note
        self._reliability = Reliability()

    def add(self, predictions: Sequence[Any], examples: Sequence[Any]) -> None:
        """Adds examples with their predictions."""
        self._reliability.add(*self._judge(predictions, examples))

    def parts(self) -> list[ReportPart]:
        """The reliability diagram and the calibration error."""
        return calibration_parts(None, self._reliability, self._note)
