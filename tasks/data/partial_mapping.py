"""The state of column inference: a sample of rows, and the columns assigned so far."""

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from .column_contents import ColumnContent
from .columns import ColumnMapping
from .places import format_place, shorten
from .reading.python_objects import SOURCE
from .rows import SAMPLE_ROWS

if TYPE_CHECKING:
    from .examples import Field
    from .rows import RowStream, Table

SHOWN_COLUMNS = 12
MIN_FLAGS = 3  # columns of 0 and 1 from which they are taken for one column per label


class PartialMapping:
    """The columns assigned so far, and what the remaining columns contain.

    Args:
        data: A table, or a stream, of which the first SAMPLE_ROWS rows are read.
        fields: The text fields of the task, the main one first.
    """

    def __init__(self, data: "Table | RowStream", fields: "Sequence[Field]") -> None:
        self.source, self.columns, self.fields = data.source, data.columns, fields
        # Formats without a header may still name their columns (CoNLL, plain lines).
        self.named = data.header or self.columns != tuple(str(number) for number in range(len(self.columns)))
        sample = list(islice(data, SAMPLE_ROWS))
        self.rows = [row for _, row in sample]
        self.first_place = format_place(data.source, data.unit, sample[0][0]) if sample else data.source
        self.contents = {
            column: ColumnContent.of(column if self.named else "", [row.get(column) for row in self.rows])
            for column in self.columns
        }
        self.texts: dict[str, str] = {}
        self.label: str | tuple[str, ...] | None = None
        self.group: str | None = None
        self.declined: set[str] = set()  # fields that the data does not have, as chosen by the user
        self.notes: dict[str, str] = {}

    @property
    def free_columns(self) -> list[str]:
        """The columns that are not assigned, in the order of the source."""
        used = ColumnMapping(self.texts, self.label, (), self.group).used_columns
        return [column for column in self.columns if column not in used]

    @property
    def open_fields(self) -> "list[Field]":
        """The fields without a column, except those declined."""
        return [field for field in self.fields if field.name not in self.texts and field.name not in self.declined]

    @property
    def label_candidates(self) -> list[str]:
        """The free columns that may contain labels."""
        return [column for column in self.free_columns if self.contents[column].is_label]

    @property
    def flag_columns(self) -> list[str]:
        """The free columns of 0 and 1."""
        contents = {column: self.contents[column] for column in self.free_columns}
        return [column for column, one in contents.items() if one.is_binary and not one.is_id]

    @property
    def text_candidates(self) -> list[str]:
        """The free columns that contain texts, or else the only free column of words."""
        free = [column for column in self.free_columns if not self.contents[column].is_id]
        texts = [column for column in free if self.contents[column].is_text]
        if texts:
            return [column for column in texts if not self.contents[column].is_boilerplate] or texts
        contents = {column: self.contents[column] for column in free}
        words = [name for name, one in contents.items() if one.cells and not one.is_numeric and not one.is_constant]
        return words if len(words) == 1 else []

    def assign_text(self, field: str, column: str, reason: str) -> None:
        """Assigns an inferred column to a text field."""
        self.texts[field] = column
        self.notes[field] = f"{field}: column {self.quote(column)} ({reason})"

    def assign_label(self, column: str, reason: str) -> None:
        """Assigns an inferred column to the label."""
        self.label = column
        self.notes["label"] = f"label: column {self.quote(column)} ({reason})"

    def finish(self) -> ColumnMapping:
        """The result, with texts and notes in the order of the fields."""
        texts = {field.name: self.texts[field.name] for field in self.fields if field.name in self.texts}
        notes = tuple(self.notes[name] for name in (*texts, "unread", "label") if name in self.notes)
        return ColumnMapping(texts, self.label, notes, self.group)

    # -- messages

    def quote(self, column: str) -> str:
        """A column name in quotes, or a column number."""
        return f'"{column}"' if self.named else column

    def option(self, *names: str) -> str:
        """How the columns of fields are named: on the command line, or in Python for rows that are not in a file."""
        if self.source == SOURCE:
            columns = ", ".join(f'"{name}": COLUMN' for name in names)
            return f"columns={{{columns}}}"
        return " and ".join(f"--{name} COLUMN" for name in names)

    def no_column(self, name: str) -> str:
        """How it is said that the data does not have a field."""
        return f'columns={{"{name}": ""}}' if self.source == SOURCE else f'--{name} ""'

    def describe_columns(self) -> str:
        """The column names as a sentence."""
        return f"The columns are: {shorten(', '.join(self.columns), 300)}."

    def describe_first_row(self) -> str:
        """The columns with their values in the first row as a sentence."""
        if not self.rows:
            return self.describe_columns()
        cells = [f"{column} = {_shown(self.rows[0].get(column))}" for column in self.columns[:SHOWN_COLUMNS]]
        omitted = len(self.columns) - SHOWN_COLUMNS
        more = f", … and {omitted} more" if omitted > 0 else ""
        return f"Columns and first row ({self.first_place}): {', '.join(cells)}{more}."


def _shown(value: object) -> str:
    return f'"{shorten(value, 40)}"' if isinstance(value, str) else shorten(value, 40)
