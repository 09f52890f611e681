"""Examples and predictions of sentence similarity."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..base.display import DisplayElement, ScoreBar, ScoreBars, Text
from ..base.predictions import Prediction
from ..data.examples import Example


@dataclass(frozen=True)
class PairExample(Example):
    """Two texts, and the score of their similarity if the data has one."""

    text: str
    pair: str
    score: float | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """Both texts."""
        return (self.text, self.pair)

    @property
    def gold(self) -> float | None:
        """The score."""
        return self.score


@dataclass(frozen=True)
class SimilarityPrediction(Prediction):
    """The similarity of two texts, and their vectors."""

    similarity: float  # the cosine of the vectors, -1 to 1
    vectors: tuple[np.ndarray, np.ndarray] = field(repr=False, compare=False)  # (D,) each, of length 1

    @property
    def brief(self) -> str:
        """The cosine."""
        return f"{self.similarity:.3f}"

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:  # noqa: ARG002
        """The cosine; the bar is empty below 0."""
        return Text(self.brief), ScoreBars((ScoreBar("similarity", self.similarity, chosen=True),))

    def to_json(self) -> dict[str, Any]:
        """The cosine; `headway embed` gives the vectors."""
        return {"similarity": self.similarity}
