"""Predictions of token classification: tags and entities."""

from collections.abc import Mapping
from dataclasses import dataclass

from ..base.display import DisplayElement, Highlight, HighlightedText, Text
from ..base.predictions import Prediction


@dataclass(frozen=True)
class Entity:
    """A name in a text: text[start:end]."""

    text: str
    label: str
    start: int
    end: int
    score: float  # the mean probability of its words' tags


@dataclass(frozen=True)
class EntitiesPrediction(Prediction):
    """The entities of a text, and the tags of its words that say them."""

    entities: tuple[Entity, ...]
    words: tuple[str, ...]
    tags: tuple[str, ...]
    probabilities: tuple[float, ...]  # of each word's tag; 0 where the model has not seen the word

    @property
    def brief(self) -> str:
        """The entities with their types and scores."""
        found = [f"{one.label} {' '.join(one.text.split())} {one.score:.2f}" for one in self.entities]
        return "   ".join(found) or "no entities"

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:
        """The entities in their text."""
        text = next(iter(texts.values()), "")
        marks = tuple(Highlight(one.start, one.end, one.label, one.score) for one in self.entities)
        return (*([] if marks else [Text("no entities")]), HighlightedText(text, marks))
