"""The HTTP API: every endpoint and status, the same answers as in Python, and hostile requests."""

import asyncio
import base64
import json
import logging
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from headway.core.errors import HeadwayError
from headway.core.generation.generation import generate
from headway.core.generation.generation_config import GenerationConfig
from headway.tasks import TASKS, Embedder, load
from headway.tasks.base.model import TaskModel
from headway.tasks.language_modeling.loading import load_language_model
from headway.ui.cli import main
from headway.ui.http.api import create_api
from headway.ui.http.middleware import Limits
from headway.ui.model_registry import Entry, ModelRegistry, NoSuchModel, describe
from prometheus_client.parser import text_string_to_metric_families
from tiny_gpt2 import make_gpt2

SAMPLES = Path(__file__).parents[2] / "tasks/samples"
TEXTS = ["a lovely film", "such a dull walk 🙂", "", "it was a fine meal " * 20, "\x00\x01 null", "\ud83d half a pair"]
CONTEXT = "Ada Lovelace lived in London"
# For each task the data of one training step, and inputs to predict.
TRAINING: dict[str, tuple[str, list[Any]]] = {
    "token-classification": ("entities.conll", [CONTEXT, CONTEXT.split(), {"text": "🙂 in London"}, ""]),
    "question-answering": (
        "questions.json",
        [{"question": "who?", "context": CONTEXT}, {"question": "", "context": "\ud83d"}],
    ),
    "sentence-similarity": ("scores.csv", [{"text": "a film", "pair": "a song"}, {"text": "", "pair": "🙂"}]),
    "fill-mask": ("corpus.txt", ["a [MASK] film", "nothing is masked"]),
    "text-generation": ("corpus.txt", ["a lovely", "🙂"]),
}
FEW_STEPS = ("--max-steps", 1, "--eval-fraction", 0, "--precision", "fp32", "--device", "cpu")
GENERATED = {"max_new_tokens": 8, "temperature": 1.0, "seed": 3}


@pytest.fixture(scope="module")
def gpt2(byte_level_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "writer"
    folder.mkdir()
    return make_gpt2(byte_level_folder, folder)


@pytest.fixture(scope="module")
def folders(tiny: Path, trained_once: Path, gpt2: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model for every task."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "corpus.txt").write_text("what a lovely film, such a great song\n" * 40)
    (folder / "scores.csv").write_text("text,pair,score\na film,a song,0.5\na film,a film,1\n")
    made = {"text-classification": trained_once}
    for task, (data, _) in TRAINING.items():
        data = folder / data if (folder / data).exists() else SAMPLES / data
        model, output = gpt2 if task == "text-generation" else tiny, folder / task
        command = ["train", task, "--data", data, "--model", model, "--output", output, *FEW_STEPS]
        assert main([str(part) for part in command]) == 0
        made[task] = output
    return made


@pytest.fixture(scope="module")
def api(folders: dict[str, Path], tiny: Path, gpt2: Path) -> Iterator[FastAPI]:
    """The API with all models; the first one, the default, classifies reviews as good or bad."""
    made = create_api(ModelRegistry([*folders.values(), tiny, gpt2], built_in=False, max_open=20))
    yield made
    made.state.serving.close(10)


@pytest.fixture(scope="module")
def client(api: FastAPI) -> TestClient:
    return TestClient(api)


@pytest.fixture
def small(trained_once: Path, gpt2: Path) -> Iterator[Callable[..., TestClient]]:
    """Creates a separate API: `small(key="...", timeout=1)`."""
    made: list[FastAPI] = []

    def make(key: str | None = None, folders: tuple[Path, ...] = (trained_once, gpt2), **limits: Any) -> TestClient:
        made.append(create_api(ModelRegistry(folders, built_in=False), key=key, limits=Limits(**limits)))
        return TestClient(made[-1], raise_server_exceptions=False)

    yield make
    for api in made:
        api.state.serving.close(10)


def sent(body: Any) -> dict[str, Any]:
    """A body as JSON in ASCII, the only way to send an unpaired surrogate."""
    return {"content": json.dumps(body).encode(), "headers": {"Content-Type": "application/json"}}


def refused(response: Any, status: int, message: str = "") -> str:
    """Asserts that a response is an error in the API's format; returns its message."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    (error,) = response.json().values()
    assert set(error) == {"message", "type", "param", "code"}
    assert re.search(message, error["message"]), error["message"]
    assert error["message"].endswith((".", "?"))
    return error["message"]


def same(found: Any, expected: Any) -> bool:
    """Whether two answers are equal up to the rounding of sums in a batch."""
    if isinstance(expected, float):
        return found == pytest.approx(expected, abs=1e-5)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[name], expected[name]) for name in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(same, found, expected))
    return found == expected


# Answers.


@pytest.mark.parametrize("task", list(TASKS))
def test_every_task_gives_the_same_predictions_as_in_python(client, folders, task):
    asked = TRAINING[task][1] if task in TRAINING else TEXTS
    model = load(folders[task])
    response = client.post("/predict", **sent({"model": folders[task].name, "inputs": asked}))
    assert response.status_code == 200, response.text
    said = response.json()
    assert (said["model"], said["task"]) == (folders[task].name, task)
    expected = [json.loads(json.dumps(prediction.to_json())) for prediction in model.predict(asked)]
    assert same(said["predictions"], expected)


def test_without_a_name_the_first_suitable_model_answers(client, trained_once, gpt2):
    first = client.post("/predict", json={"inputs": ["a good film"]}).json()
    assert first["model"] == trained_once.name
    assert first["predictions"][0]["label"] == "good"
    assert client.post("/generate", json={"prompt": "a", "max_new_tokens": 1}).json()["model"] != trained_once.name


def test_a_replaced_run_is_opened_again_and_a_removed_one_is_unknown(folders, tmp_path):
    run = tmp_path / "runs" / "mine"
    api = create_api(ModelRegistry(runs=tmp_path / "runs", built_in=False))
    client = TestClient(api)
    refused(client.post("/predict", json={"inputs": ["a"]}), 404, "no model that can predict")
    for task in ("text-classification", "question-answering"):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(folders[task], run)
        asked = TRAINING[task][1][0] if task in TRAINING else "a film"
        said = client.post("/predict", json={"inputs": [asked]}).json()
        assert (said["model"], said["task"], len(said["predictions"])) == ("mine", task, 1)
    shutil.rmtree(run)
    refused(client.post("/predict", json={"inputs": ["a"], "model": "mine"}), 404, "no model 'mine'")
    api.state.serving.close(10)


def test_a_damaged_run_is_not_listed_and_its_path_is_not_revealed(trained_once, tmp_path, monkeypatch, capfd):
    runs = tmp_path / "runs"
    info = "headway.json"
    damages = {"config": ("config.json", "{"), "info": (info, "{"), "task": (info, '{"task": "unheard-of"}')}
    for name in ("good", "gone", *damages):
        shutil.copytree(trained_once, runs / name)
    for name, (file, content) in damages.items():
        (runs / name / file).write_text(content)

    def described(name: str, folder: Path) -> Entry:
        if name == "gone":
            shutil.rmtree(folder, ignore_errors=True)  # removed by another process after it was found
        return describe(name, folder)

    monkeypatch.setattr("headway.ui.model_registry.describe", described)
    registry = ModelRegistry(runs=runs, built_in=False)
    client = TestClient(create_api(registry))
    for _ in range(2):
        assert [model["name"] for model in client.get("/info").json()["models"]] == ["good"]
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["good"]
        assert client.post("/predict", json={"inputs": ["a"]}).json()["model"] == "good"
    for name in damages:
        said = refused(client.post("/predict", json={"inputs": ["a"], "model": name}), 404, f"no model '{name}'")
        assert str(tmp_path) not in said
    warnings = capfd.readouterr().err.splitlines()
    assert sorted(line.split("/runs/")[1].split("/")[0] for line in warnings) == sorted(damages)
    assert all(line.startswith("headway: ") for line in warnings)
    assert all(" is not listed until then." in line for line in warnings)
    client.app.state.serving.close(10)

    (runs / "good" / "model.safetensors").write_bytes(b"")
    with pytest.raises(HeadwayError, match=r"^good/model\.safetensors") as error:
        ModelRegistry(runs=runs, built_in=False).task_model("good")
    assert str(tmp_path) not in str(error.value)


def test_a_removed_model_is_not_listed(trained_once, tmp_path, monkeypatch):
    registry = ModelRegistry([trained_once], built_in=False)
    (here,) = registry.entries()
    monkeypatch.setattr(registry, "entries", lambda: [here, Entry("gone", tmp_path / "gone", "bert", None)])
    client = TestClient(create_api(registry))
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == [here.name]
    with pytest.raises(NoSuchModel, match="does not exist any more"):
        registry.embedder("gone")


def test_the_hub_is_asked_once_per_model_and_its_errors_contain_no_path(trained_once, monkeypatch):
    asked = []

    def found(name: str) -> Path:
        asked.append(name)
        if name == "someone/broken":
            raise HeadwayError("/home/me/.cache/models--x/config.json says 't5'. See https://hub.example/x/y for it.")
        return trained_once

    monkeypatch.setattr("headway.core.checkpoints.hub.find_folder", found)
    registry = ModelRegistry(built_in=False, hub=True)
    for _ in range(3):
        assert registry.find("someone/model").folder == trained_once
    assert asked == ["someone/model"]
    with pytest.raises(HeadwayError, match=r"^config\.json says 't5'\. See https://hub\.example/x/y for it\.$"):
        registry.find("someone/broken")
    with pytest.raises(HeadwayError, match="no model"):
        registry.find("x" * 300 + "?")
    assert registry.find("x" * 300).folder == trained_once  # too long for a path


def test_embed_gives_the_vectors_of_the_embedder(client, tiny):
    expected = Embedder(tiny).embed(TEXTS)
    said = client.post("/embed", **sent({"model": tiny.name, "texts": TEXTS})).json()
    assert (said["model"], said["size"]) == (tiny.name, expected.shape[1])
    assert np.allclose(np.float32(said["vectors"]), expected, atol=1e-6)


def test_openai_clients_get_vectors_as_floats_and_as_base64(client, tiny):
    expected = Embedder(tiny).embed(TEXTS)
    body = {"model": tiny.name, "input": TEXTS, "user": "a user", "dimensions": expected.shape[1]}
    said = client.post("/v1/embeddings", **sent(body)).json()
    assert (said["object"], said["model"]) == ("list", tiny.name)
    assert [(one["object"], one["index"]) for one in said["data"]] == [("embedding", i) for i in range(len(TEXTS))]
    assert np.allclose(np.float32([one["embedding"] for one in said["data"]]), expected, atol=1e-6)
    tokens = sum(map(len, Embedder(tiny).tokenizer.encode_ids(TEXTS)))
    assert said["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    packed = client.post("/v1/embeddings", **sent({**body, "encoding_format": "base64"})).json()
    for one, vector in zip(packed["data"], said["data"], strict=True):
        numbers = np.frombuffer(base64.b64decode(one["embedding"]), dtype="<f4")
        assert np.allclose(numbers, vector["embedding"], atol=1e-6)
    alone = client.post("/v1/embeddings", json={"model": tiny.name, "input": TEXTS[0]}).json()
    assert np.allclose(alone["data"][0]["embedding"], expected[0], atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        GENERATED,
        {**GENERATED, "samples": 3},
        {"beams": 3, "samples": 2},
        {"num_beams": 3, "num_return_sequences": 2},
        {"stop": ["e"]},
        {"stop": " "},
    ],
    ids=lambda options: " ".join(options),
)
def test_generate_gives_the_same_texts_as_in_python(client, gpt2, options):
    given = {"max_new_tokens": 8, **options}
    said = client.post("/generate", json={"model": gpt2.name, "prompt": "the cat", **given}).json()
    stop = (given["stop"],) if isinstance(given.get("stop"), str) else tuple(given.get("stop", ()))
    (expected,) = generate(*load_language_model(gpt2), ["the cat"], GenerationConfig(**{**given, "stop": stop}))
    assert (said["model"], said["prompt"]) == (gpt2.name, "the cat")
    assert [one["text"] for one in said["texts"]] == [one.text for one in expected]
    assert [tuple(one["token_ids"]) for one in said["texts"]] == [one.token_ids for one in expected]
    assert [one["finish_reason"] for one in said["texts"]] == [one.finish_reason for one in expected]


def events(lines: Iterator[str]) -> list[str]:
    return [line.removeprefix("data: ") for line in lines if line]


def test_a_stream_sends_the_same_texts_in_pieces(client, gpt2):
    body = {"model": gpt2.name, "prompt": "the cat", **GENERATED, "samples": 2}
    whole = client.post("/generate", json=body).json()["texts"]
    with client.stream("POST", "/generate", json={**body, "stream": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        *said, last = events(response.iter_lines())
    assert last == "[DONE]"
    found = [json.loads(one) for one in said]
    for sample, text in enumerate(whole):
        own = [one for one in found if one["sample"] == sample]
        assert "".join(one.get("piece", "") for one in own) == text["text"]
        assert own[-1]["token_ids"] == text["token_ids"]


def test_concurrent_requests_share_batches_and_get_their_own_answers(trained_once):
    registry = ModelRegistry([trained_once], built_in=False)
    api, model = create_api(registry), load(trained_once)
    texts = [f"a {word} film" + " it was" * (i % 5) for i in range(30) for word in ("good", "awful")]

    async def run() -> list[Any]:
        return await asyncio.gather(*(call(api, "/predict", {"inputs": [text]}) for text in texts))

    answers = asyncio.run(run())
    api.state.serving.close(10)
    assert [status for status, _ in answers] == [200] * len(texts)
    expected = [prediction.to_json() for prediction in model.predict(texts)]
    assert same([said["predictions"][0] for _, said in answers], expected)
    metrics = served_metrics(api)
    labels = {"use": "predict", "model": registry.entries()[0].name}
    assert metric(metrics, "headway_batch_texts_sum", **labels) == len(texts)
    count = metric(metrics, "headway_batch_texts_count", **labels)
    assert count is not None
    assert 0 < count < len(texts) / 2


# Information about the server.


def samples_of(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The samples in the text format of Prometheus, by name and labels."""
    families = text_string_to_metric_families(text)
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def served_metrics(api: FastAPI) -> str:
    return api.state.serving.metrics.render().decode()


def metric(text: str, name: str, **labels: str) -> float | None:
    return samples_of(text).get((name, frozenset(labels.items())))


def test_info_lists_models_tasks_limits_and_versions(client, folders, gpt2, tiny):
    assert client.get("/health").json() == {"status": "ok"}
    info = client.get("/info").json()
    tasks = {one["name"]: one["task"] for one in info["models"]}
    assert tasks == {**{folder.name: task for task, folder in folders.items()}, tiny.name: None} | {
        gpt2.name: tasks[gpt2.name]
    }
    assert info["tasks"] == {name: task.title for name, task in TASKS.items()}
    assert info["limits"]["max_texts"] == Limits().max_texts
    assert {"headway", "torch"} <= info["versions"].keys()
    models = client.get("/v1/models").json()
    assert models["object"] == "list"
    assert [one["id"] for one in models["data"]] == list(tasks)


def test_metrics_count_requests_batches_tokens_and_queues(small):
    client = small()
    for _ in range(3):
        client.post("/predict", json={"inputs": ["a film", "a song"]})
    client.post("/generate", json={"prompt": "a", "max_new_tokens": 4})
    client.get("/nothing/here")
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = response.text
    model = {"use": "predict", "model": "model"}
    assert metric(text, "headway_requests_total", path="/predict", status="200") == 3
    assert metric(text, "headway_requests_total", path="other", status="404") == 1
    assert metric(text, "headway_request_seconds_count", path="/predict") == 3
    assert metric(text, "headway_request_seconds_bucket", path="/predict", le="+Inf") == 3
    assert metric(text, "headway_batch_texts_sum", **model) == 6
    assert metric(text, "headway_queue_requests", **model) == 0
    assert metric(text, "headway_tokens_total", use="generate", model="writer") == 4
    assert {name for name, _ in samples_of(text)} == {
        "headway_requests_total",
        "headway_tokens_total",
        "headway_queue_requests",
        *(
            f"headway_{name}_{kind}"
            for name in ("request_seconds", "batch_texts")
            for kind in ("bucket", "sum", "count")
        ),
    }
    types = {family.name: family.type for family in text_string_to_metric_families(text)}
    assert types == {
        "headway_requests": "counter",
        "headway_tokens": "counter",
        "headway_request_seconds": "histogram",
        "headway_batch_texts": "histogram",
        "headway_queue_requests": "gauge",
    }


def test_the_openapi_schema_has_every_path_and_the_fields_of_every_task(client):
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {
        "/predict",
        "/embed",
        "/v1/embeddings",
        "/v1/models",
        "/generate",
        "/health",
        "/info",
        "/metrics",
    }
    body = json.dumps(schema["paths"]["/predict"]["post"]["requestBody"])
    assert all(f'"{field.name}"' in body for task in TASKS.values() for field in task.inputs)
    for path in ("/predict", "/embed", "/v1/embeddings", "/generate"):
        content = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        response = client.post(path, json=content["example"])
        assert response.status_code == 200, response.text


def test_the_docs_page_loads_nothing_and_its_policy_allows_no_other_script(client):
    response = client.get("/docs")
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert re.search(r"""src=|href="|@import|url\(|https?://(?!json)""", response.text.split('id="data"')[0]) is None
    assert response.text.count("<script") == 2


@pytest.mark.parametrize("how", ["mounted", "behind a proxy"])
def test_the_api_works_under_a_prefix(trained_once, how):
    api = create_api(ModelRegistry([trained_once], built_in=False), key="secret")
    locked = {"headers": {"Authorization": "Bearer secret"}}
    if how == "mounted":
        whole = FastAPI()
        whole.mount("/api", api)
        client, prefix = TestClient(whole), "/api"
    else:
        client, prefix = TestClient(api, root_path="/models"), "/models"
    assert client.get(f"{prefix}/health").status_code == 200
    assert client.post(f"{prefix}/predict", json={"inputs": ["a film"]}, **locked).status_code == 200
    refused(client.get(f"{prefix}/info"), 401)
    refused(client.get(f"{prefix}/nothing", **locked), 404, r"no GET /nothing\. GET /docs")
    assert client.get(f"{prefix}/openapi.json", **locked).json()["servers"] == [{"url": prefix}]
    text = client.get(f"{prefix}/metrics", **locked).text
    assert metric(text, "headway_requests_total", path="/predict", status="200") == 1
    api.state.serving.close(10)


# Refusals.


INPUTS = "inputs"
HOSTILE = {
    "nothing": (b"", 422, "not valid JSON"),
    "no JSON": (b"text=a film", 422, r"line 1, column 1.*Correct it there"),
    "cut": (b'{"inputs": ["a', 422, "not valid JSON"),
    "no object": (b'["a film"]', 422, r"is a list; it must be an object"),
    "null": (b"null", 422, "is null"),
    "deep": (b'{"inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 422, "nested too deeply"),
    "deep objects": (b'{"inputs":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, 422, "nested too deeply"),
    "NaN": (b'{"inputs": [NaN]}', 422, "NaN"),
    "infinite": (b'{"inputs": [-Infinity]}', 422, "-Infinity"),
    "many digits": (b'{"inputs": [' + b"9" * 5000 + b"]}", 422, "too many digits"),
    "no UTF-8": (b'{"inputs": ["\xff\xfe"]}', 422, "not valid UTF-8"),
    "no inputs": (b"{}", 422, r"inputs is missing\. Send it as in"),
    "unknown": (b'{"inputs": ["a"], "modle": "x"}', 422, r"/predict has no field 'modle'.*model, inputs"),
    "one text": (b'{"inputs": "a film"}', 422, "inputs is a string; it must be a list"),
    "no text": (b'{"inputs": []}', 422, "inputs is empty"),
    "a number": (b'{"inputs": ["a", 1]}', 422, r"inputs\[1\] is a number; the model reads a string, or an object"),
    "true": (b'{"inputs": [true]}', 422, r"inputs\[0\] is a boolean"),
    "a null": (b'{"inputs": [null]}', 422, r"inputs\[0\] is null"),
    "a list": (b'{"inputs": [["a"]]}', 422, r"inputs\[0\] is a list"),
    "another text": (b'{"inputs": [{"txt": "a"}]}', 422, r"inputs\[0\] has 'txt'"),
    "an empty object": (b'{"inputs": [{}]}', 422, r"inputs\[0\] has no text"),
    "a text that is not a string": (b'{"inputs": [{"text": 1}]}', 422, r"inputs\[0\]\.text is a number"),
    "a null text": (b'{"inputs": [{"text": null}]}', 422, r"inputs\[0\]\.text is null"),
    "a model that is not a string": (b'{"inputs": ["a"], "model": 1}', 422, "model is a number"),
    "no such model": (b'{"inputs": ["a"], "model": "x"}', 404, r"no model 'x'\. Available models: model"),
    "a path": (b'{"inputs": ["a"], "model": "../model"}', 404, "There is no model"),
    "a whole path": (b'{"inputs": ["a"], "model": "/etc/passwd"}', 404, "There is no model"),
    "NUL in a name": (b'{"inputs": ["a"], "model": "model\\u0000"}', 404, "There is no model"),
    "unpaired surrogate in a name": (b'{"inputs": ["a"], "model": "\\ud800"}', 404, "There is no model"),
    "too many texts": (json.dumps({"inputs": ["a"] * 257}).encode(), 413, "257 texts.*Send several requests"),
    "a long text": (json.dumps({"inputs": ["a" * 100_001]}).encode(), 413, "100,001 characters.*Split the text"),
    "a large body": (json.dumps({"inputs": ["a" * 90_000] * 30}).encode(), 413, "exceeds 2 megabytes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_is_refused_with_a_sentence_and_the_server_continues(client, name):
    body, status, message = HOSTILE[name]
    refused(client.post("/predict", content=body, headers={"Content-Type": "application/json"}), status, message)
    assert client.post("/predict", json={"inputs": ["a film"]}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/embed", {"texts": [1]}, 422, r"texts\[0\] is a number"),
        ("/embed", {"input": ["a"]}, 422, "/embed has no field 'input'"),
        ("/v1/embeddings", {"input": [[1, 2]]}, 422, "token ids.*Send texts"),
        ("/v1/embeddings", {"input": [1, 2]}, 422, "token ids"),
        ("/v1/embeddings", {"input": []}, 422, "input is empty"),
        ("/v1/embeddings", {"input": None}, 422, "input is null"),
        ("/v1/embeddings", {"model": "a"}, 422, "input is missing"),
        ("/v1/embeddings", {"input": "a", "encoding_format": "int8"}, 422, "'int8'; it must be float or base64"),
        ("/v1/embeddings", {"input": "a", "dimensions": 3}, 422, "dimensions is 3; the model's vectors have 32"),
        ("/v1/embeddings", {"input": "a", "dimensions": "3"}, 422, "dimensions is a string"),
        ("/v1/embeddings", {"input": "a", "model": "text-embedding-3-small"}, 404, "Available models: "),
        ("/generate", {"prompt": 1}, 422, "prompt is a number"),
        ("/generate", {"prompt": "a", "max_tokens": 1}, 422, "/generate has no field 'max_tokens'.*max_new_tokens"),
        ("/generate", {"prompt": "a", "temperature": "hot"}, 422, "temperature='hot'"),
        ("/generate", {"prompt": "a", "max_new_tokens": 10**9}, 422, "the server's limit is 1,024"),
        ("/generate", {"prompt": "a", "samples": 10**9}, 422, "limit is 8"),
        ("/generate", {"prompt": "a", "beams": 9}, 422, "^beams is 9; the server's limit is 8"),
        ("/generate", {"prompt": "a", "num_beams": 9}, 422, "^num_beams is 9; the server's limit is 8"),
        ("/generate", {"prompt": "a", "beams": 2, "stream": True}, 422, "Remove stream or beams"),
        ("/generate", {"prompt": "a", "stream": "yes"}, 422, "stream is a string; it must be true or false"),
        ("/generate", {"prompt": "a", "stop": [1]}, 422, "stop"),
        ("/generate", {"prompt": "a", "stop": [[]]}, 422, "stop"),
        ("/generate", {"prompt": "a", "context": []}, 422, "context"),
        ("/generate", {"prompt": "a" * 5000}, 422, "the model's context holds"),
        ("/generate", {"prompt": "a" * 5000, "stream": True}, 422, "the model's context holds"),
        ("/generate", {"prompt": "a", "model": "model"}, 422, "is a BERT model.*choose a GPT-2"),
    ],
)
def test_each_path_refuses_a_body_that_it_cannot_answer(client, path, body, status, message):
    refused(client.post(path, json=body), status, message)


def test_predict_with_a_model_without_a_head_suggests_embed(client, tiny):
    response = client.post("/predict", json={"model": tiny.name, "inputs": ["a"]})
    refused(response, 422, "has no task head; use /embed")


def test_a_missing_field_is_named_with_all_fields_of_the_model(client, folders):
    name = folders["question-answering"].name
    response = client.post("/predict", json={"model": name, "inputs": ["who?"]})
    refused(response, 422, r'inputs\[0\] has no context; the model reads an object \{"question": "...", "context"')


def test_unknown_paths_methods_and_types_are_errors_in_the_same_format(client):
    refused(client.get("/nothing"), 404, r"no GET /nothing\. GET /docs lists")
    response = client.get("/predict")
    refused(response, 405, "no GET /predict")
    assert response.headers["allow"] == "POST"
    refused(client.post("/predict", content=b'{"inputs": ["a"]}', headers={"Content-Type": "text/plain"}), 415)


def test_a_bad_text_among_good_ones_fails_alone(trained_once, monkeypatch):
    predict = TaskModel.predict

    def refuses(model: TaskModel, inputs: list[Any]) -> Any:
        if any("bad" in one["text"] for one in inputs):
            raise HeadwayError("input 1: it is bad. Remove it.")
        if any("broken" in one["text"] for one in inputs):
            raise ZeroDivisionError("internal")
        return predict(model, inputs)

    monkeypatch.setattr(TaskModel, "predict", refuses)
    api = create_api(ModelRegistry([trained_once], built_in=False))

    async def run() -> list[Any]:
        bodies = [["a film"], ["a song", "bad"], ["a walk"], ["a meal"] * 3]
        return await asyncio.gather(*(call(api, "/predict", {"inputs": body}) for body in bodies))

    answers = asyncio.run(run())
    assert [status for status, _ in answers] == [200, 422, 200, 200]
    assert answers[1][1]["error"]["message"] == "inputs[1]: it is bad. Remove it."
    with pytest.raises(ZeroDivisionError, match="internal"):  # raised on for the log
        TestClient(api).post("/predict", json={"inputs": ["broken"]})
    response = TestClient(api, raise_server_exceptions=False).post("/predict", json={"inputs": ["broken"]})
    assert "internal" not in refused(response, 500, "log has the details")
    api.state.serving.close(10)


def test_a_model_that_cannot_be_opened_is_a_server_error_without_its_path(small, trained_once, tmp_path):
    broken = Path(shutil.copytree(trained_once, tmp_path / "broken"))
    client = small(folders=(broken,))
    (broken / "model.safetensors").write_bytes(b"")
    assert str(broken) not in refused(client.post("/predict", json={"inputs": ["a"]}), 500)


def test_every_path_but_health_requires_the_key(small):
    client = small(key="s3cret ключ")
    assert client.get("/health").status_code == 200
    for path in ("/info", "/metrics", "/docs", "/openapi.json", "/v1/models", "/nothing", "/health/"):
        refused(client.get(path, follow_redirects=False), 401, "Authorization: Bearer KEY")
    for given in ("", "Bearer", "Bearer wrong", "s3cret ключ", "Basic s3cret ключ", "Bearer s3cret ключ and more"):
        response = client.post("/predict", json={"inputs": ["a"]}, headers={"Authorization": given.encode()})
        refused(response, 401)
        assert response.headers["www-authenticate"] == "Bearer"
    for given in ("Bearer s3cret ключ", "bearer s3cret ключ"):
        response = client.post("/predict", json={"inputs": ["a"]}, headers={"Authorization": given.encode()})
        assert response.status_code == 200
    key_from_a_file = small(key="secret\n")
    assert key_from_a_file.get("/info", headers={"Authorization": "Bearer secret"}).status_code == 200
    assert "securitySchemes" in client.get("/openapi.json", headers={"Authorization": given.encode()}).text
    with pytest.raises(HeadwayError, match="empty"):
        small(key=" ")


@pytest.mark.parametrize("limit", [{"timeout": 0}, {"max_texts": -1}, {"max_body": float("nan")}])
def test_a_limit_must_be_positive_and_finite(limit):
    with pytest.raises(HeadwayError, match="must be above 0"):
        Limits(**limit)


# Queues, timeouts and disconnects.


async def call(
    api: FastAPI, path: str, body: Any, *, disconnect: asyncio.Event | None = None, sent: list[Any] | None = None
) -> tuple[int | None, dict[str, Any]]:
    """Sends a request in this event loop.

    Args:
        api: the application.
        path: path of the request.
        body: body of the request, as JSON types.
        disconnect: the client disconnects when it is set.
        sent: receives the ASGI messages of the response.

    Returns:
        The status and the content of the response.
    """
    parts = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]
    sent = [] if sent is None else sent

    async def receive() -> Any:
        if parts:
            return parts.pop()
        await (disconnect or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    await api(scope, receive, send)
    status = next((message["status"] for message in sent if "status" in message), None)
    content = b"".join(message.get("body", b"") for message in sent)
    return status, json.loads(content) if content.startswith(b"{") else {"text": content.decode()}


class Slow:
    """Predictions that wait until `go` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.begun, self.asked = threading.Event(), threading.Event(), []
        predict = TaskModel.predict

        def waits(model: TaskModel, inputs: list[Any]) -> Any:
            self.asked += [one["text"] for one in inputs]
            self.begun.set()
            assert self.go.wait(20)
            return predict(model, inputs)

        monkeypatch.setattr(TaskModel, "predict", waits)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    return Slow(monkeypatch)


def one_model(folder: Path, **limits: Any) -> FastAPI:
    return create_api(ModelRegistry([folder], built_in=False), limits=Limits(**limits))


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the condition did not become true")


def test_a_full_queue_refuses_requests_and_a_disconnected_client_frees_its_place(trained_once, slow):
    api = one_model(trained_once, max_queue=2)

    def waiting() -> int:
        return sum(count for _, count in api.state.serving._queue_sizes())

    async def run() -> None:
        disconnect = asyncio.Event()
        first = asyncio.ensure_future(call(api, "/predict", {"inputs": ["first"]}))
        await until(slow.begun.is_set)
        second = asyncio.ensure_future(call(api, "/predict", {"inputs": ["second"]}))
        gone = asyncio.ensure_future(call(api, "/predict", {"inputs": ["gone"]}, disconnect=disconnect))
        await until(lambda: waiting() == 2)
        status, said = await call(api, "/predict", {"inputs": ["too many"]})
        assert (status, said["error"]["type"]) == (429, "rate_limit_error")
        disconnect.set()
        assert await gone == (499, {"text": ""})
        assert waiting() == 1
        third = asyncio.ensure_future(call(api, "/predict", {"inputs": ["third"]}))
        await until(lambda: waiting() == 2)
        slow.go.set()
        assert [status for status, _ in await asyncio.gather(first, second, third)] == [200] * 3
        assert slow.asked == ["first", "second", "third"]

    asyncio.run(run())
    metrics = served_metrics(api)
    for status in ("429", "499"):
        assert metric(metrics, "headway_requests_total", path="/predict", status=status) == 1
    api.state.serving.close(10)


def test_a_timeout_is_a_503_with_retry_after(small, slow):
    client = small(max_queue=1, timeout=0.2)
    response = client.post("/predict", json={"inputs": ["a"]})
    refused(response, 503, r"No answer within 0\.2 seconds")
    assert int(response.headers["retry-after"]) > 0
    slow.go.set()


def test_a_request_that_times_out_in_the_queue_is_not_computed(trained_once, slow):
    api = one_model(trained_once, timeout=0.3)

    async def run() -> None:
        first = asyncio.ensure_future(call(api, "/predict", {"inputs": ["first"]}))
        await until(slow.begun.is_set)
        late = asyncio.ensure_future(call(api, "/predict", {"inputs": ["late"]}))
        assert [status for status, _ in await asyncio.gather(first, late)] == [503, 503]
        slow.go.set()
        status, _ = await call(api, "/predict", {"inputs": ["next"]})
        assert status == 200
        assert slow.asked == ["first", "next"]

    asyncio.run(run())
    api.state.serving.close(10)


def test_closing_finishes_accepted_requests_and_refuses_new_ones(trained_once, slow):
    api = one_model(trained_once)

    async def run() -> None:
        accepted = [asyncio.ensure_future(call(api, "/predict", {"inputs": ["first"]}))]
        await until(slow.begun.is_set)
        accepted += [asyncio.ensure_future(call(api, "/predict", {"inputs": [f"text {i}"]})) for i in range(4)]
        await until(lambda: sum(count for _, count in api.state.serving._queue_sizes()) == 4)
        closing = asyncio.ensure_future(asyncio.to_thread(api.state.serving.close, 20))
        await until(lambda: api.state.serving.closed)
        status, said = await call(api, "/predict", {"inputs": ["late"]})
        assert (status, said["error"]["type"]) == (503, "unavailable_error")
        assert TestClient(api).get("/health").status_code == 503
        slow.go.set()
        assert [status for status, _ in await asyncio.gather(*accepted)] == [200] * 5
        await closing

    asyncio.run(run())


def test_the_lifespan_of_the_application_stops_its_threads(trained_once):
    api = one_model(trained_once)
    before = threading.active_count()
    with TestClient(api) as client:
        assert client.post("/predict", json={"inputs": ["a"]}).status_code == 200
    assert api.state.serving.closed
    assert threading.active_count() <= before + 1  # asyncio's own pool may keep one


def test_a_client_that_disconnects_from_a_stream_ends_the_generation(gpt2):
    api = create_api(ModelRegistry([gpt2], built_in=False))
    body = {"prompt": "a", "max_new_tokens": 1024, "context": "slide", "stream": True, "temperature": 1.0}

    async def run() -> None:
        disconnect = asyncio.Event()
        sent: list[Any] = []
        request = asyncio.ensure_future(call(api, "/generate", body, disconnect=disconnect, sent=sent))
        await until(lambda: len(sent) > 2)  # the head and two pieces
        disconnect.set()
        status, said = await request
        assert status == 200
        assert "[DONE]" not in said["text"]

    asyncio.run(run())
    began = time.monotonic()
    api.state.serving.close(20)
    assert time.monotonic() - began < 1  # no generation was left
    assert metric(served_metrics(api), "headway_tokens_total", use="generate", model=gpt2.name) is None


# Over a socket.


@contextmanager
def server(api: FastAPI) -> Iterator[int]:
    """Runs a server in a thread of this process; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(api, log_level="error", access_log=False))
    thread = threading.Thread(target=running.run, args=([listener],))
    thread.start()
    try:
        while not running.started:
            time.sleep(0.01)
        yield listener.getsockname()[1]
    finally:
        running.should_exit = True
        thread.join(20)
        listener.close()


def exchange(port: int, *parts: bytes) -> bytes:
    """Sends bytes to a server and returns its response until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while more := connection.recv(65536):
            answer += more
            if b"\r\n\r\n" in answer and b'"code":null}}' in answer:
                break
    return answer


HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


def test_a_large_body_is_refused_before_it_is_read_completely(trained_once):
    with server(one_model(trained_once, max_body=0.1)) as port:
        assert b" 413 " in exchange(port, HEAD + b"Content-Length: 1000000000000\r\n\r\n")
        chunk = b"186a0\r\n" + b" " * 100_000 + b"\r\n"
        assert b" 413 " in exchange(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk, chunk)


def test_a_body_that_does_not_arrive_times_out(trained_once):
    with server(one_model(trained_once, timeout=0.3)) as port:
        assert b" 408 " in exchange(port, HEAD + b'Content-Length: 100\r\n\r\n{"inputs"')


def test_a_broken_connection_ends_the_generation_without_an_error_in_the_log(gpt2, caplog):
    api = create_api(ModelRegistry([gpt2], built_in=False))
    body = json.dumps({"prompt": "a", "max_new_tokens": 1024, "context": "slide", "stream": True}).encode()
    with server(api) as port, caplog.at_level(logging.ERROR):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            head = HEAD.replace(b"/predict", b"/generate")
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert b"event-stream" in connection.recv(200)
        interleaver = next(iter(api.state.serving._served.values())).worker
        asyncio.run(until(lambda: interleaver.num_active == 0))
    assert not caplog.records
