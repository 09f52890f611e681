"""What the cells of a column look like: texts, labels, numbers, identifiers. `columns` guesses by it."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
ID_NAME = re.compile(r"(^|[_\s#.-])(id|ids|idx|index|guid|uuid|url|date|time|timestamp)$", re.IGNORECASE)
# Chinese, Japanese and Thai are written without spaces between the words.
UNSPACED = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]")


def is_number(value: object) -> bool:
    """Whether a cell is a number, or text that is one."""
    if isinstance(value, str):
        return NUMBER.fullmatch(value.strip()) is not None
    return isinstance(value, int | float)


@dataclass(frozen=True)
class Content:
    """What the cells of one column look like, over a sample of rows."""

    name: str
    cells: list[Any]  # those that hold something

    @cached_property
    def distinct(self) -> int:
        """How many different values there are."""
        return len({cell if isinstance(cell, str) else repr(cell) for cell in self.cells})

    @cached_property
    def mean_length(self) -> float:
        """In characters."""
        return sum(len(str(cell)) for cell in self.cells) / max(len(self.cells), 1)

    @cached_property
    def numeric(self) -> bool:
        """Numbers alone, or text that is numbers."""
        return bool(self.cells) and all(is_number(cell) for cell in self.cells)

    @cached_property
    def binary(self) -> bool:
        """Only 0 and 1: JSON's true and false are among them, as True == 1."""
        return bool(self.cells) and all(cell in ("0", "1", 0, 1) for cell in self.cells)

    @cached_property
    def wordy(self) -> bool:
        """Strings, most of them several words or in a script without spaces."""
        if not self.cells or not all(isinstance(cell, str) for cell in self.cells):
            return False
        wordy = sum(" " in cell.strip() or UNSPACED.search(cell) is not None for cell in self.cells)
        return 2 * wordy > len(self.cells)

    @cached_property
    def text(self) -> bool:
        """Several words in most cells, and seldom the same ones."""
        varied = self.distinct > 0.3 * len(self.cells) or self.mean_length > 60
        return self.wordy and varied

    @cached_property
    def boilerplate(self) -> bool:
        """Every cell begins alike: attributions, addresses, paths."""
        return len(self.cells) >= 10 and len({str(cell)[:8] for cell in self.cells}) == 1

    @cached_property
    def id(self) -> bool:
        """Named like an identifier, or ten and more single words or whole numbers that never repeat."""
        if ID_NAME.search(self.name) or re.search(r"[a-z]Id$", self.name):
            return True
        single = all(isinstance(cell, str | int) and "." not in str(cell) for cell in self.cells)
        return not self.wordy and single and self.distinct == len(self.cells) >= 10

    @cached_property
    def label(self) -> bool:
        """Numbers, lists, or few different values."""
        if self.text or self.id or self.distinct < 2:
            return False
        listed = all(isinstance(cell, list) for cell in self.cells)
        repeated = 2 * self.distinct <= len(self.cells)
        short = len(self.cells) < 10 and self.mean_length <= 30
        return self.numeric or listed or repeated or short
