"""Rows of labelled data that are left out: rejected by their annotator, without a label, or without a text.

They are counted in a note, listed in a file on request, and refused with --strict. All other errors stop training.
"""

import csv
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...core.atomic_files import atomic_file, user_path
from ...core.errors import HeadwayError
from ...core.training.distributed import processes
from ..data.columns import ColumnMapping
from ..data.findings import Finding, count
from ..data.labels import is_missing
from ..data.places import format_places
from ..data.reading.label_studio import CANCELLED, DISAGREEING, STATUS_COLUMN
from ..data.rows import LeftOutRow, Table
from .task import Task

# Prodigy's answers: https://prodi.gy/docs/api-interfaces#json-tasks
ANSWER_COLUMN = "answer"
ACCEPTED = "accept"
REASONS = {
    "reject": "rejected by the annotator",
    "ignore": "ignored by the annotator",
    CANCELLED: "cancelled by the annotator",
    DISAGREEING: "annotated differently by different annotators",
}
NO_LABEL, NO_TEXT = "without a label", "without a text"
HEADER = ("place", "reason")
NAME = "left_out.csv"  # in a model folder


def leave_out(task: Task[Any, Any], table: Table, columns: ColumnMapping) -> tuple[Table, list[LeftOutRow]]:
    """The rows that labelled data can use, and the others with the reason."""
    rejection = _rejection_reader(table.rows, columns.used_columns)
    is_unlabelled = task.unlabelled(table, columns)
    texts = [
        columns.texts[field.name] for field in task.fields if field.name in columns.texts and not field.may_be_empty
    ]
    others = array("q")  # few, so that a million rows that are used take no memory
    left_out: list[LeftOutRow] = []
    for row, cells in enumerate(table.rows):
        reason = rejection(cells)
        if reason is None and any(task.is_blank(cells.get(column)) for column in texts):
            reason = NO_TEXT
        if reason is None and is_unlabelled(cells):
            reason = NO_LABEL
        if reason is not None:
            others.append(row)
            left_out.append(LeftOutRow(table.where(row), reason))
    if not left_out:
        return table, []
    return replace(table.select(np.delete(np.arange(len(table)), others)), left_out=tuple(left_out)), left_out


def usable_rows(task: Task[Any, Any], table: Table, columns: ColumnMapping) -> Table:
    """The rows that labelled data can use, with a note that counts the others.

    Raises:
        HeadwayError: no row is left, or there are others and the table was read with --strict.
    """
    kept, left_out = leave_out(task, table, columns)
    if not left_out:
        return table
    if not table.strict and len(kept):
        total = f"{len(left_out):,} of {count(len(table), 'row')} {'is' if len(left_out) == 1 else 'are'} left out"
        return replace(kept, notes=(*kept.notes, f"{total}: {_describe(left_out)} (--strict refuses them)"))
    if not len(kept):
        raise no_row_left(left_out)
    raise HeadwayError(f"{_describe(left_out)}. Correct or delete what is listed, or omit --strict.")


@contextmanager
def explains_left_out(left_out: Sequence[LeftOutRow]) -> Iterator[None]:
    """Adds the rows that are left out to an error, which they may explain: one label is left, for example."""
    try:
        yield
    except HeadwayError as error:
        if not left_out:
            raise
        raise HeadwayError(f"{error} Rows left out: {_describe(left_out)}.") from error


def no_row_left(left_out: Sequence[LeftOutRow]) -> HeadwayError:
    """The error where all rows are left out."""
    return HeadwayError(f"No row can be used: {_describe(left_out)}. Name other columns, or correct the rows.")


def left_out_findings(left_out: Sequence[LeftOutRow], *, strict: bool) -> list[Finding]:
    """A finding per reason, with the places of all rows."""
    found: list[Finding] = []
    for reason, places in _by_reason(left_out).items():
        what = f"{count(len(places), 'row')} {reason} {'is' if len(places) == 1 else 'are'}"
        verb = "refused (--strict)" if strict else "left out (--strict refuses them)"
        message = f"{what} {verb}: {format_places(places)}."
        found.append(Finding("left out", "error" if strict else "note", message, tuple(places)))
    return found


def write_left_out(path: str | Path | None, left_out: Iterable[LeftOutRow]) -> None:
    """Writes the place of each row and the reason to a CSV file; an earlier list is replaced.

    Raises:
        HeadwayError: the file cannot be written, or is there and is no such list: the data, for example.
    """
    if path is not None and processes().is_main:
        refuse_other_file(user_path(path))
        with atomic_file(user_path(path), overwrite=True) as new:
            _write(new, left_out)


def refuse_other_file(path: Path) -> None:
    """Raises HeadwayError if a file is there that is not a list of rows that were left out."""
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            if file.read(len(",".join(HEADER))) == ",".join(HEADER).encode():
                return
        raise HeadwayError(f"{path} is not a list of left-out rows, so it is not replaced. Choose another --left-out.")


def add_left_out(folder: Path, left_out: Sequence[LeftOutRow]) -> None:
    """Lists the rows in a file of a model folder that is being written, if there are any."""
    if left_out:
        _write(folder / NAME, left_out)


def count_left_out(folder: Path) -> int:
    """The number of rows that a model folder lists."""
    path = folder / NAME
    if not path.exists():
        return 0
    with path.open(encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.reader(file)) - 1


def _write(path: Path, left_out: Iterable[LeftOutRow]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([HEADER, *((one.where, one.reason) for one in left_out)])


def _describe(left_out: Sequence[LeftOutRow]) -> str:
    return "; ".join(
        f"{count(len(places), 'row')} {reason} ({format_places(places, 3)})"
        for reason, places in _by_reason(left_out).items()
    )


def _by_reason(left_out: Iterable[LeftOutRow]) -> dict[str, list[str]]:
    places: dict[str, list[str]] = {}
    for one in left_out:
        places.setdefault(one.reason, []).append(one.where)
    return places


def _rejection_reader(
    rows: Iterable[Mapping[str, Any]], used_columns: Collection[str]
) -> Callable[[Mapping[str, Any]], str | None]:
    """A function that gives the reason why an annotator did not accept a row, or None.

    With other values than those of Prodigy, a column "answer" is not Prodigy's.
    """
    known = (ACCEPTED, *REASONS)
    answers = (row.get(ANSWER_COLUMN) for row in rows)
    columns = [STATUS_COLUMN]
    if ANSWER_COLUMN not in used_columns and all(is_missing(one) or one in known for one in answers):
        columns.append(ANSWER_COLUMN)

    def reason(cells: Mapping[str, Any]) -> str | None:
        given = [value for column in columns if isinstance(value := cells.get(column), str)]
        return next((REASONS[value] for value in given if value in REASONS), None)

    return reason
