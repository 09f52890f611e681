"""The HTTP API refuses invalid and hostile requests with a status and a sentence."""

import asyncio
import gzip
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest
from api_client import call, refused
from fastapi.testclient import TestClient
from headway.core.errors import HeadwayError
from headway.tasks.base.model import TaskModel
from headway.ui.http.api import create_api
from headway.ui.http.limits import Limits
from headway.ui.model_registry import ModelRegistry

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
    "an object": (b'{"inputs": {"text": "a film"}}', 422, "inputs is an object; it must be a list"),
    "two names": (b'{"inputs": ["a film"], "texts": ["a"]}', 422, "inputs and texts are two names of the same field"),
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
    "an absolute path": (b'{"inputs": ["a"], "model": "/etc/passwd"}', 404, "There is no model"),
    "NUL in a name": (b'{"inputs": ["a"], "model": "model\\u0000"}', 404, "There is no model"),
    "unpaired surrogate in a name": (b'{"inputs": ["a"], "model": "\\ud800"}', 404, "There is no model"),
    "too many texts": (json.dumps({"inputs": ["a"] * 257}).encode(), 422, "257 texts.*Send several requests"),
    "a long text": (json.dumps({"inputs": ["a" * 100_001]}).encode(), 422, "100,001 characters.*Split the text"),
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
        ("/embed", {"inptu": ["a"]}, 422, "/embed has no field 'inptu'"),
        ("/v1/embeddings", {"input": [[1, 2]]}, 422, "token ids.*Send texts"),
        ("/v1/embeddings", {"input": [1, 2]}, 422, "token ids"),
        ("/v1/embeddings", {"input": []}, 422, "input is empty"),
        ("/v1/embeddings", {"input": None}, 422, "input is null"),
        ("/v1/embeddings", {"model": "a"}, 422, "inputs is missing"),
        ("/v1/embeddings", {"input": "a", "user": 1}, 422, "user is a number"),
        ("/v1/embeddings", {"input": "a", "encoding_format": "int8"}, 422, "'int8'; it must be float or base64"),
        ("/v1/embeddings", {"input": "a", "dimensions": 33}, 422, "dimensions is 33; the model's vectors have 32"),
        ("/v1/embeddings", {"input": "a", "dimensions": 0}, 422, "dimensions is 0; the model's vectors have 32"),
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
        ("/generate", {"prompt": "a", "beams": 2, "num_beams": 2}, 422, "beams and num_beams are two names"),
        ("/generate", {"prompt": "a", "inputs": "b"}, 422, "prompt and inputs are two names"),
        ("/generate", {"prompt": "a", "stream": "yes"}, 422, "stream is a string; it must be true or false"),
        ("/generate", {"prompt": "a", "stop": [1]}, 422, "stop"),
        ("/generate", {"prompt": "a", "stop": [[]]}, 422, "stop"),
        ("/generate", {"prompt": "a", "context": []}, 422, "context"),
        ("/generate", {"prompt": "a" * 5000}, 422, "the model's context is 128 tokens"),
        ("/generate", {"prompt": "a" * 5000, "stream": True}, 422, "the model's context is 128 tokens"),
        ("/generate", {"prompt": "a", "model": "model"}, 422, "is a BERT, which cannot generate text.*choose a GPT-2"),
    ],
)
def test_each_path_refuses_a_body_that_it_cannot_answer(client, path, body, status, message):
    refused(client.post(path, json=body), status, message)


def test_predict_with_a_model_without_a_head_suggests_embed(client, tiny):
    response = client.post("/predict", json={"model": tiny.name, "inputs": ["a"]})
    refused(response, 422, "has no task head; use /embed")


def test_a_missing_field_is_named_with_all_fields_of_the_model(client, task_models):
    name = task_models["question-answering"].name
    response = client.post("/predict", json={"model": name, "inputs": ["who?"]})
    refused(response, 422, r'inputs\[0\] has no context; the model reads an object \{"question": "...", "context"')


def test_unknown_paths_methods_and_types_are_errors_in_the_same_format(client):
    refused(client.get("/nothing"), 404, r"no GET /nothing\. GET /docs lists")
    response = client.get("/predict")
    refused(response, 405, "no GET /predict")
    assert response.headers["allow"] == "POST"
    refused(client.post("/predict", content=b'{"inputs": ["a"]}', headers={"Content-Type": "text/plain"}), 415)


# Compressed bodies.


def post(client: TestClient, body: bytes, encoding: str | None) -> Any:
    headers = {"Content-Type": "application/json"} | ({} if encoding is None else {"Content-Encoding": encoding})
    return client.post("/predict", content=body, headers=headers)


def gzip_bomb() -> bytes:
    """A gigabyte of spaces in a megabyte, without its check sum: the same compressed block a thousand times."""
    compressor = zlib.compressobj(wbits=31)
    first = compressor.compress(b" " * 10**6) + compressor.flush(zlib.Z_FULL_FLUSH)
    return first + first[10:] * 999  # without the header


def test_a_gzip_body_is_read_whole_or_in_parts(client):
    body = b'{"inputs": ["a lovely film"]}'
    expected = post(client, body, None).json()
    assert post(client, gzip.compress(body), "gzip").json() == expected
    assert post(client, gzip.compress(body[:9]) + gzip.compress(body[9:]), "x-gzip").json() == expected
    assert post(client, body, "identity").json() == expected


@pytest.mark.parametrize(
    ("body", "encoding", "status", "message"),
    [
        (gzip.compress(b'{"inputs": ["a"]}'), None, 415, "Content-Encoding: gzip"),
        (b'{"inputs": ["a"]}', "br", 415, "compressed with br.*gzip"),
        (b'{"inputs": ["a"]}', "gzip, gzip", 415, "compressed with gzip, gzip"),
        (b'{"inputs": ["a"]}', "gzip", 422, "not valid gzip"),
        (gzip.compress(b'{"inputs": ["a"]}')[:-3], "gzip", 422, "ends too early"),
        (b"", "gzip", 422, "ends too early"),
        (gzip.compress(b'{"inputs": ["a"]}') + b"more", "gzip", 422, "not valid gzip"),
        (gzip.compress(b" " * 2_000_001), "gzip", 413, "exceeds 2 megabytes"),
        (gzip_bomb(), "gzip", 413, "exceeds 2 megabytes"),
    ],
    ids=["not announced", "br", "twice", "plain", "cut", "empty", "garbage behind", "too large", "a bomb"],
)
def test_other_compressed_bodies_are_refused(client, body, encoding, status, message):
    refused(post(client, body, encoding), status, message)


def test_a_bad_text_among_good_ones_fails_alone(trained_once, monkeypatch):
    windows = TaskModel.windows

    def refuses(model: TaskModel, inputs: list[Any], *others: Any) -> Any:
        if any("bad" in one["text"] for one in inputs):
            raise HeadwayError("input 1: it is bad. Remove it.")
        if any("broken" in one["text"] for one in inputs):
            raise ZeroDivisionError("internal")
        return windows(model, inputs, *others)

    monkeypatch.setattr(TaskModel, "windows", refuses)
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


def test_a_model_that_cannot_be_opened_is_a_server_error_without_its_path(make_client, trained_once, tmp_path):
    broken = Path(shutil.copytree(trained_once, tmp_path / "broken"))
    client = make_client(folders=(broken,))
    (broken / "model.safetensors").write_bytes(b"")
    assert str(broken) not in refused(client.post("/predict", json={"inputs": ["a"]}), 500)


def test_every_path_but_health_requires_the_key(make_client):
    client = make_client(key="s3cret ключ")
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
    key_from_a_file = make_client(key="secret\n")
    assert key_from_a_file.get("/info", headers={"Authorization": "Bearer secret"}).status_code == 200
    assert "securitySchemes" in client.get("/openapi.json", headers={"Authorization": given.encode()}).text
    with pytest.raises(HeadwayError, match="empty"):
        make_client(key=" ")


@pytest.mark.parametrize("limit", [{"timeout": 0}, {"max_texts": -1}, {"max_body": float("nan")}])
def test_a_limit_must_be_positive_and_finite(limit):
    with pytest.raises(HeadwayError, match="must be above 0"):
        Limits(**limit)
