"""A person's rows -> questions about contexts, and the answers that are right (read by answers.py)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.errors import HeadwayError
from ..data.column_names import normalize_name
from ..data.columns import ColumnMapping, parse_text
from ..data.examples import Example
from ..data.rows import Table
from .answers import Answer, place_answer, read_answers

ID_NAMES = ("id", "qid", "question_id", "guid", "uid")
START_NAMES = ("answer_start", "answer_starts", "answers_start", "start")


@dataclass(frozen=True)
class QuestionExample(Example):
    """A question about a context, and the answers that are right."""

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...] | None = None  # none where the context has no answer; None: nobody has said
    repeated: bool = False  # whether an earlier row has the same id

    @property
    def texts(self) -> tuple[str, ...]:
        """The question and its context."""
        return self.question, self.context

    @property
    def gold(self) -> tuple[str, ...] | None:
        """The texts of the answers that are right."""
        return None if self.answers is None else tuple(answer.text for answer in self.answers)

    @property
    def stratum(self) -> str | None:
        """Whether there is an answer."""
        return None if self.answers is None else "answer" if self.answers else "no answer"

    @property
    def group(self) -> str:
        """The context: who has been asked about it knows it."""
        return self.context


def question_reader(table: Table, columns: ColumnMapping, *, labelled: bool) -> Callable[[int], QuestionExample]:
    """How to read the row at a position; as `Task.row_reader`."""
    question, context = columns.texts["question"], columns.texts["context"]
    id_column = _column(table, columns, ID_NAMES)
    read_answers_of = answers_reader(table, columns) if labelled else None
    seen: set[str] = set()

    def read(row: int) -> QuestionExample:
        cells = table.rows[row]
        asked = parse_text(cells.get(question), question, "question", labelled=labelled)
        text = parse_text(cells.get(context), context, "context", labelled=labelled)
        answers = read_answers_of and tuple(place_answer(*one, text) for one in read_answers_of(cells))
        named = None if id_column is None else cells.get(id_column)
        where = table.where(row)
        if named in (None, ""):
            return QuestionExample(row, where, str(table.places[row]), asked, text, answers)
        repeated = str(named) in seen
        seen.add(str(named))
        return QuestionExample(row, f"{table.source}, id {named}", str(named), asked, text, answers, repeated)

    return read


def _column(table: Table, columns: ColumnMapping, names: Sequence[str]) -> str | None:
    """The column that has one of these names, and is nothing else already."""
    taken = {*columns.texts.values(), columns.label}
    free = {normalize_name(column): column for column in table.columns if column not in taken}
    return next((free[normalize_name(name)] for name in names if normalize_name(name) in free), None)


def answers_reader(
    table: Table, columns: ColumnMapping
) -> Callable[[Mapping[str, Any]], list[tuple[str, int | None]]]:
    """How to read the answers in a row; where the row says that it is impossible to answer, there are none."""
    label, start = str(columns.label), _column(table, columns, START_NAMES)
    impossible = _column(table, columns, ("is_impossible",))

    def read(cells: Mapping[str, Any]) -> list[tuple[str, int | None]]:
        if impossible is not None and str(cells.get(impossible)).lower() in ("true", "1"):
            return []
        try:
            return read_answers(cells.get(label), None if start is None else cells.get(start))
        except HeadwayError as error:
            raise HeadwayError(f'column "{label}": {error}') from error

    return read
