"""Rows as every reader gives them: a stream, or a table in memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .places import format_place

CHUNK_ROWS = 4096  # rows processed together: enough to sort by length, few enough for any memory

Rows = Iterator[tuple[int, dict[str, Any]]]


@dataclass(frozen=True)
class RowStream:
    """Rows that are read while they are asked for, from the beginning each time they are iterated over."""

    source: str
    kind: str
    columns: tuple[str, ...]
    header: bool
    read: Callable[[], Rows]

    def __iter__(self) -> Rows:
        """Yields (place, row): the 1-based line or record number and the row's cells by column name."""
        return self.read()

    def where(self, place: int) -> str:
        """Names the place of a row for messages: "train.tsv, line 12"."""
        return format_place(self.source, self.kind, place)


@dataclass(frozen=True)
class Table:
    """Rows held in memory, each with its place in the source."""

    source: str
    kind: str
    columns: tuple[str, ...]
    header: bool
    rows: list[dict[str, Any]]
    places: list[int]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Rows:
        """Yields (place, row), as a RowStream does."""
        return zip(self.places, self.rows, strict=True)

    def where(self, row: int) -> str:
        """Names the place of a row, counted from 0, for messages: "train.tsv, line 12"."""
        return format_place(self.source, self.kind, self.places[row])
