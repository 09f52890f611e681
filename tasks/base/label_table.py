"""The table of metrics by label where it is too long to be shown: its worst rows, and all of them in a file."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MAX_ROWS = 20  # shown
FILE = "per_label.csv"  # in a model folder

LabelTable = Sequence[
    Mapping[str, Any]
]  # rows with the same keys: the label, its metrics, and last how often it occurs


def worst_rows(rows: LabelTable) -> LabelTable:
    """The rows with the lowest F1, of equal ones the most frequent labels; those that do not occur come last."""
    if len(rows) <= MAX_ROWS:
        return rows
    occurs = list(rows[0])[-1]
    return sorted(rows, key=lambda row: (not row[occurs], row["f1"], -row[occurs]))[:MAX_ROWS]


def describe_rest(rows: LabelTable, where: str) -> str:
    """A sentence about the rows that are not shown; empty if all are."""
    if len(rows) <= MAX_ROWS:
        return ""
    return f"The {MAX_ROWS} labels with the lowest F1 of {len(rows):,}. {where}".rstrip()


def write_rows(path: Path, rows: LabelTable) -> None:
    """Writes all rows as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def add_label_table(folder: Path, rows: LabelTable) -> None:
    """Writes the rows to a file of a model folder that is being written, if they are too many to be shown."""
    if len(rows) > MAX_ROWS:
        write_rows(folder / FILE, rows)
