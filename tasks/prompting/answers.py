"""What a prompt answers: labels as a trained classifier gives them, with what they were before calibration, or text.

Shapes: O orders of the worked examples, E texts, L labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..base.display import DisplayElement, ScoreBar, ScoreBars, Text
from ..base.predictions import Prediction
from ..classification.predictions import LabelPrediction, LabelsPrediction
from .calibration import calibrate, own_probabilities

THRESHOLD = 0.5  # of a label's own probability, from which it is given where several may apply


@dataclass(frozen=True)
class PromptedLabel(LabelPrediction):
    """One label of several; `score` and `scores` are calibrated unless the prompt says otherwise."""

    uncalibrated: dict[str, float] | None  # every label's probability as the model has it
    spread: float | None  # standard deviation of `score` over the orders of the worked examples

    @property
    def brief(self) -> str:
        """The label with its probability, its spread, and what it would be without calibration."""
        spread = "" if self.spread is None else f" ± {self.spread:.2f}"
        if self.uncalibrated is None:
            return f"{super().brief}{spread}"
        likeliest = max(self.uncalibrated, key=self.uncalibrated.__getitem__)
        return f"{super().brief}{spread}  (uncalibrated: {likeliest} {self.uncalibrated[likeliest]:.2f})"

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:
        """The label, and the probabilities after calibration and before it, in the same order."""
        spread = "" if self.spread is None else f"± {self.spread:.2f} over the orders of the examples"
        _, calibrated = super().display(texts)
        return _side_by_side(Text(self.label, spread), calibrated, self.uncalibrated, {_likeliest(self.uncalibrated)})


@dataclass(frozen=True)
class PromptedLabels(LabelsPrediction):
    """Any number of labels at once: those that the text makes likelier than they are without it."""

    uncalibrated: dict[str, float] | None
    spread: dict[str, float] | None

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:
        """The labels, and the probabilities after calibration and before it, in the same order."""
        said, calibrated = super().display(texts)
        raw = self.uncalibrated or {}
        return _side_by_side(said, calibrated, raw, {label for label, score in raw.items() if score >= THRESHOLD})


@dataclass(frozen=True)
class WrittenAnswer(Prediction):
    """An answer in the model's own words."""

    answer: str
    log_probability: float
    finish_reason: str  # "stop", "end-of-text", "length" or "context"


def _side_by_side(
    said: DisplayElement, calibrated: DisplayElement, uncalibrated: Mapping[str, float] | None, chosen: set[str | None]
) -> tuple[DisplayElement, ...]:
    assert isinstance(calibrated, ScoreBars)
    if not uncalibrated:
        return said, calibrated
    raw = tuple(ScoreBar(one.name, uncalibrated[one.name], one.name in chosen) for one in calibrated.bars)
    return said, replace(calibrated, title="Calibrated"), ScoreBars(raw, "As the model has it")


def _likeliest(scores: Mapping[str, float] | None) -> str | None:
    return max(scores, key=scores.__getitem__) if scores else None


def one_label(labels: Sequence[str], shares: np.ndarray, prior: np.ndarray | None) -> list[PromptedLabel]:
    """The likeliest label of each text, averaged over the orders.

    Args:
        labels: L names.
        shares: (O, E, L), before calibration.
        prior: the same, to calibrate by; None: no calibration.
    """
    scores = shares if prior is None else calibrate(shares, prior)
    means, raw = scores.mean(axis=0), shares.mean(axis=0)
    spreads = scores.std(axis=0)
    answers = []
    for i, best in enumerate(map(int, means.argmax(axis=-1))):
        answers.append(
            PromptedLabel(
                label=labels[best],
                score=float(means[i, best]),
                scores=_named(labels, means[i]),
                uncalibrated=None if prior is None else _named(labels, raw[i]),
                spread=float(spreads[i, best]) if len(shares) > 1 else None,
            )
        )
    return answers


def several_labels(labels: Sequence[str], shares: np.ndarray, prior: np.ndarray | None) -> list[PromptedLabels]:
    """The labels of each text whose own probability reaches THRESHOLD, averaged over the orders; as `one_label`."""
    scores, raw = own_probabilities(shares, prior), own_probabilities(shares).mean(axis=0)
    means, spreads = scores.mean(axis=0), scores.std(axis=0)
    return [
        PromptedLabels(
            labels=tuple(label for label, score in zip(labels, means[i], strict=True) if score >= THRESHOLD),
            scores=_named(labels, means[i]),
            uncalibrated=None if prior is None else _named(labels, raw[i]),
            spread=_named(labels, spreads[i]) if len(shares) > 1 else None,
        )
        for i in range(len(means))
    ]


def _named(labels: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return dict(zip(labels, values.tolist(), strict=True))
