"""What the cells of a column look like: texts, labels, numbers or identifiers."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|\.\d+)([eE][-+]?\d+)?")  # a decimal comma is one
ID_NAME = re.compile(r"(^|[_\s#.-])(id|ids|idx|index|guid|uuid|url|date|time|timestamp)$", re.IGNORECASE)
CAMEL_CASE_ID = re.compile(r"[a-z]Id$")
UNSPACED = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]")  # Thai, Japanese and Chinese have no word spaces


def is_number(value: object) -> bool:
    """Whether a cell is a number, or a text that is one."""
    if isinstance(value, str):
        return NUMBER.fullmatch(value.strip()) is not None
    return isinstance(value, int | float)


@dataclass(frozen=True)
class ColumnContent:
    """The cells of a column in a sample of rows.

    Args:
        name: Name of the column; empty if it has none.
        cells: The cells that are not empty.
    """

    name: str
    cells: list[Any]

    @classmethod
    def of(cls, name: str, cells: Iterable[Any]) -> "ColumnContent":
        """The content of a column with these cells, of which some may be empty."""
        return cls(
            name, [cell for cell in cells if cell is not None and not (isinstance(cell, str) and not cell.strip())]
        )

    @cached_property
    def num_distinct(self) -> int:
        """Number of distinct values."""
        return len({cell if isinstance(cell, str) else repr(cell) for cell in self.cells})

    @property
    def is_constant(self) -> bool:
        """Whether several cells all have the same value."""
        return len(self.cells) > 1 and self.num_distinct == 1

    @cached_property
    def mean_length(self) -> float:
        """Mean number of characters."""
        return sum(len(str(cell)) for cell in self.cells) / max(len(self.cells), 1)

    @cached_property
    def is_numeric(self) -> bool:
        """Whether all cells are numbers, or texts that are."""
        return bool(self.cells) and all(is_number(cell) for cell in self.cells)

    @cached_property
    def is_binary(self) -> bool:
        """Whether all cells are 0 or 1. This includes false and true of JSON, since True == 1."""
        return bool(self.cells) and all(cell in ("0", "1", 0, 1) for cell in self.cells)

    @cached_property
    def has_words(self) -> bool:
        """Whether all cells are strings, most of several words or in a script without word spaces."""
        if not self.cells or not all(isinstance(cell, str) for cell in self.cells):
            return False
        wordy = sum(" " in cell.strip() or UNSPACED.search(cell) is not None for cell in self.cells)
        return 2 * wordy > len(self.cells)

    @cached_property
    def is_text(self) -> bool:
        """Whether most cells have several words, and few cells repeat or cells are long."""
        varied = self.num_distinct > 0.3 * len(self.cells) or self.mean_length > 60
        return self.has_words and varied

    @cached_property
    def is_boilerplate(self) -> bool:
        """Whether all cells start alike, as attributions, addresses and paths do."""
        return len(self.cells) >= 10 and len({str(cell)[:8] for cell in self.cells}) == 1

    @cached_property
    def is_id(self) -> bool:
        """Whether the name is that of an identifier, or the cells are ten or more distinct words or whole numbers."""
        if ID_NAME.search(self.name) or CAMEL_CASE_ID.search(self.name):
            return True
        single = all(isinstance(cell, str | int) and "." not in str(cell) for cell in self.cells)
        return not self.has_words and single and self.num_distinct == len(self.cells) >= 10

    @cached_property
    def is_label(self) -> bool:
        """Whether the cells can be labels: numbers, lists, or few distinct values."""
        if self.is_text or self.is_id or self.num_distinct < 2:
            return False
        are_lists = all(isinstance(cell, list) for cell in self.cells)
        repeats = 2 * self.num_distinct <= len(self.cells)
        short = len(self.cells) < 10 and self.mean_length <= 30
        return self.is_numeric or are_lists or repeats or short
