"""The HTTP API: the same answers as in Python, embeddings, streams, and information about the server."""

import asyncio
import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from api_client import call, metric, refused, samples_of, sent, served_metrics
from fastapi import FastAPI
from fastapi.testclient import TestClient
from headway.core.errors import HeadwayError
from headway.core.generation.generation import generate
from headway.core.generation.generation_config import GenerationConfig
from headway.core.training.distributed import inference_device
from headway.tasks import TASKS, Embedder, load
from headway.tasks.embedding.pooling import Pooling
from headway.tasks.embedding.published_pooling import PublishedPooling
from headway.tasks.language_modeling.loading import load_language_model
from headway.ui.http.api import create_api
from headway.ui.http.limits import Limits
from headway.ui.model_registry import Entry, ModelRegistry, NoSuchModel, describe
from prometheus_client.parser import text_string_to_metric_families
from task_inputs import TEXTS, TRAINING

GENERATED = {"max_new_tokens": 8, "temperature": 1.0, "seed": 3}


def same(found: Any, expected: Any) -> bool:
    """Whether two answers are equal up to the rounding of sums in a batch."""
    if isinstance(expected, float):
        return found == pytest.approx(expected, abs=1e-5)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[name], expected[name]) for name in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(same, found, expected))
    return found == expected


def answer_of(prediction: Any) -> dict[str, Any]:
    """What the server answers for a prediction."""
    return json.loads(json.dumps({**prediction.to_json(), **prediction.length.to_json()}))


# Answers.


@pytest.mark.parametrize("task", list(TASKS))
def test_every_task_gives_the_same_predictions_as_in_python(client, task_models, task):
    inputs = TRAINING[task][1] if task in TRAINING else TEXTS
    model = load(task_models[task])
    response = client.post("/predict", **sent({"model": task_models[task].name, "inputs": inputs}))
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["model"], answer["task"]) == (task_models[task].name, task)
    expected = [answer_of(prediction) for prediction in model.predict(inputs)]
    assert same(answer["predictions"], expected)


def test_without_a_name_the_first_suitable_model_answers(client, trained_once, gpt2):
    first = client.post("/predict", json={"inputs": ["a good film"]}).json()
    assert first["model"] == trained_once.name
    assert first["predictions"][0]["label"] == "good"
    assert client.post("/generate", json={"prompt": "a", "max_new_tokens": 1}).json()["model"] != trained_once.name


def test_a_replaced_run_is_opened_again_and_a_removed_one_is_unknown(task_models, tmp_path):
    run = tmp_path / "runs" / "mine"
    api = create_api(ModelRegistry(runs=tmp_path / "runs", built_in=False))
    client = TestClient(api)
    refused(client.post("/predict", json={"inputs": ["a"]}), 404, "no model that can predict")
    for task in ("text-classification", "question-answering"):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(task_models[task], run)
        inputs = TRAINING[task][1][0] if task in TRAINING else "a film"
        answer = client.post("/predict", json={"inputs": [inputs]}).json()
        assert (answer["model"], answer["task"], len(answer["predictions"])) == ("mine", task, 1)
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
        message = refused(client.post("/predict", json={"inputs": ["a"], "model": name}), 404, f"no model '{name}'")
        assert str(tmp_path) not in message
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
    requested = []

    def found(name: str) -> Path:
        requested.append(name)
        if name == "someone/broken":
            raise HeadwayError("/home/me/.cache/models--x/config.json says 't5'. See https://hub.example/x/y for it.")
        return trained_once

    monkeypatch.setattr("headway.core.checkpoints.hub.find_folder", found)
    registry = ModelRegistry(built_in=False, hub=True)
    for _ in range(3):
        assert registry.find("someone/model").folder == trained_once
    assert requested == ["someone/model"]
    with pytest.raises(HeadwayError, match=r"^config\.json says 't5'\. See https://hub\.example/x/y for it\.$"):
        registry.find("someone/broken")
    with pytest.raises(HeadwayError, match="no model"):
        registry.find("x" * 300 + "?")
    assert registry.find("x" * 300).folder == trained_once  # too long for a path


def test_embed_gives_the_vectors_of_the_embedder(client, tiny):
    expected = Embedder(tiny).embed(TEXTS)
    answer = client.post("/embed", **sent({"model": tiny.name, "texts": TEXTS})).json()
    assert (answer["model"], answer["size"]) == (tiny.name, expected.shape[1])
    assert np.allclose(np.float32(answer["vectors"]), expected, atol=1e-6)


def test_openai_clients_get_vectors_as_floats_and_as_base64(client, tiny):
    expected = Embedder(tiny).embed(TEXTS)
    body = {"model": tiny.name, "input": TEXTS, "user": "a user", "dimensions": expected.shape[1]}
    answer = client.post("/v1/embeddings", **sent(body)).json()
    assert (answer["object"], answer["model"]) == ("list", tiny.name)
    assert [(one["object"], one["index"]) for one in answer["data"]] == [("embedding", i) for i in range(len(TEXTS))]
    assert np.allclose(np.float32([one["embedding"] for one in answer["data"]]), expected, atol=1e-6)
    tokens = sum(one.num_tokens for one in Embedder(tiny).measure(TEXTS))
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    packed = client.post("/v1/embeddings", **sent({**body, "encoding_format": "base64"})).json()
    for one, vector in zip(packed["data"], answer["data"], strict=True):
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
    answer = client.post("/generate", json={"model": gpt2.name, "prompt": "the cat", **given}).json()
    stop = (given["stop"],) if isinstance(given.get("stop"), str) else tuple(given.get("stop", ()))
    (expected,) = generate(*load_language_model(gpt2), ["the cat"], GenerationConfig(**{**given, "stop": stop}))
    assert (answer["model"], answer["prompt"]) == (gpt2.name, "the cat")
    assert [one["text"] for one in answer["texts"]] == [one.text for one in expected]
    assert [tuple(one["token_ids"]) for one in answer["texts"]] == [one.token_ids for one in expected]
    assert [one["finish_reason"] for one in answer["texts"]] == [one.finish_reason for one in expected]


def events(lines: Iterator[str]) -> list[str]:
    return [line.removeprefix("data: ") for line in lines if line]


def test_a_stream_sends_the_same_texts_in_pieces(client, gpt2):
    body = {"model": gpt2.name, "prompt": "the cat", **GENERATED, "samples": 2}
    complete = client.post("/generate", json=body).json()["texts"]
    with client.stream("POST", "/generate", json={**body, "stream": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        *pieces, last = events(response.iter_lines())
    assert last == "[DONE]"
    found = [json.loads(one) for one in pieces]
    for sample, text in enumerate(complete):
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
    expected = list(map(answer_of, model.predict(texts)))
    assert same([answer["predictions"][0] for _, answer in answers], expected)
    metrics = served_metrics(api)
    labels = {"use": "predict", "model": registry.entries()[0].name}
    assert metric(metrics, "headway_batch_texts_sum", **labels) == len(texts)
    count = metric(metrics, "headway_batch_texts_count", **labels)
    assert count is not None
    assert 0 < count < len(texts) / 2


@pytest.mark.parametrize("name", ["inputs", "input", "texts"])
@pytest.mark.parametrize("path", ["/predict", "/embed", "/v1/embeddings"])
def test_texts_have_the_same_names_on_every_path_and_one_may_stand_alone(client, path, name):
    several = client.post(path, json={name: ["a film"]})
    assert several.status_code == 200, several.text
    assert client.post(path, json={name: "a film"}).json() == several.json()


@pytest.mark.parametrize("name", ["prompt", "inputs", "input", "texts"])
def test_a_prompt_has_the_names_of_texts_too(client, name):
    answer = client.post("/generate", json={name: "a film", "max_new_tokens": 1})
    assert answer.json()["prompt"] == "a film"


def test_fewer_dimensions_are_the_first_ones_scaled_to_length_one(client, tiny):
    body = {"model": tiny.name, "input": "a lovely film", "dimensions": 5}
    found = client.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
    first = Embedder(tiny).embed("a lovely film")[:5]
    assert np.allclose(found, first / np.linalg.norm(first), atol=1e-6)


def test_a_long_text_has_the_prediction_and_the_vector_of_its_windows(client, trained_once, tiny):
    texts = [" ".join(f"{word} {i}" for i in range(300)) for word in ("lovely", "awful")] + ["a film"]
    answer = client.post("/predict", json={"inputs": texts}).json()
    assert same(answer["predictions"], list(map(answer_of, load(trained_once).predict(texts))))
    assert [one["truncated"] for one in answer["predictions"]] == [False] * 3
    vectors = client.post("/embed", json={"model": tiny.name, "inputs": texts}).json()["vectors"]
    assert np.allclose(vectors, Embedder(tiny).embed(texts), atol=1e-6)


@pytest.fixture(scope="module")
def published(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder with a limit of 12 tokens."""
    folder = Path(shutil.copytree(tiny, tmp_path_factory.mktemp("published") / "sentences"))
    PublishedPooling(Pooling(), max_length=12).write(folder, 32)
    return folder


@pytest.mark.parametrize("long_texts", [None, "cut"])
def test_a_text_beyond_the_limit_of_a_published_folder_is_read_in_windows_or_reported(published, long_texts):
    texts = ["a lovely film " * 20 + end for end in ("was awful", "is a meal")] + ["a film"]
    api = create_api(ModelRegistry([published], built_in=False, long_texts=long_texts))
    client = TestClient(api)
    (model,) = client.get("/info").json()["models"]
    assert (model["max_tokens"], model["long_texts"]) == (12, long_texts or "windows")
    embedder = Embedder(published, long_texts=long_texts or "windows")
    lengths = [one.num_tokens for one in embedder.measure(texts)]
    assert lengths == [len(ids) + 2 for ids in embedder.tokenizer.encode_ids(texts)]
    plain = client.post("/embed", json={"inputs": texts}).json()
    assert plain["num_tokens"] == lengths
    assert plain["truncated"] == [long_texts == "cut"] * 2 + [False]
    assert np.allclose(plain["vectors"], embedder.embed(texts), atol=1e-6)
    assert (plain["vectors"][0] == plain["vectors"][1]) == (long_texts == "cut")
    openai = client.post("/v1/embeddings", json={"input": texts}).json()
    assert [one["truncated"] for one in openai["data"]] == plain["truncated"]
    assert [one["num_tokens"] for one in openai["data"]] == lengths
    read = sum(min(length, 12) for length in lengths) if long_texts else sum(lengths)
    assert openai["usage"] == {"prompt_tokens": read, "total_tokens": read}
    assert metric(served_metrics(api), "headway_tokens_total", use="embed", model="sentences") == 2 * read
    api.state.serving.close(10)


def test_the_tokens_of_a_text_are_counted_alike_on_every_path(ranker, tiny):
    """With the special tokens, so that the number compares with `max_tokens` of /info."""
    text, query = "a lovely film", "a good song"
    client = TestClient(create_api(ModelRegistry([ranker], built_in=False)))
    (alone,) = client.post("/embed", json={"inputs": [text]}).json()["num_tokens"]
    openai = client.post("/v1/embeddings", json={"input": text}).json()
    assert openai["usage"]["prompt_tokens"] == openai["data"][0]["num_tokens"] == alone
    assert alone == len(load(ranker).tokenizer.encode(text).ids) + 2
    pair = alone - 1 + client.post("/embed", json={"inputs": [query]}).json()["num_tokens"][0]  # one [CLS] for both
    (predicted,) = client.post("/predict", json={"inputs": [{"text": query, "pair": text}]}).json()["predictions"]
    (ranked,) = client.post("/rerank", json={"query": query, "texts": [text]}).json()
    assert predicted["num_tokens"] == ranked["num_tokens"] == pair


def test_every_item_of_a_prediction_says_whether_it_was_truncated(trained_once, gpt2):
    """Also those that are computed window by window; the end of a prompt is read in any case."""
    texts = ["a lovely film " * 200, "a film"]
    api = create_api(ModelRegistry([trained_once, gpt2], built_in=False, long_texts="cut"))
    client = TestClient(api)
    assert [one["long_texts"] for one in client.get("/info").json()["models"]] == ["cut", "end"]
    for name in (trained_once.name, gpt2.name):
        answer = client.post("/predict", json={"model": name, "inputs": texts}).json()["predictions"]
        assert [one["truncated"] for one in answer] == [True, False]
        assert answer[0]["num_tokens"] > 20 * answer[1]["num_tokens"]
    tokens = len(load(trained_once).tokenizer.encode("a film").ids) + 2
    counted = metric(served_metrics(api), "headway_tokens_total", use="predict", model=trained_once.name)
    assert counted == load(trained_once).limit + tokens
    api.state.serving.close(10)


def test_an_unknown_way_to_read_long_texts_is_refused():
    with pytest.raises(HeadwayError, match="--long-texts fold: choose windows or cut"):
        ModelRegistry(long_texts="fold")


# Information about the server.


def test_head_answers_every_get_without_a_body(client):
    paths = ("/health", "/info", "/v1/models", f"/v1/models/{client.get('/v1/models').json()['data'][0]['id']}")
    for path in (*paths, "/metrics", "/docs", "/openapi.json"):
        response, full = client.head(path), client.get(path)
        assert (response.status_code, response.content) == (200, b""), path
        assert response.headers["content-type"] == full.headers["content-type"]
    assert client.head("/predict").status_code == 405


def test_a_model_is_described_by_name(client, tiny):
    models = client.get("/v1/models").json()["data"]
    assert [client.get(f"/v1/models/{one['id']}").json() for one in models] == models
    refused(client.get("/v1/models/nothing/here"), 404, "no model 'nothing/here'")


def test_a_browser_reads_the_docs_with_the_key_as_a_password(make_client):
    client = make_client(key="sécret")
    key = base64.b64encode("anyone:sécret".encode()).decode()
    for path in ("/docs", "/openapi.json"):
        response = client.get(path)
        refused(response, 401)
        assert response.headers["www-authenticate"].startswith("Basic ")
        assert client.get(path, headers={"Authorization": f"Basic {key}"}).status_code == 200
    for other in ("anyone:wrong", "no colon"):
        wrong = base64.b64encode(other.encode()).decode()
        refused(client.get("/docs", headers={"Authorization": f"Basic {wrong}"}), 401)
    refused(client.get("/docs", headers={"Authorization": "Basic %%%"}), 401)
    refused(client.get("/info", headers={"Authorization": f"Basic {key}"}), 401)  # a browser would send it by itself


def test_info_lists_models_tasks_limits_and_versions(client, task_models, gpt2, tiny):
    assert client.get("/health").json() == {"status": "ok"}
    info = client.get("/info").json()
    tasks = {one["name"]: one["task"] for one in info["models"]}
    assert tasks == {**{folder.name: task for task, folder in task_models.items()}, tiny.name: None} | {
        gpt2.name: tasks[gpt2.name]
    }
    assert info["tasks"] == {name: task.title for name, task in TASKS.items()}
    assert info["limits"]["max_texts"] == Limits().max_texts
    assert info["device"] == str(inference_device())
    assert {"headway", "torch"} <= info["versions"].keys()
    models = client.get("/v1/models").json()
    assert models["object"] == "list"
    assert [one["id"] for one in models["data"]] == list(tasks)


def test_metrics_count_requests_batches_tokens_and_queues(make_client):
    client = make_client()
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
        "/rerank",
        "/zero-shot-classification",
        "/v1/models",
        "/v1/models/{name}",
        "/generate",
        "/prompt",
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
        outer = FastAPI()
        outer.mount("/api", api)
        client, prefix = TestClient(outer), "/api"
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
