"""Charts of predicted numbers: a random sample of them, and statistics of all errors."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..reservoir import Reservoir
from .report_parts import Chart, ReportCollector, ReportPart, ReportTable, Series

MAX_POINTS = 1000
BINS = 30
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
ERROR = "predicted minus correct"


class NumberCharts(ReportCollector):
    """Predicted beside correct numbers.

    Args:
        read: the number of a prediction.
        same_scale: whether both numbers have the same scale, so that there are errors.
    """

    def __init__(self, read: Callable[[Any], float], *, same_scale: bool = True) -> None:
        self._read, self._same_scale = read, same_scale
        self._sample = Reservoir(MAX_POINTS)  # (gold, predicted)
        self._number = 0
        self._sum = self._squares = 0.0

    def add(self, predictions: Sequence[Any], examples: Sequence[Any]) -> None:
        """Adds examples with their predictions."""
        both = zip(predictions, examples, strict=True)
        pairs = np.array([(one.gold, self._read(prediction)) for prediction, one in both if one.gold is not None])
        pairs = pairs.reshape(-1, 2)
        errors = pairs[:, 1] - pairs[:, 0]
        self._number += len(errors)
        self._sum += float(errors.sum())
        self._squares += float((errors**2).sum())
        self._sample.add(pairs=pairs)

    def parts(self) -> list[ReportPart]:
        """The scatter and, on the same scale, the errors over the correct numbers, and their histogram."""
        if not self._number:
            return []
        sample = self._sample.column("pairs")
        gold, found = sample[sample[:, 0].argsort()].T
        note = f"{described}." if (described := self._sample.describe("This is")) else ""
        axes, points = ("correct", "predicted"), (Series("row", _tuple(gold), _tuple(found)),)
        title, diagonal = "Predicted and correct numbers", self._same_scale
        scatter = Chart(title, axes, points, kind="points", diagonal=diagonal, note=note)
        return [*self._errors(gold, found - gold, note), scatter] if self._same_scale else [scatter]

    def _errors(self, gold: np.ndarray, errors: np.ndarray, note: str) -> list[ReportPart]:
        mean = self._sum / self._number
        rows = [
            {"": "mean error (predicted minus correct)", "value": mean},
            {"": "standard deviation", "value": math.sqrt(max(0.0, self._squares / self._number - mean**2))},
            *(
                {"": f"{share:.0%} of errors are below", "value": float(np.quantile(errors, share))}
                for share in QUANTILES
            ),
        ]
        low, high = errors.min(), errors.max()
        margin = 0.5 if high - low <= 1e-9 * max(1.0, abs(low)) else 0.0  # equal errors have no range
        counts, edges = np.histogram(errors, BINS, range=(low - margin, high + margin))
        residuals = (Series("row", _tuple(gold), _tuple(errors)),)
        bars = (Series("rows", _tuple((edges[1:] + edges[:-1]) / 2), _tuple(counts)),)
        return [
            ReportTable("Errors", rows),
            Chart("Errors by number", ("correct", ERROR), residuals, kind="points", note=note),
            Chart("Histogram of errors", (ERROR, "rows"), bars, kind="bars", note=note),
        ]


def _tuple(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)
