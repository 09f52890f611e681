"""Writes rows with predictions as JSON lines, CSV, TSV, Excel workbook or CoNLL."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ...core.atomic_files import atomic_file, new_path
from ...core.errors import HeadwayError
from .output_files import CONLL_SUFFIX, FILES, SUFFIXES, Score, SeparatedFile, TableFile, Workbook, table_cells
from .output_options import DEFAULT_OUTPUT, OutputOptions
from .reading.csv_files import CSV_SUFFIX

ENTITY_COLUMNS = ("row", "entity", "label", "start", "end", "score")


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

    In tables (CSV, TSV, Excel) the score of each label has its own column, with three digits; JSON lines have the
    whole prediction.

    Args:
        path: The file. Its suffix is the format: .jsonl, .ndjson, .csv, .tsv, .xlsx, or .conll for named entities.
        columns: Columns of the rows, in this order. Columns that a row lacks are None.
        overwrite: Whether an existing file is replaced.
        options: How the file is written.

    Raises:
        HeadwayError: The suffix is not supported, the file exists or cannot be written, an option has no meaning for
            the format, or a row cannot be represented in it.
    """

    def __init__(
        self,
        path: str | Path,
        columns: Sequence[str] = (),
        overwrite: bool = False,
        options: OutputOptions = DEFAULT_OUTPUT,
    ) -> None:
        self.path = new_path(path)
        self.columns = tuple(columns)
        self.overwrite = overwrite
        self.options = options
        self.num_rows = 0
        self._suffix = self.path.suffix.lower()
        if self._suffix not in SUFFIXES:
            raise HeadwayError(
                f"{self.path}: rows are written as .jsonl, .csv, .tsv or .xlsx, and named entities as .conll. Use one "
                "of these suffixes."
            )
        for name, given, valid in (
            ("for-excel", options.for_excel, issubclass(FILES[self._suffix], SeparatedFile | Workbook)),
            ("output-delimiter", options.output_delimiter, self._suffix == CSV_SUFFIX),
            ("entity-rows", options.entity_rows, self._suffix != CONLL_SUFFIX),
        ):
            if given and not valid:
                raise HeadwayError(f"{self.path}: --{name} has no meaning for a {self._suffix} file. Omit it.")

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            unfinished = stack.enter_context(atomic_file(self.path, self.overwrite))
            self._file = FILES[self._suffix](self.path, unfinished, self.options)
            stack.push(self._close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def _close(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is None and isinstance(self._file, TableFile):
            more: dict[str, Any] = dict.fromkeys(ENTITY_COLUMNS) if self.options.entity_rows else {}
            if more or (self.columns and not self.num_rows):  # a table without rows has a header all the same
                self._file.begin(tuple(with_prediction(dict.fromkeys(self.columns), more)))
        self._file.close(complete=kind is None)

    def write(self, row: Mapping[str, Any], prediction: Mapping[str, Any] | None = None) -> None:
        """Writes a row: its own columns, then those of the prediction."""
        self.num_rows += 1
        prediction = prediction or {}
        if self._suffix == CONLL_SUFFIX or self.options.entity_rows:
            self._require_entities(prediction)
        if self._suffix == CONLL_SUFFIX:
            self._file.write(prediction, self.num_rows)
            return
        row = {**dict.fromkeys(self.columns), **row}
        if self.options.entity_rows:
            for one in prediction["entities"]:
                values = (self.num_rows, one["text"], one["label"], one["start"], one["end"], Score(one["score"]))
                cells = with_prediction(row, dict(zip(ENTITY_COLUMNS, values, strict=True)))
                self._file.write(cells, self.num_rows)
            return
        if self._file.is_table:
            prediction = table_cells(prediction)
        self._file.write(with_prediction(row, prediction), self.num_rows)

    def _require_entities(self, prediction: Mapping[str, Any]) -> None:
        if not {"entities", "words", "tags"} <= prediction.keys():
            what = "--entity-rows is" if self.options.entity_rows else f"a {CONLL_SUFFIX} file is"
            raise HeadwayError(
                f"{self.path}: {what} for models that find named entities. Write a .csv or .jsonl file."
            )
