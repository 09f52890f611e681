"""headway embed, headway search and headway words."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from headway.tasks import Embedder
from headway.tasks.embedding.embedder import cosines

TEXTS = ["a good film", "an awful meal", "such a dull song"]


@pytest.fixture
def texts(folder: Path) -> Path:
    path = folder / "texts.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "review"], *enumerate(TEXTS)])
    return path


def test_a_column_becomes_vectors_in_the_order_of_the_rows(headway, tiny, texts):
    ran = headway("embed", tiny, "--data", texts, "--text", "review", "--output", "vectors.npy")
    assert ran.code == 0
    assert "vectors.npy: 3 vectors with 32 dimensions" in ran.out
    np.testing.assert_allclose(np.load("vectors.npy"), Embedder(tiny).embed(TEXTS), atol=1e-6)


def test_rows_are_written_with_their_vectors(headway, tiny, texts):
    ran = headway("embed", tiny, "--data", texts, "--output", "vectors.jsonl", "--pooling", "first", "--json")
    assert json.loads(ran.out)["examples"] == 3
    rows = [json.loads(line) for line in Path("vectors.jsonl").read_text().splitlines()]
    assert [row["review"] for row in rows] == TEXTS
    expected = Embedder(tiny, pooling="first").embed(TEXTS)
    np.testing.assert_allclose([row["vector"] for row in rows], expected, atol=1e-6)
    assert headway("embed", tiny, "--data", texts, "--output", "vectors.jsonl").code == 2
    assert headway("embed", tiny, "--data", texts, "--output", "vectors.parquet", "--normalize").code == 0


def test_truncated_texts_are_counted(headway, tiny, folder):
    Path("long.txt").write_text("a good film " * 50 + "\na good film\n")
    arguments = ["embed", tiny, "--data", "long.txt", "--output", "long.npy"]
    assert "1 of 2 texts were truncated to 32 tokens" in headway(*arguments, "--long-texts", "cut").err
    assert "truncated" not in headway(*arguments, "--overwrite").err
    for options, expected in (([], [None, None]), (["--long-texts", "cut"], [True, False])):
        named = ["--output", "long.jsonl", "--overwrite", *options]
        ran = headway(*arguments[:4], *named, "--json")
        assert json.loads(ran.out)["cut"] == sum(map(bool, expected))
        assert bool(expected[0]) == ("1 of 2 texts were truncated" in ran.err)
        rows = [json.loads(line) for line in Path("long.jsonl").read_text().splitlines()]
        assert [row.get("truncated") for row in rows] == expected
        texts = [row["text"] for row in rows]
        shown = headway("embed", tiny, *texts, "--json", *options)
        assert [json.loads(line).get("truncated") for line in shown.out.splitlines()] == expected
        found = headway("search", tiny, texts[0], "--data", "long.txt", "--json", *options)
        assert bool(expected[0]) == ("2 of 3 texts were truncated" in found.err)
        assert [json.loads(line).get("truncated") for line in found.out.splitlines()] == expected
    assert rows[0]["num_tokens"] == Embedder(tiny).measure(texts)[0].num_tokens > 100


def test_texts_are_compared_by_cosine_similarity(headway, tiny):
    vectors = Embedder(tiny).embed(TEXTS[:2])
    ran = headway("embed", tiny, *TEXTS[:2], "--json")
    lines = [json.loads(line) for line in ran.out.splitlines()]
    np.testing.assert_allclose([line["vector"] for line in lines], vectors, atol=1e-6)
    np.testing.assert_allclose([line["similarities"] for line in lines], cosines(vectors, vectors), atol=1e-5)
    shown = headway("embed", tiny, *TEXTS[:2]).out
    assert f"{cosines(vectors, vectors)[0, 1]:.3f}" in shown
    assert len(headway("embed", tiny, TEXTS[0]).out.split()) == 32


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Give either texts"),
        (["a text", "--data", "texts.csv"], "Give either texts"),
        (["--data", "texts.csv"], "--data and --output must be used together"),
        (["a text", "--pooling", "median"], "--pooling median"),
        (["--data", "texts.csv", "--output", "vectors.txt"], "Use one of these suffixes"),
    ],
)
def test_invalid_arguments_are_refused(headway, tiny, texts, arguments, words):
    ran = headway("embed", tiny, *arguments)
    assert ran.code == 2
    assert words in ran.err


def test_search_finds_the_nearest_row_of_a_file(headway, tiny, texts):
    ran = headway("search", tiny, "an awful meal", "--data", texts, "--text", "review", "--top", 2)
    assert ran.code == 0
    assert len(ran.out.splitlines()) == 2
    assert ran.out.splitlines()[0].endswith(" 1.000  an awful meal")
    assert headway("embed", tiny, "--data", texts, "--output", "vectors.npy").code == 0
    assert 'text: column "review" (--text COLUMN' in headway("search", tiny, "a meal", "--data", texts).err
    again = headway("search", tiny, "an awful meal", "--data", texts, "--vectors", "vectors.npy", "--json")
    first = json.loads(again.out.splitlines()[0])
    assert (first["row"], first["id"], first["review"]) == (1, "1", "an awful meal")


def test_columns_named_row_and_score_are_kept_beside_the_result(headway, tiny, folder):
    Path("scored.csv").write_text("text,row,score\na good film,seven,worst\nan awful meal,eight,best\n")
    ran = headway("search", tiny, "an awful meal", "--data", "scored.csv", "--text", "text", "--json")
    first = json.loads(ran.out.splitlines()[0])
    assert (first["row"], first["score"]) == ("eight", "best")
    assert (first["predicted_row"], first["predicted_score"]) == (1, pytest.approx(1.0, abs=1e-5))


def test_words_lists_the_nearest_words(headway, tiny):
    shown = headway("words", tiny, "film", "film - good + bad", "--top", 3).out
    assert "film - good + bad" in shown
    answer = json.loads(headway("words", tiny, "film", "--top", 3, "--json").out)
    assert len(answer["nearest"]) == 3


def test_a_word_is_compared_across_sentences(headway, tiny):
    sentences = ["--in", "a good film", "--in", "such a film"]
    assert "such a [film]" in headway("words", tiny, "film", *sentences).out
    answer = json.loads(headway("words", tiny, "film", *sentences, "--layer", 0, "--json").out)
    assert [place["start"] for place in answer["places"]] == [7, 7]
    assert headway("words", tiny, "film", "good", *sentences).code == 2
    assert headway("words", tiny, "film", "--layer", 0).code == 2


def test_a_model_is_trained_on_few_labels(headway, tiny, reviews):
    arguments = ["--data", reviews, "--model", tiny, "--output", "few", "--few-shot", "--eval-fraction", "0"]
    found = headway("train", "text-classification", *arguments)
    assert "contrastive training" in found.out + found.err
    assert json.loads(headway("predict", "few", "what a good film", "--json").out)["label"] in ("good", "bad")
    assert "--few-shot" in headway("train", "text-classification", "--help").out


def test_a_classifier_on_frozen_features_is_reproducible(headway, tiny, reviews):
    arguments = ["--data", reviews, "--model", tiny, "--output", "frozen", "--frozen"]
    ran = headway("train", "text-classification", *arguments)
    assert ran.code == 0, ran.err
    assert "accuracy" in ran.out
    result = json.loads(headway("evaluate", "frozen", "--data", reviews, "--json").out)
    assert result["metrics"]["accuracy"] > 0.9
    assert json.loads(headway("predict", "frozen", "what a good film", "--json").out)["label"] == "good"
    again = headway("train", "text-classification", "--config", "frozen/run.yaml", "--output", "again")
    assert again.code == 0
    assert Path("again/model.safetensors").read_bytes() == Path("frozen/model.safetensors").read_bytes()


def test_similarity_is_trained_evaluated_and_predicted(headway, tiny, folder):
    rows = [
        {"sentence1": a, "sentence2": b, "score": abs(i - j)} for i, a in enumerate(TEXTS) for j, b in enumerate(TEXTS)
    ]
    Path("pairs.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    learn = ["--max-steps", 2, "--eval-fraction", 0, "--precision", "fp32", "--pooling", "first"]
    trained = headway(
        "train", "sentence-similarity", "--data", "pairs.jsonl", "--model", tiny, "--output", "near", *learn
    )
    assert trained.code == 0, trained.err
    assert "0 becomes a cosine of 0, and 2 a cosine of 1" in trained.out
    metrics = json.loads(headway("evaluate", "near", "--data", "pairs.jsonl", "--json").out)["metrics"]
    assert list(metrics) == ["spearman", "pearson", "loss"]
    answer = json.loads(headway("predict", "near", TEXTS[0], "--pair", TEXTS[1], "--json").out)
    embedder = Embedder("near")
    assert embedder.config.pooling == "cls"  # first is its old name
    assert answer["similarity"] == pytest.approx(embedder.similarity(TEXTS[0], TEXTS[1]), abs=1e-5)


def test_positive_pairs_need_no_scores(headway, tiny, folder):
    Path("pairs.csv").write_text("anchor,positive\n" + "".join(f"{text},what {text}\n" for text in TEXTS))
    arguments = ["--data", "pairs.csv", "--model", tiny, "--output", "near", "--max-steps", 1, "--eval-fraction", 0]
    ran = headway("train", "sentence-similarity", *arguments)
    assert ran.code == 0, ran.err
    assert "each row is a positive pair" in ran.out
    metrics = json.loads(headway("evaluate", "near", "--data", "pairs.csv", "--json").out)["metrics"]
    assert list(metrics) == ["accuracy", "mrr", "loss"]
    assert headway("check", "sentence-similarity", "--data", "pairs.csv").code == 0
