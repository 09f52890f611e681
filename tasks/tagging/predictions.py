"""Examples and predictions of token classification."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..base.display import DisplayElement, Highlight, HighlightedText, Text
from ..base.predictions import Prediction
from ..data.examples import Example
from .tag_schemes import WordSpan


@dataclass(frozen=True)
class TaggedExample(Example):
    """A text, its words and its entities."""

    often_unlabelled: ClassVar[bool] = True  # many sentences have no entity

    text: str
    words: tuple[str, ...]
    starts: tuple[int, ...]  # the offset of each word in the text
    spans: tuple[WordSpan, ...] | None = None  # the entities; None: not annotated
    widened: tuple[str, ...] = ()  # character spans that were widened to whole words
    dropped: tuple[str, ...] = ()  # character spans that were dropped
    ignored: tuple[int, ...] = ()  # words without a tag, which the loss and the metrics skip
    inclusive: tuple[str, ...] = ()  # character spans that were given by their last character

    @property
    def texts(self) -> tuple[str, ...]:
        """The text."""
        return (self.text,)

    @property
    def gold(self) -> tuple[str, ...] | None:
        """The entities as text: "PER: Ada Lovelace"."""
        return None if self.spans is None else tuple(f"{one.label}: {self.covered_text(one)}" for one in self.spans)

    @property
    def labels(self) -> tuple[str, ...]:
        """The type of each entity."""
        return tuple(span.label for span in self.spans or ())

    @property
    def stratum(self) -> str | None:
        """The type of the first entity."""
        return None if self.spans is None else next(iter(self.labels), "")

    def offsets(self, span: WordSpan) -> tuple[int, int]:
        """The start and the end of an entity in the text."""
        last = span.stop - 1
        return self.starts[span.start], self.starts[last] + len(self.words[last])

    def covered_text(self, span: WordSpan) -> str:
        """The text of an entity."""
        start, end = self.offsets(span)
        return self.text[start:end]


@dataclass(frozen=True)
class Entity:
    """An entity in a text: text[start:end]."""

    text: str
    label: str
    start: int
    end: int
    score: float  # the mean probability of its words' tags


@dataclass(frozen=True)
class EntitiesPrediction(Prediction):
    """The predicted entities of a text, and the tags of its words."""

    entities: tuple[Entity, ...]
    words: tuple[str, ...]
    tags: tuple[str, ...]
    probabilities: tuple[float, ...]  # of each word's tag; 0 if the model has not read the word

    @property
    def confidence(self) -> float:
        """The probability of the least certain tag; 1 if there are no words."""
        return min(self.probabilities, default=1.0)

    @property
    def brief(self) -> str:
        """The entities with their types and scores."""
        found = [f"{one.label} {' '.join(one.text.split())} {one.score:.2f}" for one in self.entities]
        return "   ".join(found) or "no entities"

    def display(self, texts: Mapping[str, str]) -> tuple[DisplayElement, ...]:
        """The text with highlighted entities."""
        text = next(iter(texts.values()), "")
        marks = tuple(Highlight(one.start, one.end, one.label, one.score) for one in self.entities)
        return (*([] if marks else [Text("no entities")]), HighlightedText(text, marks))
