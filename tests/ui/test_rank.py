"""`headway rank` and /rerank: the same order and scores as in Python, in the formats of two kinds of clients."""

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from headway.tasks import load
from headway.ui.http.api import create_api
from headway.ui.model_registry import ModelRegistry

TEXTS = ["a lovely film", "an awful meal", "what a walk", "a good song"]
QUERY = "a good film"


@pytest.fixture(scope="module")
def client(ranker: Path, trained_once: Path, tiny: Path):
    """A server whose first model cannot rank."""
    api = create_api(ModelRegistry([trained_once, tiny, ranker], built_in=False))
    yield TestClient(api)
    api.state.serving.close(10)


@pytest.fixture(scope="module")
def expected(ranker: Path) -> list[tuple[int, float]]:
    """The index and the score of each text, best first."""
    values = [one.value for one in load(ranker).predict([(QUERY, text) for text in TEXTS])]
    assert max(values) - min(values) > 0.5
    return sorted(enumerate(values), key=lambda pair: -pair[1])


def assert_ranked(found: list[dict], name: str, expected: list[tuple[int, float]]) -> None:
    assert [one["index"] for one in found] == [i for i, _ in expected]
    assert [one[name] for one in found] == pytest.approx([score for _, score in expected], abs=1e-4)


def test_rank_prints_the_best_rows_first(headway, ranker, expected):
    Path("texts.csv").write_text("id,review\n" + "".join(f"{i},{text}\n" for i, text in enumerate(TEXTS)))
    ran = headway("rank", ranker, QUERY, "--data", "texts.csv", "--text", "review", "--top", 2)
    assert ran.code == 0
    assert [line.strip().split("  ")[-1] for line in ran.out.splitlines()] == [TEXTS[i] for i, _ in expected[:2]]
    assert "text: column" not in ran.err  # it was chosen
    ran = headway("rank", ranker, QUERY, "--data", "texts.csv", "--json")
    assert 'text: column "review" (--text COLUMN chooses another)' in ran.err
    lines = ran.out.splitlines()
    found = [json.loads(line) for line in lines]
    assert_ranked([{**one, "index": one["row"]} for one in found], "score", expected)
    assert found[0]["review"] == TEXTS[expected[0][0]]


@pytest.mark.parametrize("options", [[], ["--long-texts", "cut"]])
def test_rank_reads_long_texts_in_windows_or_says_which_are_truncated(headway, ranker, options):
    texts = ["a good film " * 50 + end for end in ("an awful meal", "a lovely walk")] + ["a good film"]
    Path("long.txt").write_text("\n".join(texts) + "\n")
    ran = headway("rank", ranker, QUERY, "--data", "long.txt", "--json", *options)
    found = sorted((json.loads(line) for line in ran.out.splitlines()), key=lambda one: one["row"])
    assert ("2 of 3 texts are too long for the model and were truncated" in ran.err) == bool(options)
    assert ("--long-texts windows" in ran.err) == bool(options)
    assert [one.get("truncated") for one in found] == ([True, True, False] if options else [None] * 3)
    assert (found[0]["score"] == found[1]["score"]) == bool(options)
    assert headway("rank", ranker, QUERY, "--data", "long.txt", "--long-texts", "fold").code == 2


def test_rank_refuses_a_model_without_scores_of_pairs(headway, trained):
    Path("texts.csv").write_text("text\na\n")
    ran = headway("rank", trained, QUERY, "--data", "texts.csv")
    assert ran.code == 2
    assert "cannot rank" in ran.err
    ran = headway("rank", trained, QUERY, "--data", "texts.csv", "--top", 0)
    assert ran.code == 2


def test_texts_are_answered_by_a_list(client, expected):
    body = {"query": QUERY, "texts": TEXTS, "raw_scores": False, "return_text": True, "truncate": True}
    answer = client.post("/rerank", json=body)
    assert answer.status_code == 200, answer.text
    assert_ranked(answer.json(), "score", expected)
    assert [one["text"] for one in answer.json()] == [TEXTS[i] for i, _ in expected]
    assert [one["truncated"] for one in answer.json()] == [False] * len(TEXTS)
    assert all("text" not in one for one in client.post("/rerank", json={"query": QUERY, "texts": TEXTS}).json())


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_documents_are_answered_by_an_object(client, ranker, expected, path):
    documents = [TEXTS[0], *({"text": text} for text in TEXTS[1:])]
    body = {"model": ranker.name, "query": QUERY, "documents": documents, "top_n": 3, "return_documents": True}
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == ranker.name
    assert_ranked(answer.json()["results"], "relevance_score", expected[:3])
    assert all(one["num_tokens"] > 5 and not one["truncated"] for one in answer.json()["results"])
    assert [one["document"]["text"] for one in answer.json()["results"]] == [TEXTS[i] for i, _ in expected[:3]]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"texts": TEXTS}, 422, "query is missing"),
        ({"query": 3, "texts": TEXTS}, 422, "query is a number"),
        ({"query": QUERY}, 422, "texts is missing"),
        ({"query": QUERY, "texts": TEXTS, "documents": TEXTS}, 422, "two names of the same field"),
        ({"query": QUERY, "texts": [{"text": "a"}]}, 422, "texts[0] is an object"),
        ({"query": QUERY, "documents": [{"title": "a"}]}, 422, "documents[0] is an object"),
        ({"query": QUERY, "texts": TEXTS, "top_n": 0}, 422, "top_n is 0"),
        ({"query": QUERY, "texts": TEXTS, "top_n": "3"}, 422, "top_n is a string"),
        ({"query": QUERY, "texts": TEXTS, "top_k": 3}, 422, "no field 'top_k'"),
        ({"query": QUERY, "texts": TEXTS, "return_text": 1}, 422, "return_text is a number"),
        ({"query": QUERY, "texts": TEXTS, "model": "nothing"}, 404, "no model 'nothing'"),
    ],
)
def test_invalid_bodies_are_refused(client, body, status, words):
    answer = client.post("/rerank", json=body)
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


def test_a_model_that_cannot_rank_is_refused_by_name(client, trained_once, tiny):
    for folder, words in ((trained_once, "cannot rank"), (tiny, "no task head")):
        answer = client.post("/rerank", json={"query": QUERY, "texts": TEXTS, "model": folder.name})
        assert answer.status_code == 422, answer.text
        assert words in answer.json()["error"]["message"]


def test_a_server_without_a_model_that_ranks_says_so(make_client):
    answer = make_client().post("/rerank", json={"query": QUERY, "texts": TEXTS})
    assert answer.status_code == 404
    assert "no model that scores pairs" in answer.json()["error"]["message"]


def test_the_description_has_an_example_that_works(client):
    described = client.get("/openapi.json").json()["paths"]["/rerank"]["post"]
    answer = client.post("/rerank", json=described["requestBody"]["content"]["application/json"]["example"])
    assert answer.status_code == 200


def test_the_description_of_a_server_without_a_model_that_ranks_names_no_model(make_client, trained_once):
    client = make_client()
    schema = client.get("/openapi.json").json()["paths"]["/rerank"]["post"]["requestBody"]["content"]
    assert schema["application/json"]["schema"]["properties"]["model"]["enum"] == [None]
    answer = client.post("/rerank", json={"query": QUERY, "texts": TEXTS, "model": None})
    assert answer.status_code == 404
