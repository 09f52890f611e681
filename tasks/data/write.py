"""Writes rows with predictions as JSON lines, CSV or TSV."""

import csv
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ...core.atomic_files import atomic_file, new_path
from ...core.errors import HeadwayError
from .reading.csv_files import CSV_SUFFIX
from .reading.json_files import JSON_LINES_SUFFIXES

SUFFIXES = (*JSON_LINES_SUFFIXES, CSV_SUFFIX, ".tsv")


def with_prediction(row: Mapping[str, Any], prediction: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row, then those of its prediction, with the prefix "predicted_" if the row has the name."""
    merged = dict(row)
    for name, value in prediction.items():
        while name in merged:
            name = f"predicted_{name}"
        merged[name] = value
    return merged


class RowWriter:
    """Writes rows with predictions one at a time. The file appears only when all rows are written.

        with RowWriter(path, stream.columns) as writer:
            writer.write(row, {"label": "positive", "score": 0.97})

    Args:
        path: The file. Its suffix is the format: .jsonl, .ndjson, .csv or .tsv.
        columns: Columns of the rows, in this order. Columns that a row lacks are None.
        overwrite: Whether an existing file is replaced.

    Raises:
        HeadwayError: The suffix is not supported, the file exists or cannot be written, or a row cannot be
            represented in the format.
    """

    def __init__(self, path: str | Path, columns: Sequence[str] = (), overwrite: bool = False) -> None:
        self.path = new_path(path)
        self.columns = tuple(columns)
        self.overwrite = overwrite
        self.num_rows = 0
        self._header: tuple[str, ...] | None = None
        self._suffix = self.path.suffix.lower()
        if self._suffix not in SUFFIXES:
            raise HeadwayError(f"{self.path}: rows are written as .jsonl, .csv or .tsv. Use one of these suffixes.")

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
        """Writes a row: its own columns, then those of the prediction."""
        merged = with_prediction({**dict.fromkeys(self.columns), **row}, prediction or {})
        self.num_rows += 1
        if self._suffix in JSON_LINES_SUFFIXES:
            self._file.write(json.dumps(merged, ensure_ascii=False, default=str) + "\n")
            return
        if self._header is None:
            self._header = tuple(merged)
            self._write_cells(list(self._header))
        new_columns = [name for name in merged if name not in self._header]
        if new_columns:
            raise HeadwayError(
                f'{self.path}: row {self.num_rows} has a column "{new_columns[0]}" that the first row does not have. '
                "Write a .jsonl file instead."
            )
        self._write_cells([_cell(merged.get(name)) for name in self._header])

    def _write_cells(self, cells: list[str]) -> None:
        if self._suffix == CSV_SUFFIX:
            self._csv.writerow(cells)
            return
        for cell in cells:
            if any(character in cell for character in "\t\r\n"):
                raise HeadwayError(
                    f"{self.path}: row {self.num_rows} has a text with a TAB or a line break, which a TSV cannot "
                    "contain. Write a .csv or .jsonl file instead."
                )
        self._file.write("\t".join(cells) + "\n")


def _cell(value: Any) -> str:
    """A value as text: strings unchanged, None empty, everything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
