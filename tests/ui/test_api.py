"""The HTTP API: every endpoint and status, the same answers as without it, and what hostile clients may send."""

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
from tiny_gpt2 import make_gpt2

SAMPLES = Path(__file__).parents[2] / "tasks/samples"
TEXTS = ["a lovely film", "such a dull walk 🙂", "", "it was a fine meal " * 20, "\x00\x01 null", "\ud83d half a pair"]
CONTEXT = "Ada Lovelace lived in London"
# What each task is trained on for a step, and what it is asked.
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
    """The API with all models; the first, which answers where none is named, tells good reviews from bad ones."""
    made = create_api(ModelRegistry([*folders.values(), tiny, gpt2], built_in=False, kept=20))
    yield made
    made.state.serving.close(10)


@pytest.fixture(scope="module")
def client(api: FastAPI) -> TestClient:
    return TestClient(api)


@pytest.fixture
def small(trained_once: Path, gpt2: Path) -> Iterator[Callable[..., TestClient]]:
    """Makes an API of its own: `small(key="...", timeout=1)`."""
    made: list[FastAPI] = []

    def make(key: str | None = None, folders: tuple[Path, ...] = (trained_once, gpt2), **limits: Any) -> TestClient:
        made.append(create_api(ModelRegistry(folders, built_in=False), key=key, limits=Limits(**limits)))
        return TestClient(made[-1], raise_server_exceptions=False)

    yield make
    for api in made:
        api.state.serving.close(10)


def sent(body: Any) -> dict[str, Any]:
    """A body as JSON in ASCII: half a surrogate pair can be sent no other way."""
    return {"content": json.dumps(body).encode(), "headers": {"Content-Type": "application/json"}}


def refused(response: Any, status: int, message: str = "") -> str:
    """Makes sure that an answer is an error of the one shape; its message."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    (error,) = response.json().values()
    assert set(error) == {"message", "type", "param", "code"}
    assert re.search(message, error["message"]), error["message"]
    assert error["message"].endswith((".", "?"))
    return error["message"]


def same(found: Any, offline: Any) -> bool:
    """Whether two answers are equal but for the order of sums in a batch."""
    if isinstance(offline, float):
        return found == pytest.approx(offline, abs=1e-5)
    if isinstance(offline, dict):
        return found.keys() == offline.keys() and all(same(found[name], offline[name]) for name in offline)
    if isinstance(offline, list | tuple):
        return len(found) == len(offline) and all(map(same, found, offline))
    return found == offline


# -- answers


@pytest.mark.parametrize("task", list(TASKS))
def test_every_task_answers_as_it_does_offline(client, folders, task):
    asked = TRAINING[task][1] if task in TRAINING else TEXTS
    model = load(folders[task])
    response = client.post("/predict", **sent({"model": folders[task].name, "inputs": asked}))
    assert response.status_code == 200, response.text
    said = response.json()
    assert (said["model"], said["task"]) == (folders[task].name, task)
    offline = [json.loads(json.dumps(prediction.to_json())) for prediction in model.predict(asked)]
    assert same(said["predictions"], offline)


def test_the_first_model_that_fits_answers_where_none_is_named(client, trained_once, gpt2):
    first = client.post("/predict", json={"inputs": ["a good film"]}).json()
    assert first["model"] == trained_once.name
    assert first["predictions"][0]["label"] == "good"
    assert client.post("/generate", json={"prompt": "a", "max_new_tokens": 1}).json()["model"] != trained_once.name


def test_a_run_that_is_replaced_answers_anew_and_one_that_is_gone_is_unknown(folders, tmp_path):
    run = tmp_path / "runs" / "mine"
    api = create_api(ModelRegistry(runs=tmp_path / "runs", built_in=False))
    client = TestClient(api)
    refused(client.post("/predict", json={"inputs": ["a"]}), 404, "no model here that can predict")
    for task in ("text-classification", "question-answering"):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(folders[task], run)
        asked = TRAINING[task][1][0] if task in TRAINING else "a film"
        said = client.post("/predict", json={"inputs": [asked]}).json()
        assert (said["model"], said["task"], len(said["predictions"])) == ("mine", task, 1)
    shutil.rmtree(run)
    refused(client.post("/predict", json={"inputs": ["a"], "model": "mine"}), 404, "no model 'mine'")
    api.state.serving.close(10)


def test_a_damaged_run_is_left_out_and_nobody_is_told_where_it_lies(trained_once, tmp_path, monkeypatch, capfd):
    runs = tmp_path / "runs"
    info = "headway.json"
    damages = {"config": ("config.json", "{"), "info": (info, "{"), "task": (info, '{"task": "unheard-of"}')}
    for name in ("good", "gone", *damages):
        shutil.copytree(trained_once, runs / name)
    for name, (file, content) in damages.items():
        (runs / name / file).write_text(content)

    def described(name: str, folder: Path) -> Entry:
        if name == "gone":
            shutil.rmtree(folder, ignore_errors=True)  # by somebody else, at this very moment
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
    assert all(line.startswith("headway: ") and "is left out of the list" in line for line in warnings)
    client.app.state.serving.close(10)

    (runs / "good" / "model.safetensors").write_bytes(b"")
    with pytest.raises(HeadwayError, match=r"^good/model\.safetensors") as error:
        ModelRegistry(runs=runs, built_in=False).task_model("good")
    assert str(tmp_path) not in str(error.value)


def test_a_model_that_is_gone_is_not_listed(trained_once, tmp_path, monkeypatch):
    registry = ModelRegistry([trained_once], built_in=False)
    (here,) = registry.entries()
    monkeypatch.setattr(registry, "entries", lambda: [here, Entry("gone", tmp_path / "gone", "bert", None)])
    client = TestClient(create_api(registry))
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == [here.name]
    with pytest.raises(NoSuchModel, match="not here any more"):
        registry.embedder("gone")


def test_the_hub_is_asked_once_for_a_model_and_its_errors_name_no_folder(trained_once, monkeypatch):
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
    assert registry.find("x" * 300).folder == trained_once  # which is no path


def test_vectors_are_those_of_the_embedder(client, tiny):
    offline = Embedder(tiny).embed(TEXTS)
    said = client.post("/embed", **sent({"model": tiny.name, "texts": TEXTS})).json()
    assert (said["model"], said["size"]) == (tiny.name, offline.shape[1])
    assert np.allclose(np.float32(said["vectors"]), offline, atol=1e-6)


def test_openais_clients_get_vectors_in_both_forms(client, tiny):
    offline = Embedder(tiny).embed(TEXTS)
    body = {"model": tiny.name, "input": TEXTS, "user": "somebody", "dimensions": offline.shape[1]}
    said = client.post("/v1/embeddings", **sent(body)).json()
    assert (said["object"], said["model"]) == ("list", tiny.name)
    assert [(one["object"], one["index"]) for one in said["data"]] == [("embedding", i) for i in range(len(TEXTS))]
    assert np.allclose(np.float32([one["embedding"] for one in said["data"]]), offline, atol=1e-6)
    tokens = sum(map(len, Embedder(tiny).tokenizer.encode_ids(TEXTS)))
    assert said["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    packed = client.post("/v1/embeddings", **sent({**body, "encoding_format": "base64"})).json()
    for one, vector in zip(packed["data"], said["data"], strict=True):
        numbers = np.frombuffer(base64.b64decode(one["embedding"]), dtype="<f4")
        assert np.allclose(numbers, vector["embedding"], atol=1e-6)
    alone = client.post("/v1/embeddings", json={"model": tiny.name, "input": TEXTS[0]}).json()
    assert np.allclose(alone["data"][0]["embedding"], offline[0], atol=1e-6)


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
def test_texts_go_on_as_they_do_offline(client, gpt2, options):
    given = {"max_new_tokens": 8, **options}
    said = client.post("/generate", json={"model": gpt2.name, "prompt": "the cat", **given}).json()
    stop = (given["stop"],) if isinstance(given.get("stop"), str) else tuple(given.get("stop", ()))
    (offline,) = generate(*load_language_model(gpt2), ["the cat"], GenerationConfig(**{**given, "stop": stop}))
    assert (said["model"], said["prompt"]) == (gpt2.name, "the cat")
    assert [one["text"] for one in said["texts"]] == [one.text for one in offline]
    assert [tuple(one["token_ids"]) for one in said["texts"]] == [one.token_ids for one in offline]
    assert [one["finish_reason"] for one in said["texts"]] == [one.finish_reason for one in offline]


def events(lines: Iterator[str]) -> list[str]:
    return [line.removeprefix("data: ") for line in lines if line]


def test_a_stream_is_the_same_text_in_pieces(client, gpt2):
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


def test_requests_that_arrive_together_share_a_batch_and_get_their_own_answers(trained_once):
    registry = ModelRegistry([trained_once], built_in=False)
    api, model = create_api(registry), load(trained_once)
    texts = [f"a {word} film" + " it was" * (i % 5) for i in range(30) for word in ("good", "awful")]

    async def run() -> list[Any]:
        return await asyncio.gather(*(call(api, "/predict", {"inputs": [text]}) for text in texts))

    answers = asyncio.run(run())
    api.state.serving.close(10)
    assert [status for status, _ in answers] == [200] * len(texts)
    offline = [prediction.to_json() for prediction in model.predict(texts)]
    assert same([said["predictions"][0] for _, said in answers], offline)
    counts = re.findall(r"headway_batch_texts_(\w+)\{.*\} (\S+)", api.state.serving.metrics.render())
    found = {name: float(value) for name, value in counts}
    assert found["sum"] == len(texts)
    assert found["count"] < len(texts) / 2


# -- what is told of the server


def test_facts_about_the_server(client, folders, gpt2, tiny):
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
    lines = response.text.splitlines()
    assert 'headway_requests_total{path="/predict",status="200"} 3' in lines
    assert 'headway_requests_total{path="other",status="404"} 1' in lines
    assert 'headway_request_seconds_count{path="/predict"} 3' in lines
    assert 'headway_request_seconds_bucket{path="/predict",le="+Inf"} 3' in lines
    assert 'headway_batch_texts_sum{use="predict",model="model"} 6' in lines
    assert 'headway_queue_requests{use="predict",model="model"} 0' in lines
    assert 'headway_tokens_total{use="generate",model="writer"} 4' in lines
    known = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    sample = re.compile(r'(\w+?)(_bucket|_sum|_count)?\{(\w+="([^"\\\n]|\\.)*",?)*\} \d+(\.\d+)?(e-?\d+)?')
    for line in lines:
        if not line.startswith("#"):
            match = sample.fullmatch(line)
            assert match, line
            assert {match[1], match[1] + (match[2] or "")} & known


def test_the_description_names_every_endpoint_and_the_texts_of_every_task(client):
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {
        "/predict",
        "/embed",
        "/v1/embeddings",
        "/v1/models",
        "/generate",
        "/health",
        "/info",
        "/metrics",
    }
    body = json.dumps(described["paths"]["/predict"]["post"]["requestBody"])
    assert all(f'"{field.name}"' in body for task in TASKS.values() for field in task.inputs)
    for path in ("/predict", "/embed", "/v1/embeddings", "/generate"):
        content = described["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        response = client.post(path, json=content["example"])
        assert response.status_code == 200, response.text


def test_the_page_of_the_description_loads_nothing_and_runs_nothing_else(client):
    response = client.get("/docs")
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert re.search(r"""src=|href="|@import|url\(|https?://(?!json)""", response.text.split('id="data"')[0]) is None
    assert response.text.count("<script") == 2


@pytest.mark.parametrize("how", ["mounted", "behind a proxy"])
def test_it_works_under_a_prefix(trained_once, how):
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
    refused(client.get(f"{prefix}/nothing", **locked), 404, r"GET /nothing\. GET /docs")
    assert client.get(f"{prefix}/openapi.json", **locked).json()["servers"] == [{"url": prefix}]
    assert 'path="/predict",status="200"} 1' in client.get(f"{prefix}/metrics", **locked).text
    api.state.serving.close(10)


# -- what is refused


INPUTS = "inputs"
HOSTILE = {
    "nothing": (b"", 422, "not valid JSON"),
    "no JSON": (b"text=a film", 422, r"line 1, column 1.*Correct it there"),
    "cut": (b'{"inputs": ["a', 422, "not valid JSON"),
    "no object": (b'["a film"]', 422, "is a list, where an object"),
    "null": (b"null", 422, "is null"),
    "deep": (b'{"inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 422, "nested too deeply"),
    "deep objects": (b'{"inputs":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, 422, "nested too deeply"),
    "NaN": (b'{"inputs": [NaN]}', 422, "NaN"),
    "infinite": (b'{"inputs": [-Infinity]}', 422, "-Infinity"),
    "many digits": (b'{"inputs": [' + b"9" * 5000 + b"]}", 422, "too many digits"),
    "no UTF-8": (b'{"inputs": ["\xff\xfe"]}', 422, "not UTF-8"),
    "no inputs": (b"{}", 422, r"inputs is missing\. Send it as in"),
    "unknown": (b'{"inputs": ["a"], "modle": "x"}', 422, r"does not know 'modle'.*model, inputs"),
    "one text": (b'{"inputs": "a film"}', 422, "inputs is a text, where a list"),
    "no text": (b'{"inputs": []}', 422, "inputs is empty"),
    "a number": (b'{"inputs": ["a", 1]}', 422, r"inputs\[1\] is a number; the model reads a text, or an object"),
    "true": (b'{"inputs": [true]}', 422, r"inputs\[0\] is true or false"),
    "a null": (b'{"inputs": [null]}', 422, r"inputs\[0\] is null"),
    "a list": (b'{"inputs": [["a"]]}', 422, r"inputs\[0\] is a list"),
    "another text": (b'{"inputs": [{"txt": "a"}]}', 422, r"inputs\[0\] has 'txt'"),
    "an empty object": (b'{"inputs": [{}]}', 422, r"inputs\[0\] has no text"),
    "a text that is none": (b'{"inputs": [{"text": 1}]}', 422, r"inputs\[0\]\.text is a number"),
    "a null text": (b'{"inputs": [{"text": null}]}', 422, r"inputs\[0\]\.text is null"),
    "a model that is none": (b'{"inputs": ["a"], "model": 1}', 422, "model is a number"),
    "no such model": (b'{"inputs": ["a"], "model": "x"}', 404, r"no model 'x' here\. There are: model"),
    "a path": (b'{"inputs": ["a"], "model": "../model"}', 404, "There is no model"),
    "a whole path": (b'{"inputs": ["a"], "model": "/etc/passwd"}', 404, "There is no model"),
    "NUL in a name": (b'{"inputs": ["a"], "model": "model\\u0000"}', 404, "There is no model"),
    "half a pair in a name": (b'{"inputs": ["a"], "model": "\\ud800"}', 404, "There is no model"),
    "too many texts": (json.dumps({"inputs": ["a"] * 257}).encode(), 413, "257 texts.*Send several requests"),
    "a long text": (json.dumps({"inputs": ["a" * 100_001]}).encode(), 413, "100,001 characters.*in parts"),
    "a large body": (json.dumps({"inputs": ["a" * 90_000] * 30}).encode(), 413, "larger than 2 megabytes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_answered_is_refused_in_a_sentence(client, name):
    body, status, message = HOSTILE[name]
    refused(client.post("/predict", content=body, headers={"Content-Type": "application/json"}), status, message)
    assert client.post("/predict", json={"inputs": ["a film"]}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/embed", {"texts": [1]}, 422, r"texts\[0\] is a number"),
        ("/embed", {"input": ["a"]}, 422, "does not know 'input'"),
        ("/v1/embeddings", {"input": [[1, 2]]}, 422, "numbers of tokens.*Send the texts"),
        ("/v1/embeddings", {"input": [1, 2]}, 422, "numbers of tokens"),
        ("/v1/embeddings", {"input": []}, 422, "input is empty"),
        ("/v1/embeddings", {"input": None}, 422, "input is null"),
        ("/v1/embeddings", {"model": "a"}, 422, "input is missing"),
        ("/v1/embeddings", {"input": "a", "encoding_format": "int8"}, 422, "'int8'. Say float or base64"),
        ("/v1/embeddings", {"input": "a", "dimensions": 3}, 422, "dimensions is 3, and the model's vectors have 32"),
        ("/v1/embeddings", {"input": "a", "dimensions": "3"}, 422, "dimensions is a text"),
        ("/v1/embeddings", {"input": "a", "model": "text-embedding-3-small"}, 404, "There are: "),
        ("/generate", {"prompt": 1}, 422, "prompt is a number"),
        ("/generate", {"prompt": "a", "max_tokens": 1}, 422, "does not know 'max_tokens'.*max_new_tokens"),
        ("/generate", {"prompt": "a", "temperature": "hot"}, 422, "temperature='hot'"),
        ("/generate", {"prompt": "a", "max_new_tokens": 10**9}, 422, "this server allows 1,024"),
        ("/generate", {"prompt": "a", "samples": 10**9}, 422, "allows 8"),
        ("/generate", {"prompt": "a", "beams": 9}, 422, "beams is 9, and this server allows 8"),
        ("/generate", {"prompt": "a", "num_beams": 9}, 422, "num_beams is 9, and this server allows 8"),
        ("/generate", {"prompt": "a", "beams": 2, "stream": True}, 422, "Leave out stream or beams"),
        ("/generate", {"prompt": "a", "stream": "yes"}, 422, "stream is a text. Say true or false"),
        ("/generate", {"prompt": "a", "stop": [1]}, 422, "stop"),
        ("/generate", {"prompt": "a", "stop": [[]]}, 422, "stop"),
        ("/generate", {"prompt": "a", "context": []}, 422, "context"),
        ("/generate", {"prompt": "a" * 5000}, 422, "the model's context holds"),
        ("/generate", {"prompt": "a" * 5000, "stream": True}, 422, "the model's context holds"),
        ("/generate", {"prompt": "a", "model": "model"}, 422, "is a BERT.*name a GPT-2"),
    ],
)
def test_so_is_what_other_endpoints_cannot_answer(client, path, body, status, message):
    refused(client.post(path, json=body), status, message)


def test_a_model_without_a_head_says_what_it_can_do(client, tiny):
    response = client.post("/predict", json={"model": tiny.name, "inputs": ["a"]})
    refused(response, 422, "has no head that answers anything; /embed makes vectors")


def test_texts_are_asked_for_as_the_model_reads_them(client, folders):
    name = folders["question-answering"].name
    response = client.post("/predict", json={"model": name, "inputs": ["who?"]})
    refused(response, 422, r'inputs\[0\] has no context; the model reads an object \{"question": "...", "context"')


def test_unknown_paths_methods_and_types_are_errors_of_the_same_shape(client):
    refused(client.get("/nothing"), 404, r"nothing at GET /nothing\. GET /docs lists")
    response = client.get("/predict")
    refused(response, 405, "nothing at GET /predict")
    assert response.headers["allow"] == "POST"
    refused(client.post("/predict", content=b'{"inputs": ["a"]}', headers={"Content-Type": "text/plain"}), 415)


def test_one_bad_text_among_good_ones_fails_alone(trained_once, monkeypatch):
    predict = TaskModel.predict

    def refuses(model: TaskModel, inputs: list[Any]) -> Any:
        if any("bad" in one["text"] for one in inputs):
            raise HeadwayError("input 1: it is bad. Leave it out.")
        if any("broken" in one["text"] for one in inputs):
            raise ZeroDivisionError("ours")
        return predict(model, inputs)

    monkeypatch.setattr(TaskModel, "predict", refuses)
    api = create_api(ModelRegistry([trained_once], built_in=False))

    async def run() -> list[Any]:
        bodies = [["a film"], ["a song", "bad"], ["a walk"], ["a meal"] * 3]
        return await asyncio.gather(*(call(api, "/predict", {"inputs": body}) for body in bodies))

    answers = asyncio.run(run())
    assert [status for status, _ in answers] == [200, 422, 200, 200]
    assert answers[1][1]["error"]["message"] == "inputs[1]: it is bad. Leave it out."
    with pytest.raises(ZeroDivisionError, match="ours"):  # the server writes it into its log
        TestClient(api).post("/predict", json={"inputs": ["broken"]})
    response = TestClient(api, raise_server_exceptions=False).post("/predict", json={"inputs": ["broken"]})
    assert "ours" not in refused(response, 500, "its log says what")
    api.state.serving.close(10)


def test_a_model_that_cannot_be_opened_is_the_servers_fault(small, trained_once, tmp_path):
    broken = Path(shutil.copytree(trained_once, tmp_path / "broken"))
    client = small(folders=(broken,))
    (broken / "model.safetensors").write_bytes(b"")
    assert str(broken) not in refused(client.post("/predict", json={"inputs": ["a"]}), 500)


def test_the_key_is_asked_for_everywhere_but_at_health(small):
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
    from_a_file = small(key="secret\n")
    assert from_a_file.get("/info", headers={"Authorization": "Bearer secret"}).status_code == 200
    assert "securitySchemes" in client.get("/openapi.json", headers={"Authorization": given.encode()}).text
    with pytest.raises(HeadwayError, match="empty"):
        small(key=" ")


@pytest.mark.parametrize("limit", [{"timeout": 0}, {"max_texts": -1}, {"max_body": float("nan")}])
def test_a_limit_that_means_nothing_is_refused(limit):
    with pytest.raises(HeadwayError, match="must be above 0"):
        Limits(**limit)


# -- queues, time, and clients that leave


async def call(
    api: FastAPI, path: str, body: Any, *, leaves: asyncio.Event | None = None
) -> tuple[int | None, dict[str, Any]]:
    """A request in this event loop, its client gone when `leaves` is set: the status and the answer."""
    parts = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if parts:
            return parts.pop()
        await (leaves or asyncio.Event()).wait()
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
    """Predictions that wait for a word."""

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
    raise AssertionError("it did not come to pass")


def test_a_full_queue_a_vanished_client_and_the_place_that_it_frees(trained_once, slow):
    api = one_model(trained_once, max_queue=2)

    def waiting() -> int:
        return sum(count for _, count in api.state.serving._queues())

    async def run() -> None:
        leaves = asyncio.Event()
        first = asyncio.ensure_future(call(api, "/predict", {"inputs": ["first"]}))
        await until(slow.begun.is_set)
        second = asyncio.ensure_future(call(api, "/predict", {"inputs": ["second"]}))
        gone = asyncio.ensure_future(call(api, "/predict", {"inputs": ["gone"]}, leaves=leaves))
        await until(lambda: waiting() == 2)
        status, said = await call(api, "/predict", {"inputs": ["too many"]})
        assert (status, said["error"]["type"]) == (429, "rate_limit_error")
        leaves.set()
        assert await gone == (499, {"text": ""})
        assert waiting() == 1
        third = asyncio.ensure_future(call(api, "/predict", {"inputs": ["third"]}))
        await until(lambda: waiting() == 2)
        slow.go.set()
        assert [status for status, _ in await asyncio.gather(first, second, third)] == [200] * 3
        assert slow.asked == ["first", "second", "third"]

    asyncio.run(run())
    metrics = api.state.serving.metrics.render()
    assert all(f'path="/predict",status="{status}"}} 1' in metrics for status in (429, 499))
    api.state.serving.close(10)


def test_retry_after_says_when_to_come_back(small, slow):
    client = small(max_queue=1, timeout=0.2)
    response = client.post("/predict", json={"inputs": ["a"]})
    refused(response, 503, r"no answer after 0\.2 seconds")
    assert int(response.headers["retry-after"]) > 0
    slow.go.set()


def test_what_is_too_late_is_not_computed(trained_once, slow):
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


def test_stopping_finishes_what_was_taken_and_refuses_the_rest(trained_once, slow):
    api = one_model(trained_once)

    async def run() -> None:
        taken = [asyncio.ensure_future(call(api, "/predict", {"inputs": ["first"]}))]
        await until(slow.begun.is_set)
        taken += [asyncio.ensure_future(call(api, "/predict", {"inputs": [f"text {i}"]})) for i in range(4)]
        await until(lambda: sum(count for _, count in api.state.serving._queues()) == 4)
        closing = asyncio.ensure_future(asyncio.to_thread(api.state.serving.close, 20))
        await until(lambda: api.state.serving.closed)
        status, said = await call(api, "/predict", {"inputs": ["late"]})
        assert (status, said["error"]["type"]) == (503, "unavailable_error")
        assert TestClient(api).get("/health").status_code == 503
        slow.go.set()
        assert [status for status, _ in await asyncio.gather(*taken)] == [200] * 5
        await closing

    asyncio.run(run())


def test_the_end_of_the_application_stops_its_threads(trained_once):
    api = one_model(trained_once)
    before = threading.active_count()
    with TestClient(api) as client:
        assert client.post("/predict", json={"inputs": ["a"]}).status_code == 200
    assert api.state.serving.closed
    assert threading.active_count() <= before + 1  # asyncio's own pool may keep one


def test_a_client_that_leaves_a_stream_ends_the_text(gpt2):
    api = create_api(ModelRegistry([gpt2], built_in=False))
    body = {"prompt": "a", "max_new_tokens": 1024, "context": "slide", "stream": True, "temperature": 1.0}

    async def run() -> None:
        leaves = asyncio.Event()
        request = asyncio.ensure_future(call(api, "/generate", body, leaves=leaves))
        await asyncio.sleep(0.2)
        assert not request.done()
        leaves.set()
        status, said = await request
        assert status == 200
        assert "[DONE]" not in said["text"]

    asyncio.run(run())
    began = time.monotonic()
    api.state.serving.close(20)
    assert time.monotonic() - began < 1  # nothing was left to write
    assert 'headway_tokens_total{use="generate"' not in api.state.serving.metrics.render()


# -- through a real server


@contextmanager
def server(api: FastAPI) -> Iterator[int]:
    """A server in a thread of this process: its port."""
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
    """What a server says to some bytes, until it closes the connection."""
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


def test_a_large_body_is_refused_before_it_is_read(trained_once):
    with server(one_model(trained_once, max_body=0.1)) as port:
        assert b" 413 " in exchange(port, HEAD + b"Content-Length: 1000000000000\r\n\r\n")
        chunk = b"186a0\r\n" + b" " * 100_000 + b"\r\n"
        assert b" 413 " in exchange(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk, chunk)


def test_a_body_that_does_not_come_is_not_waited_for(trained_once):
    with server(one_model(trained_once, timeout=0.3)) as port:
        assert b" 408 " in exchange(port, HEAD + b'Content-Length: 100\r\n\r\n{"inputs"')


def test_a_connection_that_breaks_in_the_middle_of_a_stream_ends_the_text(gpt2, caplog):
    api = create_api(ModelRegistry([gpt2], built_in=False))
    body = json.dumps({"prompt": "a", "max_new_tokens": 1024, "context": "slide", "stream": True}).encode()
    with server(api) as port, caplog.at_level(logging.ERROR):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            head = HEAD.replace(b"/predict", b"/generate")
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert b"event-stream" in connection.recv(200)
        turns = next(iter(api.state.serving._rooms.values())).work
        asyncio.run(until(lambda: turns.under_way == 0))
    assert not caplog.records
