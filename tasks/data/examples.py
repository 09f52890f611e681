"""Text fields, examples, and what can be wrong with a row."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from .places import format_places


@dataclass(frozen=True)
class Field:
    """One of the texts that a person gives: the column, the browser form and the HTTP body are made from it."""

    name: str
    label: str  # what a form shows
    aliases: tuple[str, ...] = ()  # column names people already have, tried in this order
    required: bool = True
    words: bool = False  # whether a list of the text's words may stand in its place


@dataclass(frozen=True)
class Example:
    """One checked row of a person's data; each task adds its own fields."""

    row: int  # position in the table, from 0
    where: str  # "train.tsv, line 12", for messages

    often_unlabelled: ClassVar[bool] = False  # whether having no label is nothing to be told of

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts that the model reads, for the checks that every task shares."""
        raise NotImplementedError

    @property
    def gold(self) -> Any:
        """What the model is to answer; None where nobody has said."""
        return None

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of labels in it, each as often as it occurs; empty where the task knows no labels."""
        return ()

    @property
    def stratum(self) -> str | None:
        """What a split keeps in proportion; None where there is nothing to keep."""
        return None

    @property
    def group(self) -> str | None:
        """What it has in common with other examples that must be on the same side of a split; None: nothing."""
        return None


@dataclass(frozen=True)
class ExampleWarning:
    """Something that a person should know about an example that can be used: gold that no window holds, ..."""

    message: str  # a clause; it is told once, with the places of all examples that it is true of
    level: Literal["warning", "note"] = "warning"
    detail: str = field(default="", compare=False)  # of this very case; the first one is told as an example


@dataclass(frozen=True)
class Problem:
    """Something that makes rows unusable, and which ones."""

    message: str  # and what to do about it
    places: tuple[str, ...]  # "train.tsv, line 12"

    def __str__(self) -> str:
        return f"{format_places(self.places)}: {self.message}"


TEXT = Field(
    "text",
    "Text",
    aliases=(
        *("text", "sentence", "sentence1", "premise", "text_a", "question1", "#1 String"),
        *("review", "content", "comment", "message", "body", "title"),
    ),
)
PAIR = Field(
    "pair",
    "Second text",
    aliases=("pair", "sentence2", "hypothesis", "text_b", "question2", "#2 String"),
    required=False,
)
