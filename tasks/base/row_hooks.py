"""The hooks of a task about rows that are not read yet, with their defaults."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..data.labels import missing_label_checker

if TYPE_CHECKING:
    from ..data.columns import ColumnMapping
    from ..data.rows import Table


class RowHooks:
    """Which rows have no text or no label (left_out.py), and which data is for the task."""

    def is_blank(self, cell: Any) -> bool:
        """Whether a cell has no text, so that its row is left out: it is None, a text of spaces, or an empty list."""
        return cell is None or (isinstance(cell, str) and not cell.strip()) or cell == []

    def unlabelled(self, table: "Table", columns: "ColumnMapping") -> Callable[[Mapping[str, Any]], bool]:  # noqa: ARG002
        """A function that tells whether a row has no label, so that it is left out of labelled data."""
        return missing_label_checker(columns.label)

    @classmethod
    def recognizes(cls, table: "Table") -> bool:  # noqa: ARG003
        """Whether a column's name occurs in data of this task only: "tokens", "words"."""
        return False
