"""Predictions as a file, row by row, in the format that the file's ending names."""

import csv
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ...core.atomic_files import atomic_file, new_path
from ...core.errors import HeadwayError
from .reading.json_files import JSON_LINES_SUFFIXES


def with_prediction(row: Mapping[str, Any], prediction: Mapping[str, Any]) -> dict[str, Any]:
    """A row's own columns, then the prediction's; a name that the row has already gets "predicted_" before it."""
    whole = dict(row)
    for name, value in prediction.items():
        while name in whole:
            name = f"predicted_{name}"
        whole[name] = value
    return whole


class RowWriter:
    """Writes rows with their predictions beside them as they come; the file is whole or not there.

    The ending of `path` is the format: .jsonl (or .ndjson), .csv or .tsv. The input's columns come back untouched; a
    prediction's name that the input has already gets "predicted_" before it.

        with RowWriter(path, stream.columns) as writer:
            writer.write(row, {"label": "positive", "score": 0.97})

    Raises:
        HeadwayError: another ending, the file exists and `overwrite` is false, it cannot be written, or a row does
            not fit into the format.
    """

    def __init__(self, path: str | Path, columns: Sequence[str] = (), overwrite: bool = False) -> None:
        self.path = new_path(path)
        self.columns = tuple(columns)
        self.overwrite = overwrite
        self.written = 0
        self._header: tuple[str, ...] | None = None
        self._ending = self.path.suffix.lower()
        if self._ending not in (*JSON_LINES_SUFFIXES, ".csv", ".tsv"):
            raise HeadwayError(f"{self.path}: rows are written as .jsonl, .csv or .tsv. Let the name end in one.")

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            unfinished = stack.enter_context(atomic_file(self.path, self.overwrite))
            self._file = stack.enter_context(unfinished.open("w", encoding="utf-8", newline=""))
            self._csv = csv.writer(self._file)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def write(self, row: Mapping[str, Any], prediction: Mapping[str, Any] | None = None) -> None:
        """Adds one row: its own columns, then the prediction's."""
        whole = with_prediction({**dict.fromkeys(self.columns), **row}, prediction or {})
        self.written += 1
        if self._ending in JSON_LINES_SUFFIXES:
            self._file.write(json.dumps(whole, ensure_ascii=False, default=str) + "\n")
            return
        if self._header is None:
            self._header = tuple(whole)
            self._write_cells(list(self._header))
        unknown = [name for name in whole if name not in self._header]
        if unknown:
            raise HeadwayError(
                f'{self.path}: row {self.written} has a column "{unknown[0]}" that the first row does not have, '
                "which a table cannot hold. Let the file's name end in .jsonl."
            )
        self._write_cells([_cell(whole.get(name)) for name in self._header])

    def _write_cells(self, cells: list[str]) -> None:
        if self._ending == ".csv":
            self._csv.writerow(cells)
            return
        for cell in cells:
            if any(sign in cell for sign in "\t\r\n"):
                raise HeadwayError(
                    f"{self.path}: row {self.written} has a text with a TAB or a line break in it, which a TSV cannot "
                    "hold. Let the file's name end in .csv or .jsonl."
                )
        self._file.write("\t".join(cells) + "\n")


def _cell(value: Any) -> str:
    """A value as a cell of a table: text as it is, nothing for None, JSON for everything else."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
