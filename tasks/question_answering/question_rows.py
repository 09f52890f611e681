"""Reads rows as questions about contexts with their gold answers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...core.errors import HeadwayError
from ..data.column_names import normalize_name
from ..data.columns import ColumnMapping, parse_text
from ..data.rows import Table
from .answers import locate_answer, parse_answers
from .predictions import QuestionExample

ID_COLUMNS = ("id", "qid", "question_id", "guid", "uid")
START_COLUMNS = ("answer_start", "answer_starts", "answers_start", "start")
IMPOSSIBLE_COLUMNS = ("is_impossible",)


def question_reader(table: Table, columns: ColumnMapping, *, labelled: bool) -> Callable[[int], QuestionExample]:
    """A function that reads the row at a position; as `Task.row_reader`."""
    question, context = columns.texts["question"], columns.texts["context"]
    id_column = _unused_column(table, columns, ID_COLUMNS)
    parse_row_answers = answers_reader(table, columns) if labelled else None
    seen: set[str] = set()

    def read(row: int) -> QuestionExample:
        cells = table.rows[row]
        texts = (
            parse_text(cells.get(question), question, "question", labelled=labelled),
            parse_text(cells.get(context), context, "context", labelled=labelled),
        )
        answers = None
        if parse_row_answers is not None:
            answers = tuple(locate_answer(text, start, texts[1]) for text, start in parse_row_answers(cells))
        given = None if id_column is None else cells.get(id_column)
        if given in (None, ""):
            return QuestionExample(row, table.where(row), str(table.places[row]), *texts, answers)
        repeated = str(given) in seen
        seen.add(str(given))
        return QuestionExample(row, f"{table.source}, id {given}", str(given), *texts, answers, repeated)

    return read


def _unused_column(table: Table, columns: ColumnMapping, names: Sequence[str]) -> str | None:
    """The column with the first of these names that is not used for a text or the answers."""
    used = {*columns.texts.values(), columns.label}
    unused = {normalize_name(column): column for column in table.columns if column not in used}
    return next((unused[normalize_name(name)] for name in names if normalize_name(name) in unused), None)


def unanswered_checker(table: Table, columns: ColumnMapping) -> Callable[[Mapping[str, Any]], bool]:
    """A function that tells whether it is unknown what the answer in a row is."""
    is_impossible = _impossible_checker(table, columns)
    return lambda cells: cells.get(str(columns.label)) is None and not is_impossible(cells)


def _impossible_checker(table: Table, columns: ColumnMapping) -> Callable[[Mapping[str, Any]], bool]:
    impossible = _unused_column(table, columns, IMPOSSIBLE_COLUMNS)
    return lambda cells: impossible is not None and str(cells.get(impossible)).lower() in ("true", "1")


def answers_reader(
    table: Table, columns: ColumnMapping
) -> Callable[[Mapping[str, Any]], list[tuple[str, int | None]]]:
    """A function that reads the answers in a row; empty if the row is marked as impossible to answer."""
    label, start = str(columns.label), _unused_column(table, columns, START_COLUMNS)
    is_impossible = _impossible_checker(table, columns)

    def read(cells: Mapping[str, Any]) -> list[tuple[str, int | None]]:
        if is_impossible(cells):
            return []
        try:
            return parse_answers(cells.get(label), None if start is None else cells.get(start))
        except HeadwayError as error:
            raise HeadwayError(f'column "{label}": {error}') from error

    return read
