"""The contract of a task, and what goes in and comes out of one.

A row's way through the house: a `Table` row -> an `Example` (checked text) -> `Features` (token ids, one for each
window of a long text) -> the model's outputs -> a `Prediction` (plain Python) -> figures.

Shapes: B sequences in a packed batch, T tokens in all, L labels.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Field:
    """One of the texts that a person gives: the column, the browser form and the HTTP body are made from it."""

    name: str
    label: str  # what a form shows
    aliases: tuple[str, ...] = ()  # column names people already have, tried in this order
    required: bool = True


@dataclass(frozen=True)
class Example:
    """One checked row of a person's data; each task adds its own fields."""

    row: int  # position in the table, from 0
    where: str  # "train.tsv, line 12", for messages


@dataclass(frozen=True, eq=False)
class Features:
    """One sequence for the model, made from (a window of) one example."""

    example: int  # position of the example it was made from, from 0
    input_ids: list[int]
    segment_ids: list[int]  # same length; all zero where there is one segment
    target: Any = None  # what the task's loss compares with; None in prediction
    context: Any = None  # what the task's decode needs to find its way back to the text


@dataclass(frozen=True)
class Prediction:
    """What a model says about one example."""

    def to_json(self) -> dict[str, Any]:
        """The prediction as plain JSON types, field by field."""
        return asdict(self)
