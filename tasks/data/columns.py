"""Which columns of a source contain the texts and the label, and the text in a cell."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...core.errors import HeadwayError


@dataclass(frozen=True)
class ColumnMapping:
    """The columns that a task reads.

    Args:
        texts: Column of each text field, by field name.
        label: Label column, or several columns with 0 and 1, one per label.
        notes: How each column was inferred, one sentence each.
        group: Column whose equal values stay on one side of a train/test split.
        more: The further columns of a field that is in several columns, by field name: choices.
    """

    texts: dict[str, str]
    label: str | tuple[str, ...] | None
    notes: tuple[str, ...]
    group: str | None = None
    more: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def used_columns(self) -> set[str]:
        """All columns that are read."""
        labels = (self.label,) if isinstance(self.label, str) else self.label or ()
        groups = () if self.group is None else (self.group,)
        return {*self.texts.values(), *labels, *groups}


def parse_text(value: Any, column: str, field: str, *, labelled: bool) -> str:
    """The text in a cell.

    Args:
        value: The cell.
        column: Name of its column, for messages.
        field: Name of the text field that is read from it, for messages.
        labelled: Whether the row is labelled data; only there an empty text is an error.

    Raises:
        HeadwayError: The cell is a list or an object, or an empty text in labelled data.
    """
    if isinstance(value, list | dict):
        raise HeadwayError(
            f'column "{column}" contains a {type(value).__name__}, not a text. '
            f"Name the column of the {field} with --{field}."
        )
    text = "" if value is None else str(value)
    if labelled and not text.strip():
        what = "contains only spaces" if text else "is empty"
        raise HeadwayError(f'column "{column}" {what}. Fill it in, or delete the row.')
    return text
