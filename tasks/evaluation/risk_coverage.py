"""Risk and coverage of a model that may abstain (El-Yaniv and Wiener 2010, https://jmlr.org/papers/v11/el-yaniv10a).

Rows are answered in descending order of confidence. Coverage is the share of answered rows, risk the share of wrong
ones among them. The area under the curve is the mean risk over all coverages (Geifman and El-Yaniv 2017,
https://arxiv.org/abs/1705.08500); smaller is better.

Shapes: E examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base.report_parts import Chart, Series
from ..reservoir import Reservoir

MAX_POINTS = 100  # of a stored curve


@dataclass(frozen=True)
class RiskCoverage:
    """The curve, from the most confident row to all rows."""

    coverage: tuple[float, ...]  # ascending, the last one is 1
    risk: tuple[float, ...]
    min_confidence: tuple[float, ...]  # the confidence from which each share of rows is answered
    area: float  # 0 to 1
    best_area: float  # of the same errors if all of them had the lowest confidences

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        curve = {name: list(getattr(self, name)) for name in ("coverage", "risk", "min_confidence")}
        return {**curve, "area": self.area, "best_area": self.best_area}


def risk_coverage(confidence: np.ndarray, wrong: np.ndarray, max_points: int = MAX_POINTS) -> RiskCoverage:
    """The curve of predictions.

    Args:
        confidence: of each prediction, (E,).
        wrong: whether each one is wrong, (E,).
        max_points: number of points of the curve; the area is that of all points.
    """
    size = len(confidence)
    order = np.argsort(-confidence, kind="stable")
    ranked, numbers = confidence[order], np.arange(1, size + 1)
    last = np.append(ranked[1:] != ranked[:-1], True)  # no threshold divides rows of the same confidence
    ends = np.flatnonzero(last)
    errors = np.interp(numbers, np.append(0, numbers[ends]), np.append(0, np.cumsum(wrong[order])[ends]))
    kept = ends[np.unique(np.linspace(0, len(ends) - 1, min(max_points, len(ends))).round().astype(int))]
    risk = errors / numbers
    best = np.maximum(0, numbers - (size - int(np.sum(wrong)))) / numbers
    return RiskCoverage(
        tuple((numbers[kept] / size).tolist()),
        tuple(risk[kept].tolist()),
        tuple(ranked[kept].tolist()),
        float(risk.mean()),
        float(best.mean()),
    )


def confidence_at(confidence: np.ndarray, coverage: float) -> float:
    """The highest confidence from which at least this share of the rows is answered."""
    answered = max(1, int(np.ceil(coverage * len(confidence) - 1e-9)))
    return float(np.sort(confidence)[::-1][answered - 1])


class RiskCollector:
    """Collects the confidence of predictions and whether they are wrong, of a random sample of very many."""

    def __init__(self) -> None:
        self._rows = Reservoir()

    def add(self, confidence: Sequence[float], wrong: Sequence[bool]) -> None:
        """Adds predictions."""
        self._rows.add(confidence=np.array(confidence, dtype=np.float32), wrong=np.array(wrong, dtype=bool))

    def charts(self) -> list[Chart]:
        """The curve; none if there is no prediction with a confidence."""
        if not len(self._rows):
            return []
        found = risk_coverage(self._rows.column("confidence"), self._rows.column("wrong"))
        sample = self._rows.describe(" The curve is that of")
        note = (
            "Rows are answered in descending order of confidence (--coverage fits a threshold). "
            f"Area under the curve: {found.area:.4f}; with the same errors at the lowest confidences "
            f"{found.best_area:.4f}.{sample and f'{sample}.'}"
        )
        axes = "share of rows answered", "share of them wrong"
        return [Chart("Risk and coverage", axes, (Series("", found.coverage, found.risk),), note=note)]
