"""The base class of predictions, and mispredictions."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..data.features import TextLength
from .certainty import NO_RULES, Certainty
from .display import DisplayElement, ScoreBar, ScoreBars, Text

NOT_MEASURED = TextLength(0, 0)
NOT_OF_TASK = ("length", "certainty")  # fields that every prediction has


@dataclass(frozen=True)
class Prediction:
    """The prediction for one example; each task adds its fields.

    Args:
        length: the number of tokens of the input, and how many of them the model did not read.
        certainty: what the decision rules of the model say about it (decision_rules.py).
    """

    length: TextLength = field(default=NOT_MEASURED, kw_only=True, repr=False, compare=False)
    certainty: Certainty = field(default=NO_RULES, kw_only=True, repr=False, compare=False)

    @property
    def truncated(self) -> bool:
        """Whether the model did not read the whole input."""
        return self.length.truncated

    @property
    def confidence(self) -> float | None:
        """The probability that everything in the prediction is right, as the model sees it; None: it gives none."""
        return None

    @property
    def label_probabilities(self) -> Mapping[str, float] | None:
        """The probability of every label if exactly one is right; None: of another task."""
        return None

    @property
    def abstained(self) -> bool:
        """Whether the confidence is below the one from which the model answers; False if it has no such rule."""
        return bool(self.certainty.abstained)

    @property
    def label_set(self) -> tuple[str, ...] | None:
        """The conformal prediction set, the most probable label first; None if the model has no such rule."""
        return self.certainty.label_set

    @property
    def none_of_these(self) -> bool:
        """Whether the text is too far from all training texts for any label; False if the model has no such rule."""
        return bool(self.certainty.none_of_these)

    @property
    def summary(self) -> str:
        """`brief`, with what the decision rules of the model say."""
        return self.certainty.summarize(self.brief)

    @property
    def brief(self) -> str:
        """The prediction in a few words. Default: its first field."""
        first = next(iter(self._own_fields().values()))
        return ", ".join(map(str, first)) if isinstance(first, tuple) else str(first)

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:  # noqa: ARG002
        """How the prediction is displayed. Default: `brief`, and bars for every field that is a dict of scores.

        Args:
            texts: the input, by the names of the task's fields.
        """
        dicts = [value for value in self._own_fields().values() if isinstance(value, dict)]
        scores = [one for one in dicts if one and all(isinstance(value, float) for value in one.values())]
        bars = (ScoreBars(tuple(ScoreBar(str(name), value) for name, value in one.items())) for one in scores)
        return (Text(self.brief), *bars)

    def to_json(self) -> dict[str, Any]:
        """The fields of the task and what decision rules say as plain JSON types; `length.to_json()` has the rest."""
        fields = {name: value for name, value in asdict(self).items() if name not in NOT_OF_TASK}
        return fields | self.certainty.to_json()

    def _own_fields(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in NOT_OF_TASK}


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
