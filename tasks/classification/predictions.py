"""Examples and predictions of text classification."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..base.display import DisplayElement, ScoreBar, ScoreBars, Text
from ..base.predictions import Prediction
from ..data.examples import Example


@dataclass(frozen=True)
class TextExample(Example):
    """A text or a pair of texts with its label, labels or number."""

    text: str
    pair: str | None = None
    label: str | tuple[str, ...] | float | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The text or both texts."""
        return (self.text,) if self.pair is None else (self.text, self.pair)

    @property
    def gold(self) -> str | tuple[str, ...] | float | None:
        """The label, the labels or the number."""
        return self.label

    @property
    def labels(self) -> tuple[str, ...]:
        """The label or the labels; empty for a number."""
        return (self.label,) if isinstance(self.label, str) else self.label if isinstance(self.label, tuple) else ()

    @property
    def stratum(self) -> str | None:
        """The label, or the first of several labels."""
        return self.labels[0] if self.labels else "" if isinstance(self.label, tuple) else None


@dataclass(frozen=True)
class LabelPrediction(Prediction):
    """A prediction of exactly one label."""

    label: str
    score: float  # the label's probability
    scores: dict[str, float]  # the probability of every label; they sum to 1

    @property
    def confidence(self) -> float:
        """The probability of the label."""
        return self.score

    @property
    def label_probabilities(self) -> Mapping[str, float]:
        """The probability of every label."""
        return self.scores

    @property
    def brief(self) -> str:
        """The label, padded to the longest one, and its probability."""
        return f"{self.label.ljust(max(map(len, self.scores)))}  {self.score:.2f}"

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:  # noqa: ARG002
        """The label, and all probabilities in descending order."""
        return Text(self.label), _score_bars(self.scores, (self.label,))


@dataclass(frozen=True)
class LabelsPrediction(Prediction):
    """A prediction of any number of labels."""

    labels: tuple[str, ...]  # those whose probability reaches their threshold
    scores: dict[str, float]  # the probability of every label, each between 0 and 1

    @property
    def confidence(self) -> float:
        """How far the least certain label is from even odds: the smallest probability that it applies or does not."""
        return min((max(score, 1 - score) for score in self.scores.values()), default=1.0)

    @property
    def brief(self) -> str:
        """The labels with their probabilities."""
        return ", ".join(f"{label} {self.scores[label]:.2f}" for label in self.labels) or "-"

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:  # noqa: ARG002
        """The labels, and all probabilities in descending order."""
        return Text(", ".join(self.labels) or "none of the labels"), _score_bars(self.scores, self.labels)


@dataclass(frozen=True)
class NumberPrediction(Prediction):
    """A prediction of a number."""

    value: float

    @property
    def brief(self) -> str:
        """The number."""
        return f"{self.value:.2f}"

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:  # noqa: ARG002
        """The number."""
        return (Text(self.brief),)


def _score_bars(scores: Mapping[str, float], chosen: tuple[str, ...]) -> ScoreBars:
    ordered = sorted(scores.items(), key=lambda item: -item[1])
    return ScoreBars(tuple(ScoreBar(label, score, chosen=label in chosen) for label, score in ordered))
