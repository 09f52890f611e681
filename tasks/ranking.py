"""Ranks texts by how well they fit a query, with a model that reads both together (a cross-encoder).

https://sbert.net/examples/cross_encoder/applications/README.html. More accurate than comparing vectors
(embedding/search.py), and slower: every text is read again for every query.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..core.errors import HeadwayError
from .base.model import TaskModel
from .data.column_inference import infer_columns
from .data.columns import ColumnMapping
from .data.examples import TEXT
from .data.read import stream_rows
from .data.rows import RowStream
from .embedding.search import Hit, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .base.predictions import Prediction

ROW = "row"  # the column of a pair that holds the row itself


def rank(model: TaskModel, query: str, data: Any, *, column: str | None = None, top: int | None = None) -> list[Hit]:
    """Ranks rows by the score of the query with their text, best first; of equal ones the earlier row is first.

    Args:
        model: predicts a number for a pair of texts, or their similarity.
        query: a text.
        data: the rows: a file name, a DataFrame, a list of texts or dicts, ... (anything that `predict_rows` takes).
        column: of the texts. Default: inferred from the data.
        top: number of rows to return. Default: all.

    Raises:
        HeadwayError: the model does not score pairs, the column cannot be inferred, or the data cannot be read.
    """
    if isinstance(data, list | tuple) and data and isinstance(data[0], str):
        data = [{TEXT.name: text} for text in data]
    stream = data if isinstance(data, RowStream) else stream_rows(data)
    return best_rows(model, score_rows(model, query, stream, text_column(stream, column)), top)


def score_rows(
    model: TaskModel, query: str, stream: RowStream, column: str
) -> "Iterator[tuple[dict[str, Any], Prediction]]":
    """The rows in order, each with the prediction for the query and its text.

    Raises:
        HeadwayError: the model does not score pairs, or the data cannot be read.
    """
    require_ranking(model, model.base)
    first, second = (field.name for field in model.task.fields[:2])

    def read() -> "Iterator[tuple[int, dict[str, Any]]]":
        for place, row in stream:
            yield place, {first: query, second: row.get(column), ROW: row}

    pairs = replace(stream, columns=(first, second), read=read)
    mapping = ColumnMapping({first: first, second: second}, None, ())
    return ((pair[ROW], prediction) for pair, prediction in model.predict_rows(pairs, mapping))


def best_rows(
    model: TaskModel, predictions: "Iterable[tuple[dict[str, Any], Prediction]]", top: int | None = None
) -> list[Hit]:
    """The rows with the best scores, best first.

    Args:
        model: made the predictions.
        predictions: rows with their predictions, from `score_rows`.
        top: number of rows to return. Default: all.
    """
    found = ((row, model.task.relevance(one.to_json()), one.length) for row, one in predictions)
    return nearest(found, top)


def text_column(stream: RowStream, column: str | None) -> str:
    """The name of the column of the texts; None infers it."""
    return infer_columns(stream, [TEXT], chosen={"text": column}, need_label=False).texts["text"]


def require_ranking(model: TaskModel, name: str) -> None:
    """Raises HeadwayError if the model gives no score by which texts can be ranked."""
    if not model.task.ranks:
        raise HeadwayError(
            f"{name} is a model for {model.task.name} without a score for a pair of texts, so it cannot rank. Use a "
            "cross-encoder with one output, a model trained on pairs with numbers, or one for sentence-similarity."
        )
