"""What a model predicts for one example, and mispredictions."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .display import DisplayElement, ScoreBar, ScoreBars, Text


@dataclass(frozen=True)
class Prediction:
    """What a model says about one example."""

    @property
    def brief(self) -> str:
        """The prediction in a few words, for people: its first field, where a task says nothing better."""
        first = next(iter(vars(self).values()))
        return ", ".join(map(str, first)) if isinstance(first, tuple) else str(first)

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:  # noqa: ARG002
        """What there is to see of it: in a few words, and its numbers by name, where a task says nothing better.

        Args:
            texts: that it is about, by the names of the task's fields.
        """
        named = [value for value in vars(self).values() if isinstance(value, dict)]
        numbers = [one for one in named if one and all(isinstance(value, float) for value in one.values())]
        bars = (ScoreBars(tuple(ScoreBar(str(name), value) for name, value in one.items())) for one in numbers)
        return (Text(self.brief), *bars)

    def to_json(self) -> dict[str, Any]:
        """The prediction as plain JSON types, field by field."""
        return asdict(self)


@dataclass(frozen=True)
class Misprediction:
    """A labelled example whose answer is not the right one."""

    where: str  # "dev.tsv, line 12"
    texts: tuple[str, ...]
    right: str  # in words, for people
    predicted: str
    size: float  # how wrong it is, above 0; comparable within a task
