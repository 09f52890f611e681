"""The rows of a file whose texts are nearest to a query, by the cosine of their vectors, in constant memory.

Shapes: N rows, D size of a vector.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import HeadwayError
from .embedder import Embedder, cosines

if TYPE_CHECKING:
    from ..data.rows import RowStream

VECTORS_AT_ONCE = 65536  # of those that lie in a file


@dataclass(frozen=True)
class Hit:
    """A row that was found."""

    position: int  # in the file, from 0
    score: float  # the cosine, -1 to 1
    row: dict[str, Any]


def search(
    embedder: Embedder,
    query: str,
    stream: "RowStream",
    *,
    column: str | None = None,
    vectors: np.ndarray | None = None,
    top: int = 10,
) -> list[Hit]:
    """The rows nearest to a query, the nearest first; of equal ones the earlier.

    Args:
        embedder: turns texts into vectors.
        query: a text.
        stream: the rows, of `data.stream_rows`.
        column: of the texts; guessed if left out.
        vectors: those of the rows, (N, D), if they are there already: `vectors_file.read_vectors`.
        top: how many rows.

    Raises:
        HeadwayError: the column cannot be told, or the vectors are those of another model or other rows.
    """
    if top < 1:
        raise HeadwayError(f"--top {top}: a number of rows, 1 or more.")
    asked = embedder.embed([query])
    if vectors is None:
        found = (
            (row, score)
            for rows, some in embedder.embed_rows(stream, column)
            for row, score in zip(rows, cosines(asked, some)[0].tolist(), strict=True)
        )
    else:
        found = _scored(asked, stream, vectors)
    # A row's position is in the key, so that rows are never compared.
    best = heapq.nsmallest(top, ((-score, position, row) for position, (row, score) in enumerate(found)))
    return [Hit(position, -score, row) for score, position, row in best]


def _scored(asked: np.ndarray, stream: "RowStream", vectors: np.ndarray) -> Iterator[tuple[dict[str, Any], float]]:
    """The rows with their scores, from vectors that were made before."""
    if vectors.shape[1] != asked.shape[1]:
        raise HeadwayError(
            f"--vectors: they have {vectors.shape[1]} numbers each and those of this model {asked.shape[1]}. "
            "Name the model and the options that they were made with."
        )
    rows = iter(stream)
    for start in range(0, len(vectors), VECTORS_AT_ONCE):
        for score in cosines(asked, vectors[start : start + VECTORS_AT_ONCE])[0].tolist():
            following = next(rows, None)
            if following is None:
                raise _other_rows(stream.source, len(vectors))
            yield following[1], score
    if next(rows, None) is not None:
        raise _other_rows(stream.source, len(vectors))


def _other_rows(source: str, count: int) -> HeadwayError:
    return HeadwayError(
        f"--vectors: there are {count:,} of them, and {source} has another number of rows. "
        "Name the file that they were made from, or make them again with headway embed."
    )
