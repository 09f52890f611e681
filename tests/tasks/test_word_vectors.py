"""Word vectors: nearest words, word arithmetic, and a word in several sentences."""

import numpy as np
import pytest
from headway.core.errors import HeadwayError
from headway.tasks import Embedder
from headway.tasks.embedding.embedder import cosines
from headway.tasks.embedding.word_vectors import WordTable, compare_contexts, parse_expression

BANKS = ["the cat sat on the mat", "my parcel sat, sat there"]


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def table(request, bert_folder, gpt2_folder) -> WordTable:
    return WordTable(Embedder({"bert": bert_folder, "gpt2": gpt2_folder}[request.param]))


def test_the_table_has_whole_words_only(table):
    assert "cat" in table.words
    assert not any(word.startswith(("##", "[CLS", "Ġ", "<|")) for word in table.words)
    assert all(table.words)


def test_the_nearest_words_are_those_of_a_direct_computation(table):
    cat = table.vector("cat")
    scores = {
        word: float(cosines(cat[None], table.table[[i]])[0, 0])
        for i, word in zip(table.ids.tolist(), table.words, strict=True)
        if word != "cat"
    }
    expected = sorted(scores, key=lambda word: -scores[word])[:3]
    found = table.nearest("cat", top=3)
    assert [one.word for one in found] == expected
    assert [one.score for one in found] == pytest.approx([scores[word] for word in expected], abs=1e-5)


def test_words_can_be_added_and_subtracted(table):
    table.table[table.tokens("dog")[0]] = table.vector("cat") / np.linalg.norm(table.vector("cat")) - table.vector(
        "the"
    ) / np.linalg.norm(table.vector("the"))
    first = table.nearest("cat - the", top=1)[0]
    assert first.word == "dog"
    assert first.score == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("king", [(1, "king")]),
        ("king - man + woman", [(1, "king"), (-1, "man"), (1, "woman")]),
        ("ice-cream + new york", [(1, "ice-cream"), (1, "new york")]),
        ("- man", [(-1, "man")]),
    ],
)
def test_an_expression_is_parsed(expression, parts):
    assert parse_expression(expression) == parts


@pytest.mark.parametrize("expression", ["king - ", "king + + man", "", "king - + man"])
def test_a_sign_without_a_word_is_rejected(expression):
    with pytest.raises(HeadwayError, match="both sides of a sign"):
        parse_expression(expression)


def test_an_unknown_word_is_rejected(bert_folder):
    with pytest.raises(HeadwayError, match="no such word"):
        WordTable(Embedder(bert_folder)).nearest("ጤና")
    with pytest.raises(HeadwayError, match="--top 0"):
        WordTable(Embedder(bert_folder)).nearest("cat", top=0)


def test_contexts_are_compared_by_the_vectors_of_the_word(tiny_model):
    embedder = Embedder(tiny_model)
    found = compare_contexts(embedder, "Sat", BANKS)
    assert [one.sentence[one.start : one.end] for one in found.occurrences] == ["sat", "sat", "sat"]
    vectors = [embedder.embed_words(BANKS[0]).vectors[2], *embedder.embed_words(BANKS[1]).vectors[[2, 4]]]
    np.testing.assert_allclose(found.cosines, cosines(np.stack(vectors), np.stack(vectors)), atol=1e-5)
    static = WordTable(embedder).vector("Sat")
    np.testing.assert_allclose(found.to_static, cosines(np.stack(vectors), static[None])[:, 0], atol=1e-5)


def test_the_embedding_layer_does_not_depend_on_the_sentence(bert_folder):
    found = compare_contexts(Embedder(bert_folder, layer=0), "sat", ["the cat sat", "the dog sat"])
    np.testing.assert_allclose(found.cosines, 1, atol=1e-5)


def test_a_sentence_without_the_word_is_rejected(bert_folder):
    with pytest.raises(HeadwayError, match='does not have the word "dog"'):
        compare_contexts(Embedder(bert_folder), "dog", BANKS)


def test_concatenated_layers_are_rejected(bert_folder):
    with pytest.raises(HeadwayError, match="--combine concat"):
        compare_contexts(Embedder(bert_folder, last_layers=2, combine="concat"), "sat", BANKS)
