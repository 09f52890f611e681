"""The rows on which models differ, the largest differences first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .sides import Predicted


@dataclass(frozen=True)
class DifferingRow:
    """A row that not all models predict alike.

    Args:
        row: position among the examples.
        where: "test.csv, line 12".
        texts: that the models read, by name.
        gold: in words.
        predicted: of each model, in words.
        errors: of each model, 0 where it is right; comparable within a task.
    """

    row: int
    where: str
    texts: dict[str, str]
    gold: str
    predicted: dict[str, str]
    errors: dict[str, float]

    @property
    def right(self) -> list[str]:
        """The models that are right."""
        return [name for name, error in self.errors.items() if error == 0]

    @property
    def difference(self) -> float:
        """Between the worst and the best prediction."""
        return max(self.errors.values()) - min(self.errors.values())

    def to_json(self) -> dict[str, Any]:
        """The row as a table holds it: one column for each text and for each prediction."""
        predicted = {f"predicted by {name}": value for name, value in self.predicted.items()}
        shared = {"place": self.where, **self.texts, "gold": self.gold, **predicted}
        return {**shared, "right": ", ".join(self.right), "difference": self.difference}


def differing_rows(predicted: dict[str, Predicted]) -> list[DifferingRow]:
    """The rows whose predictions differ in words, those where one model is right and another wrong first."""
    names, sides = list(predicted), list(predicted.values())
    found = []
    for row, example in enumerate(sides[0].examples):
        wrong = [one.task.misprediction(one.predictions[row], one.examples[row]) for one in sides]
        words = {
            name: example.shown_gold if one is None else one.predicted for name, one in zip(names, wrong, strict=True)
        }
        said = [_said(one.predictions[row]) for one in sides]
        differ = any(one != said[0] for one in said) if any(said) else len(set(words.values())) > 1
        if differ or (any(wrong) and not all(wrong)):
            errors = {name: 0.0 if one is None else float(one.error) for name, one in zip(names, wrong, strict=True)}
            texts = dict(example.shown_texts)
            found.append(DifferingRow(row, example.where, texts, example.shown_gold, words, errors))
    return sorted(found, key=lambda one: (not 0 < len(one.right) < len(names), -one.difference, one.row))


def _said(prediction: Any) -> list[Any]:
    """The labels, tags, positions or text of a prediction, without its probabilities; empty for a number."""
    values = [value for name, value in vars(prediction).items() if name != "length"]
    return [one for one in values if isinstance(one, str | int) or (isinstance(one, tuple | list) and _are_texts(one))]


def _are_texts(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values)
