"""Predictions in the format of SQuAD's official evaluation script."""

from collections.abc import Iterable, Mapping
from typing import Any

from ...core.errors import HeadwayError
from ..data.column_names import normalize_name
from .predictions import AnswerPrediction, QuestionExample
from .question_rows import ID_COLUMNS


def squad_predictions(
    predictions: Iterable[AnswerPrediction], questions: Iterable[QuestionExample | Mapping[str, Any]]
) -> dict[str, str]:
    """The answer to each question by its id, "" for no answer.

    Args:
        predictions: one for each question.
        questions: examples, or rows of a file with an id column.

    Raises:
        HeadwayError: a question has no id, or two questions have the same id.
    """
    answers: dict[str, str] = {}
    for prediction, question in zip(predictions, questions, strict=True):
        name = question.id if isinstance(question, QuestionExample) else _row_id(question)
        if name in answers:
            raise HeadwayError(
                f"Two questions have the id {name!r}, but SQuAD's file of predictions needs unique ids. Correct them, "
                "or give the output a name that ends in .jsonl."
            )
        answers[name] = prediction.answer or ""
    return answers


def _row_id(row: Mapping[str, Any]) -> str:
    cells = {normalize_name(name): value for name, value in row.items()}
    found = (cells.get(normalize_name(name)) for name in ID_COLUMNS)
    value = next((one for one in found if one not in (None, "")), None)
    if value is None:
        raise HeadwayError(
            "SQuAD's file of predictions needs the id of every question, but a row has none. Add a column called id, "
            "or give the output a name that ends in .jsonl."
        )
    return str(value)
