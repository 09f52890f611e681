"""Examples and predictions of classification: one label, several labels, a number."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..base.display import DisplayElement, ScoreBar, ScoreBars, Text
from ..base.predictions import Prediction
from ..data.examples import Example


@dataclass(frozen=True)
class TextExample(Example):
    """A text, perhaps its partner, and what is to be learnt about them."""

    text: str
    pair: str | None = None
    label: str | tuple[str, ...] | float | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The text, and its partner if it has one."""
        return (self.text,) if self.pair is None else (self.text, self.pair)

    @property
    def gold(self) -> str | tuple[str, ...] | float | None:
        """The label, the labels or the number."""
        return self.label

    @property
    def labels(self) -> tuple[str, ...]:
        """The label or labels; none for a number."""
        return (self.label,) if isinstance(self.label, str) else self.label if isinstance(self.label, tuple) else ()

    @property
    def stratum(self) -> str | None:
        """The label, or the first of several."""
        return self.labels[0] if self.labels else "" if isinstance(self.label, tuple) else None


@dataclass(frozen=True)
class LabelPrediction(Prediction):
    """One label of several."""

    label: str
    score: float  # its probability
    scores: dict[str, float]  # every label's probability; they sum to 1

    @property
    def brief(self) -> str:
        """The label, as wide as the longest one, and its probability."""
        return f"{self.label.ljust(max(map(len, self.scores)))}  {self.score:.2f}"

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:  # noqa: ARG002
        """The label, and every label's probability, the likeliest first."""
        ordered = sorted(self.scores.items(), key=lambda item: -item[1])
        bars = tuple(ScoreBar(label, score, chosen=label == self.label) for label, score in ordered)
        return Text(self.label), ScoreBars(bars)


@dataclass(frozen=True)
class LabelsPrediction(Prediction):
    """Any number of labels at once."""

    labels: tuple[str, ...]  # those whose probability reaches their threshold
    scores: dict[str, float]  # every label's own probability

    @property
    def brief(self) -> str:
        """The labels with their probabilities."""
        return ", ".join(f"{label} {self.scores[label]:.2f}" for label in self.labels) or "-"

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:  # noqa: ARG002
        """The labels, and every label's own probability, the likeliest first."""
        ordered = sorted(self.scores.items(), key=lambda item: -item[1])
        bars = tuple(ScoreBar(label, score, chosen=label in self.labels) for label, score in ordered)
        return Text(", ".join(self.labels) or "none of the labels"), ScoreBars(bars)


@dataclass(frozen=True)
class NumberPrediction(Prediction):
    """A number."""

    value: float

    @property
    def brief(self) -> str:
        """The number."""
        return f"{self.value:.2f}"

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:  # noqa: ARG002
        """The number."""
        return (Text(self.brief),)
