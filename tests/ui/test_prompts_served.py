"""/prompt: saved prompts answer as they do in Python, whatever else is in the request."""

from pathlib import Path

import pytest
from api_client import refused
from fastapi.testclient import TestClient
from headway.core.errors import HeadwayError
from headway.tasks import Prompt, SavedPrompt
from headway.ui.http.api import create_api
from headway.ui.http.prompts import open_prompts
from headway.ui.model_registry import ModelRegistry
from jsonschema_rs import Draft202012Validator

PATH = "/prompt"
TEXTS = ["a lovely film", "{label} of {text}", "", "一部好电影"]
EXAMPLES = "text,label\na fine film,good\ntwo lost hours,bad\nlovely,good\nawful,bad\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two saved prompts: labels after demonstrations, and pairs."""
    made = tmp_path_factory.mktemp("prompts")
    (made / "examples.csv").write_text(EXAMPLES, encoding="utf-8")
    SavedPrompt(Prompt(shots=2, orders=2), "mini-gpt2", str(made / "examples.csv")).save(made / "films.yaml")
    pairs = Prompt(labels=("yes", "no"), template="{text} {label} {pair}")
    SavedPrompt(pairs, "mini-bert").save(made / "pairs.yaml")
    return made


@pytest.fixture(scope="module")
def registry() -> ModelRegistry:
    return ModelRegistry(built_in=False, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def client(registry: ModelRegistry, folder: Path):
    api = create_api(registry, prompts=open_prompts([folder / "films.yaml", folder / "pairs.yaml"], registry))
    yield TestClient(api)
    api.state.serving.close(10)


def test_the_answers_are_those_of_python_one_text_at_a_time(client, folder):
    saved = SavedPrompt.load(folder / "films.yaml")
    model = saved.open("fp32", "cpu")
    expected = [model.predict(text, saved.examples) for text in TEXTS]
    assert len({one.score for one in expected}) == len(TEXTS)
    answer = client.post(PATH, json={"inputs": TEXTS})
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "films"
    for found, one in zip(answer.json()["predictions"], expected, strict=True):
        assert (found["label"], found["dropped_examples"], found["truncated"]) == (one.label, 0, False)
        assert found["scores"] == pytest.approx(one.scores, abs=1e-5)
        assert sum(found["scores"].values()) == pytest.approx(1)


def test_pairs_are_read_and_long_texts_are_said_to_be_truncated(client):
    pair = {"text": "a man sleeps", "pair": "he rests"}
    answer = client.post(PATH, json={"inputs": [pair, {**pair, "pair": "word " * 2000}], "model": "pairs"})
    assert answer.status_code == 200, answer.text
    assert [set(one["scores"]) for one in answer.json()["predictions"]] == [{"yes", "no"}] * 2
    assert [one["truncated"] for one in answer.json()["predictions"]] == [False, True]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 422, "inputs is missing"),
        ({"inputs": []}, 422, "inputs is empty"),
        ({"inputs": [3]}, 422, r"inputs\[0\] is a number"),
        ({"inputs": ["a"], "model": "pairs"}, 422, r'inputs\[0\].*"pair"'),
        ({"inputs": ["a"], "model": "other"}, 404, "There is no prompt 'other'. Available prompts: films, pairs."),
        ({"inputs": ["a"], "stream": True}, 422, "stream"),
    ],
)
def test_what_is_no_request_is_refused(client, body, status, message):
    refused(client.post(PATH, json=body), status, message)


def test_prompts_are_listed_and_described(client):
    assert client.get("/info").json()["prompts"] == ["films", "pairs"]
    described = client.get("/openapi.json").json()["paths"][PATH]["post"]
    schema = Draft202012Validator(described["requestBody"]["content"]["application/json"]["schema"])
    assert schema.is_valid({"inputs": TEXTS, "model": "films"})
    assert not schema.is_valid({"inputs": TEXTS, "model": "other"})
    answer = client.post(PATH, json={"inputs": TEXTS}).json()
    assert Draft202012Validator(described["responses"]["200"]["content"]["application/json"]["schema"]).is_valid(
        answer
    )


def test_a_server_without_prompts_says_how_to_start_one(registry):
    api = create_api(registry)
    refused(TestClient(api).post(PATH, json={"inputs": ["a"]}), 404, r"headway serve FILE.yaml")


def test_what_cannot_be_served_is_refused_at_the_start(registry, folder, tmp_path):
    saved = SavedPrompt.load(folder / "films.yaml")
    SavedPrompt(Prompt(calibration="batch", shots=2), "mini-gpt2", saved.examples).save(tmp_path / "batch.yaml")
    with pytest.raises(HeadwayError, match=r"batch.yaml: batch calibration .* --unlabelled"):
        open_prompts([tmp_path / "batch.yaml"], registry)
    SavedPrompt(Prompt(), "mini-gpt2").save(tmp_path / "bare.yaml")
    with pytest.raises(HeadwayError, match="labels"):
        open_prompts([tmp_path / "bare.yaml"], registry)
    with pytest.raises(HeadwayError, match=r"named films is served already. Rename the file."):
        open_prompts([folder / "films.yaml", folder / "films.yaml"], registry)


def test_the_command_serves_prompts_beside_models(headway, folder, monkeypatch):
    from headway.ui.http import serve

    started = []
    monkeypatch.setattr(serve, "run", lambda registry, *_, prompts: started.append((registry.entries(), prompts)))
    assert headway("serve", folder / "films.yaml", "--device", "cpu").err == ""
    ((entries, prompts),) = started
    assert (entries, [one.name for one in prompts]) == ([], ["films"])
