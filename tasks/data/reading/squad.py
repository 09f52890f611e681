"""The JSON layout of SQuAD: articles of paragraphs of questions (Rajpurkar et al. 2016 and 2018)."""

from typing import Any

from ....core.errors import HeadwayError
from ..places import shorten


def is_squad(records: list[Any]) -> bool:
    """Whether all records are articles with paragraphs."""
    return all(isinstance(record, dict) and "paragraphs" in record for record in records)


def squad_rows(source: str, articles: list[Any]) -> list[dict[str, Any]]:
    """One row per question. `answers` is None for an unlabelled question, empty lists if it has no answer (v2.0)."""
    return [row for number, article in enumerate(articles, start=1) for row in _article_rows(source, number, article)]


def _article_rows(source: str, number: int, article: dict[str, Any]) -> list[dict[str, Any]]:
    title = article.get("title", "")
    try:
        return [
            {
                "id": question["id"],
                "title": title,
                "context": paragraph["context"],
                "question": question["question"],
                "answers": _answers(question),
            }
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise HeadwayError(
            f'{source}, article {number} ("{shorten(title)}"): not in the format of SQuAD: {reason}. Each paragraph '
            "needs context and qas; each question needs id, question and answers with text and answer_start."
        ) from error


def _answers(question: dict[str, Any]) -> dict[str, list[Any]] | None:
    answers = [] if question.get("is_impossible") else question.get("answers")
    if answers is None:
        return None
    return {name: [answer[name] for answer in answers] for name in ("text", "answer_start")}
