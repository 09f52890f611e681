"""Rows from any source, as a stream or as a table, whose rows are in memory or, if there are many, in a file."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from .places import format_place
from .spool import select

SAMPLE_ROWS = 1000  # rows from which columns are inferred
CHUNK_ROWS = 4096  # rows processed together: enough to sort by length, few enough to fit in memory

Rows = Iterator[tuple[int, dict[str, Any]]]  # (place, row): the 1-based line or record number, cells by column name


@dataclass(frozen=True)
class LeftOutRow:
    """A row of a source that is not used, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class RowStream:
    """Rows that are read on demand. Each iteration starts from the first row.

    Args:
        source: Name of the source in messages: a path, "hub:NAME:SPLIT" or "the given rows".
        kind: Name of the format, such as "CSV".
        columns: Column names, in the order of the source.
        header: Whether the source names its columns.
        read: Opens the source and yields (place, row).
        unit: What a place counts: "line", "record" or "row".
        notes: What was inferred about the source and how to overrule it, one clause each: "encoding: Windows-1252
            (detected; --encoding overrules)". A reader adds a note for every guess; check, train, evaluate, predict
            and the browser show them.
        decimal: Decimal mark of numbers that are texts; None to infer it.
        strict: Whether rows without a text or a label are errors instead of being left out.
        delimiter: Column separator of a text file with columns.
    """

    source: str
    kind: str
    columns: tuple[str, ...]
    header: bool
    read: Callable[[], Rows]
    unit: str = "line"
    notes: tuple[str, ...] = ()
    decimal: str | None = None
    strict: bool = False
    delimiter: str | None = None

    def __iter__(self) -> Rows:
        """Yields (place, row)."""
        return self.read()

    def where(self, place: int) -> str:
        """The location of a row for messages: "train.tsv, line 12"."""
        return format_place(self.source, self.unit, place)

    def table(self, rows: Sequence[dict[str, Any]], places: Sequence[int]) -> "Table":
        """A table of some rows of the stream."""
        shared = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "read"}
        return Table(**shared, rows=rows, places=places)


@dataclass(frozen=True)
class Table:
    """Rows that can be read in any order; `places` has the place of each in the source.

    `left_out` has the rows of the source that are not used. The other fields are those of `RowStream`.
    """

    source: str
    kind: str
    columns: tuple[str, ...]
    header: bool
    rows: Sequence[dict[str, Any]]
    places: Sequence[int]
    unit: str = "line"
    notes: tuple[str, ...] = ()
    decimal: str | None = None
    strict: bool = False
    delimiter: str | None = None
    left_out: tuple[LeftOutRow, ...] = ()

    def stream(self) -> RowStream:
        """The rows as a stream."""
        shared = {field.name: getattr(self, field.name) for field in fields(RowStream) if field.name != "read"}
        return RowStream(**shared, read=self.__iter__)

    def describe(self) -> list[str]:
        """The source, its number of rows and its format, and what was inferred about it."""
        kind = "" if self.kind == "rows" else f", {self.kind}"
        return [f"{self.source}: {len(self)} row{'s' * (len(self) != 1)}{kind}", *self.notes]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Rows:
        """Yields (place, row), as a `RowStream` does."""
        return zip(self.places, self.rows, strict=True)

    def where(self, row: int) -> str:
        """The location of the row at a 0-based position for messages: "train.tsv, line 12"."""
        return format_place(self.source, self.unit, self.places[row])

    def select(self, positions: Sequence[int] | np.ndarray) -> Self:
        """The table of some rows, given by their positions in ascending order."""
        return replace(self, rows=select(self.rows, positions), places=select(self.places, positions))

    def fingerprint(self) -> str:
        """The first 16 hex digits of the SHA-256 of the columns and cells; the format and the path do not matter."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest, encode = hashlib.sha256(json.dumps(self.columns).encode()), json.JSONEncoder(default=str).encode
        for row in self.rows:
            digest.update(b"\n" + encode([row[name] for name in self.columns]).encode())
        return digest.hexdigest()[:16]


def table_of_texts(columns: Sequence[str], rows: list[dict[str, Any]]) -> Table:
    """A table of texts that the caller passed as Python objects."""
    return Table("the given texts", "rows", tuple(columns), True, rows, list(range(1, len(rows) + 1)), "row")
