"""The base class of predictions, and mispredictions."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .display import DisplayElement, ScoreBar, ScoreBars, Text


@dataclass(frozen=True)
class Prediction:
    """The prediction for one example; each task adds its fields."""

    @property
    def brief(self) -> str:
        """The prediction in a few words. Default: its first field."""
        first = next(iter(vars(self).values()))
        return ", ".join(map(str, first)) if isinstance(first, tuple) else str(first)

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:  # noqa: ARG002
        """How the prediction is displayed. Default: `brief`, and bars for every field that is a dict of scores.

        Args:
            texts: the input, by the names of the task's fields.
        """
        dicts = [value for value in vars(self).values() if isinstance(value, dict)]
        scores = [one for one in dicts if one and all(isinstance(value, float) for value in one.values())]
        bars = (ScoreBars(tuple(ScoreBar(str(name), value) for name, value in one.items())) for one in scores)
        return (Text(self.brief), *bars)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Misprediction:
    """A labelled example whose prediction is wrong."""

    where: str  # "dev.tsv, line 12"
    texts: tuple[str, ...]
    gold: str  # in words
    predicted: str
    error: float  # above 0, larger for a worse misprediction; comparable within a task

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON types, under the names that stored analyses have."""
        return {
            "where": self.where,
            "texts": list(self.texts),
            "right": self.gold,
            "predicted": self.predicted,
            "size": self.error,
        }
