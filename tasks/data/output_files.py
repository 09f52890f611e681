"""Files of rows: JSON lines, CSV and TSV, Excel workbooks, CoNLL."""

import csv
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from ...core.errors import HeadwayError
from ...core.visible import visible
from .output_options import OutputOptions
from .reading.csv_files import CSV_SUFFIX
from .reading.json_files import JSON_LINES_SUFFIXES

TSV_SUFFIX, XLSX_SUFFIX, CONLL_SUFFIX = ".tsv", ".xlsx", ".conll"
SUFFIXES = (*JSON_LINES_SUFFIXES, CSV_SUFFIX, TSV_SUFFIX, XLSX_SUFFIX, CONLL_SUFFIX)
LISTED = ("labels", "label_set")  # fields with several labels
DECIMALS = 3  # of scores in tables
# What Excel takes for the beginning of a formula (https://owasp.org/www-community/attacks/CSV_Injection), and numbers,
# which may begin in the same way.
FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")
NUMBER = re.compile(r"\s*[+-]?[\d., ]+(e[+-]?\d+)?\s*%?\s*", re.IGNORECASE)
# Excel specifications: https://support.microsoft.com/office/1672b34d-7043-467e-8e27-269d656771c3
MAX_CELL_CHARACTERS, MAX_SHEET_ROWS, MAX_DIGITS = 32_767, 1_048_576, 15
NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class Score(float):
    """A probability or a similarity, which tables show with three digits."""


class OutputFile(ABC):
    """A file of rows that is being written.

    Args:
        path: the file as users know it, for messages.
        unfinished: where it is written.
        options: of the output.
    """

    is_table: ClassVar[bool] = True  # whether a cell is a text or a number
    excel: ClassVar[bool] = False  # whether --for-excel has a meaning

    def __init__(self, path: Path, unfinished: Path, options: OutputOptions) -> None:
        self.path, self.options = path, options
        self._unfinished = unfinished

    @abstractmethod
    def write(self, cells: Mapping[str, Any], number: int) -> None:
        """Writes a row; `number` counts the rows of the input, for messages."""

    @abstractmethod
    def close(self, *, complete: bool) -> None:
        """Closes the file; not `complete`: it is deleted next."""

    def refuse(self, number: int, problem: str) -> HeadwayError:
        """The error about a row that the format cannot hold."""
        return HeadwayError(f"{self.path}: row {number} has {problem}. Write a .csv or .jsonl file instead.")


class JsonLinesFile(OutputFile):
    """One JSON object per line."""

    is_table: ClassVar[bool] = False

    def __init__(self, path: Path, unfinished: Path, options: OutputOptions) -> None:
        super().__init__(path, unfinished, options)
        self._file = unfinished.open("w", encoding="utf-8", newline="")

    def write(self, cells: Mapping[str, Any], number: int) -> None:  # noqa: ARG002
        """Writes an object."""
        self._file.write(json.dumps(cells, ensure_ascii=False, default=str) + "\n")

    def close(self, *, complete: bool) -> None:  # noqa: ARG002
        """Closes the file."""
        self._file.close()


class TableFile(OutputFile):
    """A table whose columns are those of its first row."""

    def __init__(self, path: Path, unfinished: Path, options: OutputOptions) -> None:
        super().__init__(path, unfinished, options)
        self._header: tuple[str, ...] | None = None

    def write(self, cells: Mapping[str, Any], number: int) -> None:
        """Writes a row, before the first one the header."""
        self.begin(tuple(cells))
        assert self._header is not None
        new_columns = [name for name in cells if name not in self._header]
        if new_columns:
            raise HeadwayError(
                f'{self.path}: row {number} has a column "{new_columns[0]}" that the first row does not have. '
                "Write a .jsonl file instead."
            )
        self._write_cells([cells.get(name) for name in self._header], number)

    def begin(self, columns: Sequence[str]) -> None:
        """Writes the header, unless it is there."""
        if self._header is None:
            self._header = tuple(columns)
            self._write_cells(self._header, 1)

    @abstractmethod
    def _write_cells(self, cells: Sequence[Any], number: int) -> None: ...


class SeparatedFile(TableFile):
    """CSV, or TSV, which has no quotes."""

    excel: ClassVar[bool] = True

    def __init__(self, path: Path, unfinished: Path, options: OutputOptions) -> None:
        super().__init__(path, unfinished, options)
        encoding = "utf-8-sig" if options.for_excel else "utf-8"
        self._file = unfinished.open("w", encoding=encoding, newline="")
        self._csv = csv.writer(self._file, delimiter=options.output_delimiter or ",")
        self._quoted = path.suffix.lower() == CSV_SUFFIX

    def _write_cells(self, cells: Sequence[Any], number: int) -> None:
        texts = [self._text(cell) for cell in cells]
        if self._quoted:
            self._csv.writerow(texts)
            return
        for text in texts:
            if any(character in text for character in "\t\r\n"):
                raise self.refuse(number, "a text with a TAB or a line break, which a TSV cannot contain")
        self._file.write("\t".join(texts) + "\n")

    def _text(self, cell: Any) -> str:
        if isinstance(cell, Score):
            return f"{cell:.{DECIMALS}f}".replace(".", self.options.decimal)
        text = cell_text(cell)
        formula = self.options.for_excel and FORMULA.match(text) and not NUMBER.fullmatch(text)
        return f"'{text}" if formula else text

    def close(self, *, complete: bool) -> None:  # noqa: ARG002
        """Closes the file."""
        self._file.close()


class Workbook(TableFile):
    """The only sheet of an Excel workbook. Texts are always texts: Excel computes none of them."""

    excel: ClassVar[bool] = True

    def __init__(self, path: Path, unfinished: Path, options: OutputOptions) -> None:
        from openpyxl import Workbook as Book

        super().__init__(path, unfinished, options)
        self._book = Book(write_only=True)
        self._sheet = self._book.create_sheet("predictions")
        self._num_rows = 0

    def _write_cells(self, cells: Sequence[Any], number: int) -> None:
        if self._num_rows == 0:  # the header stays in view
            self._sheet.freeze_panes = "A2"
        self._num_rows += 1
        if self._num_rows > MAX_SHEET_ROWS:
            raise self.refuse(number, f"no place in a sheet of Excel, which has {MAX_SHEET_ROWS:,} rows")
        self._sheet.append([self._cell(cell, number) for cell in cells])

    def _cell(self, value: Any, number: int) -> Any:
        from openpyxl.cell import WriteOnlyCell

        if isinstance(value, Score):
            cell = WriteOnlyCell(self._sheet, round(float(value), DECIMALS))
            cell.number_format = f"0.{'0' * DECIMALS}"
            return cell
        if value is None or isinstance(value, bool) or _is_excel_number(value):
            return value
        text = NOT_IN_XML.sub(lambda found: visible(found.group()) if found.group() < " " else "�", cell_text(value))
        if len(text.encode("utf-16-le")) // 2 > MAX_CELL_CHARACTERS:
            raise self.refuse(
                number, f"a text of {len(text):,} characters; a cell of Excel holds {MAX_CELL_CHARACTERS:,}"
            )
        cell = WriteOnlyCell(self._sheet, text)
        cell.data_type = "s"  # otherwise a text that begins with = becomes a formula
        return cell

    def close(self, *, complete: bool) -> None:
        """Writes the workbook."""
        if complete:
            self._book.save(self._unfinished)
        elif self._num_rows:
            self._sheet.close()


class ConllFile(OutputFile):
    """A word and its predicted tag on each line, separated by a TAB; a blank line after each text."""

    is_table: ClassVar[bool] = False

    def __init__(self, path: Path, unfinished: Path, options: OutputOptions) -> None:
        super().__init__(path, unfinished, options)
        self._file = unfinished.open("w", encoding="utf-8", newline="")

    def write(self, cells: Mapping[str, Any], number: int) -> None:
        """Writes the words and tags of a text."""
        for word, tag in zip(cells["words"], cells["tags"], strict=True):
            if not word or any(character in word for character in "\t\r\n"):
                raise self.refuse(number, "a word that is empty or has a TAB or a line break")
            self._file.write(f"{word}\t{tag}\n")
        self._file.write("\n")

    def close(self, *, complete: bool) -> None:  # noqa: ARG002
        """Closes the file."""
        self._file.close()


FILES: dict[str, type[OutputFile]] = {
    **dict.fromkeys(JSON_LINES_SUFFIXES, JsonLinesFile),
    CSV_SUFFIX: SeparatedFile,
    TSV_SUFFIX: SeparatedFile,
    XLSX_SUFFIX: Workbook,
    CONLL_SUFFIX: ConllFile,
}


def table_cells(prediction: Mapping[str, Any]) -> dict[str, Any]:
    """A prediction as cells of a table: one column for the score of each label, and several labels as a;b."""
    cells: dict[str, Any] = {}
    value: Any
    for name, value in prediction.items():
        if isinstance(value, Mapping) and value and all(isinstance(one, float) for one in value.values()):
            cells |= {f"{name.removesuffix('s')}_{label}": Score(one) for label, one in value.items()}
        elif isinstance(value, float) and (name.endswith("score") or name == "similarity"):
            cells[name] = Score(value)
        elif name in LISTED and isinstance(value, list | tuple) and not _has_semicolon(prediction, value):
            cells[name] = ";".join(map(str, value))
        else:
            cells[name] = value
    return cells


def _has_semicolon(prediction: Mapping[str, Any], labels: Sequence[Any]) -> bool:
    return any(";" in str(label) for label in (*labels, *(prediction.get("scores") or ())))


def cell_text(value: Any) -> str:
    """A value as text: strings unchanged, None empty, everything else as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _is_excel_number(value: Any) -> bool:
    """Whether Excel keeps a number as it is: finite, with at most 15 digits."""
    if isinstance(value, int):
        return len(str(abs(value))) <= MAX_DIGITS
    return isinstance(value, float) and abs(value) < float("inf")
