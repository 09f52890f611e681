"""Semantic search: the rows of a file whose text vectors have the largest cosine with a query, in constant memory.

Shapes: N rows, D size of a vector.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import HeadwayError
from ..data.features import TextLength
from .embedder import Embedder, cosines

if TYPE_CHECKING:
    from ..data.rows import RowStream

VECTOR_CHUNK = 65536  # vectors of a file that are compared together


@dataclass(frozen=True)
class Hit:
    """A row with its similarity to the query."""

    position: int  # of the row in the file, from 0
    score: float  # of a search the cosine, -1 to 1
    row: dict[str, Any]
    length: TextLength | None = None  # of the text that was read; None if its vector had been computed before

    def to_json(self, *, with_length: bool = False) -> dict[str, Any]:
        """The position and the score, and the length if it is known, to be written beside the row."""
        length = {} if self.length is None or not with_length else self.length.to_json()
        return {"row": self.position, "score": self.score, **length}


def search(
    embedder: Embedder,
    query: str,
    stream: "RowStream",
    *,
    column: str | None = None,
    vectors: np.ndarray | None = None,
    top: int = 10,
) -> list[Hit]:
    """Finds the rows nearest to a query, nearest first; the earlier one of equally near rows.

    Args:
        embedder: computes the vectors.
        query: a text.
        stream: the rows, from `stream_rows`.
        column: of the texts. Default: inferred.
        vectors: the vectors of the rows, (N, D), if they have been computed; see `read_vectors`.
        top: number of rows to return.

    Raises:
        HeadwayError: the column cannot be inferred, or the vectors are of another model or of other rows.
    """
    query_vector = embedder.embed([query])
    if vectors is None:
        found = (
            (row, score, length)
            for rows, chunk, lengths in embedder.embed_rows(stream, column)
            for row, score, length in zip(rows, cosines(query_vector, chunk)[0].tolist(), lengths, strict=True)
        )
    else:
        found = ((row, score, None) for row, score in _scored(query_vector, stream, vectors))
    return nearest(found, top)


def nearest(found: Iterable[tuple[dict[str, Any], float, TextLength | None]], top: int | None = None) -> list[Hit]:
    """The rows with the largest scores in descending order, `top` of them or all; of equal ones the earlier first.

    Raises:
        HeadwayError: `top` is not a number of rows.
    """
    if top is not None and top < 1:
        raise HeadwayError(f"--top {top}: a number of rows, 1 or more.")
    # The position in the key keeps the rows themselves from being compared.
    scored = ((-score, position, row, length) for position, (row, score, length) in enumerate(found))
    best = sorted(scored) if top is None else heapq.nsmallest(top, scored)
    return [Hit(position, -score, row, length) for score, position, row, length in best]


def _scored(query: np.ndarray, stream: "RowStream", vectors: np.ndarray) -> Iterator[tuple[dict[str, Any], float]]:
    """The rows with their scores, given their vectors."""
    if vectors.shape[1] != query.shape[1]:
        raise HeadwayError(
            f"--vectors: the vectors have {vectors.shape[1]} numbers and those of this model {query.shape[1]}. "
            "Use the model and the options that the vectors were computed with."
        )
    rows = iter(stream)
    for start in range(0, len(vectors), VECTOR_CHUNK):
        for score in cosines(query, vectors[start : start + VECTOR_CHUNK])[0].tolist():
            row = next(rows, None)
            if row is None:
                raise _other_rows(stream.source, len(vectors))
            yield row[1], score
    if next(rows, None) is not None:
        raise _other_rows(stream.source, len(vectors))


def _other_rows(source: str, count: int) -> HeadwayError:
    return HeadwayError(
        f"--vectors: there are {count:,} vectors, and {source} has another number of rows. "
        "Name the file that the vectors were computed from, or compute them again with headway embed."
    )
