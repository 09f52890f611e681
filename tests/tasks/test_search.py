"""Search finds the nearest rows, with vectors computed during the search or before it."""

import numpy as np
import pytest
from headway.core.errors import HeadwayError
from headway.tasks import Embedder
from headway.tasks.data.read import stream_rows
from headway.tasks.embedding.embedder import cosines
from headway.tasks.embedding.search import search

ROWS = [{"id": i, "text": text} for i, text in enumerate(["the cat sat", "my parcel", "the mat", "the cat sat"])]
TEXTS = [row["text"] for row in ROWS]


@pytest.fixture(scope="module")
def embedder(bert_folder):
    return Embedder(bert_folder)


def test_the_nearest_rows_come_first_and_ties_keep_their_order(embedder):
    hits = search(embedder, "the cat sat", stream_rows(ROWS), column="text")
    expected = cosines(embedder.embed(["the cat sat"]), embedder.embed(TEXTS))[0]
    assert [hit.position for hit in hits[:2]] == [0, 3]
    assert [hit.row for hit in hits] == [ROWS[hit.position] for hit in hits]
    assert [hit.score for hit in hits] == pytest.approx(sorted(expected, reverse=True), abs=1e-5)
    assert hits[0].score == pytest.approx(1, abs=1e-5)


def test_precomputed_vectors_give_the_same_rows(embedder):
    plain = search(embedder, "a cat", stream_rows(ROWS), column="text", top=2)
    found = search(embedder, "a cat", stream_rows(ROWS), vectors=embedder.embed(TEXTS), top=2)
    assert [hit.row for hit in found] == [hit.row for hit in plain]
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in plain], abs=1e-5)


@pytest.mark.parametrize("count", [3, 5])
def test_vectors_of_other_rows_are_rejected(embedder, count):
    with pytest.raises(HeadwayError, match=f"there are {count} vectors"):
        search(embedder, "a cat", stream_rows(ROWS), vectors=np.ones((count, 32), dtype=np.float32))


def test_vectors_of_another_model_are_rejected(embedder):
    with pytest.raises(HeadwayError, match="7 numbers and those of this model"):
        search(embedder, "a cat", stream_rows(ROWS), vectors=np.ones((4, 7), dtype=np.float32))


def test_the_number_of_rows_must_be_positive(embedder):
    with pytest.raises(HeadwayError, match="--top 0"):
        search(embedder, "a cat", stream_rows(ROWS), top=0)
