"""Text fields, examples, and what can be wrong with them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from .places import format_places


@dataclass(frozen=True)
class Field:
    """A text that a task reads. Columns, browser forms and HTTP bodies are made from it.

    Args:
        name: Name in options and HTTP bodies.
        label: Name in forms.
        aliases: Usual column names, in order of preference.
        required: Whether the text may be omitted.
        lists: Whether a list (of words, of choices) may be given instead of a text.
        hint: How it is written, for forms.
        may_be_empty: Whether rows of labelled data may have an empty text.
    """

    name: str
    label: str
    aliases: tuple[str, ...] = ()
    required: bool = True
    lists: bool = False
    hint: str = ""
    may_be_empty: bool = False


@dataclass(frozen=True)
class Example:
    """A row of data that was read and checked. Each task adds its fields.

    Args:
        row: Position in the table, from 0.
        where: Location for messages: "train.tsv, line 12".
    """

    row: int
    where: str

    gold_name: ClassVar[str] = "label"  # of `gold`, in lists of examples
    often_unlabelled: ClassVar[bool] = False  # whether examples without a label are usual, and no reason for a note
    labels_may_differ: ClassVar[bool] = False  # whether rows with the same texts may have different labels

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts that the model reads."""
        raise NotImplementedError

    @property
    def shown_texts(self) -> dict[str, str]:
        """The texts by their names, as lists of examples show them."""
        return dict(zip(("text", "second text"), self.texts, strict=False))

    @property
    def gold(self) -> Any:
        """The annotated label, answer or number; None if the example is not annotated."""
        return None

    @property
    def shown_gold(self) -> str:
        """The annotated label, answer or number in words."""
        gold = self.gold
        if isinstance(gold, tuple):
            return ", ".join(gold)
        if isinstance(gold, float):
            return f"{gold:.2f}" if abs(gold) < 1000 else f"{gold:,.0f}"
        return str(gold)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, each as often as it occurs; empty for tasks without labels."""
        return ()

    @property
    def stratum(self) -> str | None:
        """The class by which train/test splits are stratified; None for no class."""
        return None

    @property
    def group(self) -> str | None:
        """The group that train/test splits do not divide; None for no group."""
        return None


@dataclass(frozen=True)
class ExampleWarning:
    """A problem of an example that can be used, such as an answer that is in no window.

    Args:
        message: A clause. It is shown once, with the places of all examples that have it.
        level: "warning" or "note".
        detail: The particular case; that of the first example is shown.
    """

    message: str
    level: Literal["warning", "note"] = "warning"
    detail: str = field(default="", compare=False)


@dataclass(frozen=True)
class Problem:
    """A problem that makes rows unusable.

    Args:
        message: What is wrong and how to fix it.
        places: Locations of the rows: "train.tsv, line 12".
    """

    message: str
    places: tuple[str, ...]

    def __str__(self) -> str:
        return f"{format_places(self.places)}: {self.message}"


def merge_similar(problems: Iterable[Problem]) -> list[Problem]:
    """Merges problems whose messages differ in numbers and quoted values only, such as two rows with different labels.

    A merged problem has the message of the first one and the places of all.
    """
    merged: dict[str, list[Problem]] = {}
    for problem in problems:
        merged.setdefault(re.sub(r"'[^']*'|\"[^\"]*\"|\d+", "#", problem.message), []).append(problem)
    found = []
    for similar in merged.values():
        others = f" ({len(similar) - 1:,} similar errors)" if len(similar) > 1 else ""
        places = tuple(place for problem in similar for place in problem.places)
        found.append(Problem(f"{similar[0].message}{others}", places))
    return found


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
