"""Predictions of a prompt: labels, as a trained classifier gives them, with their uncalibrated scores; or text.

Shapes: O orders of the demonstrations, E texts, L labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..base.display import DisplayElement, ScoreBar, ScoreBars, Text
from ..base.predictions import Prediction
from ..classification.predictions import LabelPrediction, LabelsPrediction
from .calibration import calibrate, independent_probabilities

THRESHOLD = 0.5  # of the independent probability of a label in multi-label prompts


@dataclass(frozen=True)
class PromptedLabel(LabelPrediction):
    """A single label; `score` and `scores` are calibrated unless the prompt turns calibration off."""

    uncalibrated: dict[str, float] | None  # label -> probability before calibration
    spread: float | None  # standard deviation of `score` over the orders of the demonstrations

    @property
    def brief(self) -> str:
        """The label with its probability and spread, and the most likely label before calibration."""
        spread = "" if self.spread is None else f" ± {self.spread:.2f}"
        if self.uncalibrated is None:
            return f"{super().brief}{spread}"
        best = max(self.uncalibrated, key=self.uncalibrated.__getitem__)
        return f"{super().brief}{spread}  (uncalibrated: {best} {self.uncalibrated[best]:.2f})"

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:
        """The label, and the probabilities after and before calibration in the same order."""
        spread = "" if self.spread is None else f"± {self.spread:.2f} over the orders of the demonstrations"
        _, calibrated = super().display(texts)
        best = max(self.uncalibrated, key=self.uncalibrated.__getitem__) if self.uncalibrated else None
        return _side_by_side(Text(self.label, spread), calibrated, self.uncalibrated, {best})


@dataclass(frozen=True)
class PromptedLabels(LabelsPrediction):
    """Any number of labels: those that the text makes more likely than their prior."""

    uncalibrated: dict[str, float] | None
    spread: dict[str, float] | None

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:
        """The labels, and the probabilities after and before calibration in the same order."""
        labels, calibrated = super().display(texts)
        raw = self.uncalibrated or {}
        return _side_by_side(labels, calibrated, raw, {label for label, score in raw.items() if score >= THRESHOLD})


@dataclass(frozen=True)
class WrittenAnswer(Prediction):
    """An answer that the model generated."""

    answer: str
    log_probability: float
    finish_reason: str  # "stop", "end-of-text", "length" or "context"

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:
        """The answer, or that it is empty."""
        if not self.answer:
            return (Text("(empty answer)", "The model generated no text. Add examples, or change the template."),)
        return super().display(texts)


def _side_by_side(
    labels: DisplayElement,
    calibrated: DisplayElement,
    uncalibrated: Mapping[str, float] | None,
    chosen: set[str | None],
) -> tuple[DisplayElement, ...]:
    assert isinstance(calibrated, ScoreBars)
    if not uncalibrated:
        return labels, calibrated
    raw = tuple(ScoreBar(one.name, uncalibrated[one.name], one.name in chosen) for one in calibrated.bars)
    return labels, replace(calibrated, title="Calibrated"), ScoreBars(raw, "Uncalibrated")


def single_label_predictions(
    labels: Sequence[str], probabilities: np.ndarray, prior: np.ndarray | None
) -> list[PromptedLabel]:
    """The most likely label of each text, by the mean over the orders.

    Args:
        labels: L names.
        probabilities: (O, E, L), before calibration.
        prior: to calibrate by, of the same shape; None for no calibration.
    """
    scores = probabilities if prior is None else calibrate(probabilities, prior)
    means, raw = scores.mean(axis=0), probabilities.mean(axis=0)
    spreads = scores.std(axis=0)
    return [
        PromptedLabel(
            label=labels[best],
            score=float(means[i, best]),
            scores=_by_label(labels, means[i]),
            uncalibrated=None if prior is None else _by_label(labels, raw[i]),
            spread=float(spreads[i, best]) if len(probabilities) > 1 else None,
        )
        for i, best in enumerate(map(int, means.argmax(axis=-1)))
    ]


def multi_label_predictions(
    labels: Sequence[str], probabilities: np.ndarray, prior: np.ndarray | None
) -> list[PromptedLabels]:
    """The labels of each text whose mean independent probability reaches THRESHOLD.

    Args:
        labels: L names.
        probabilities: (O, E, L), before calibration.
        prior: to calibrate by, of the same shape; None for no calibration.
    """
    scores = independent_probabilities(probabilities, prior)
    raw = independent_probabilities(probabilities).mean(axis=0)
    means, spreads = scores.mean(axis=0), scores.std(axis=0)
    return [
        PromptedLabels(
            labels=tuple(label for label, score in zip(labels, means[i], strict=True) if score >= THRESHOLD),
            scores=_by_label(labels, means[i]),
            uncalibrated=None if prior is None else _by_label(labels, raw[i]),
            spread=_by_label(labels, spreads[i]) if len(probabilities) > 1 else None,
        )
        for i in range(len(means))
    ]


def _by_label(labels: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return dict(zip(labels, values.tolist(), strict=True))
