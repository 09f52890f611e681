"""The generation options of POST /predict for text-to-text models."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_client import one_model, refused
from fastapi.testclient import TestClient
from headway.core.training.training_config import TrainConfig
from headway.tasks import TextToText, load
from headway.ui.http.api import create_api
from headway.ui.model_registry import ModelRegistry
from jsonschema_rs import Draft202012Validator
from tiny_gpt2 import make_gpt2

FAST = TrainConfig(max_steps=2, batch_size=8, learning_rate=1e-3, precision="fp32", device="cpu")
TEXTS = ["the cat sat on a mat", "a dog"]


@pytest.fixture(scope="module")
def folder(byte_level_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pairs")
    (place / "gpt2").mkdir()
    make_gpt2(byte_level_folder, place / "gpt2")
    task = TextToText(max_new_tokens=6, temperature=0.7, eval_outputs=0)
    task.on(place / "gpt2").fit(TEXTS * 4, TEXTS * 4, output=place / "writer", config=FAST, eval_fraction=0)
    return place / "writer"


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    with TestClient(one_model(folder, max_new_tokens=50, max_samples=4)) as opened:
        yield opened


def ask(client: TestClient, **options: Any) -> Any:
    return client.post("/predict", json={"inputs": TEXTS, **options})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_new_tokens": 3},
        {"temperature": 0},
        {"temperature": None},
        {"num_beams": 3, "length_penalty": 0.5, "no_repeat_ngram_size": 1},
        {"seed": 4, "top_k": 5, "repetition_penalty": 1.5, "max_new_tokens": 12},
    ],
)
def test_outputs_follow_the_options_of_the_request_and_else_those_of_the_model(client, folder, options):
    expected = [one.text for one in load(folder, **options).predict(TEXTS)]
    assert [one["text"] for one in ask(client, **options).json()["predictions"]] == expected
    assert [one["text"] for one in ask(client).json()["predictions"]] == [
        one.text for one in load(folder).predict(TEXTS)
    ]


def test_requests_with_different_options_share_a_batch(folder):
    model = load(folder)
    given = [{"max_new_tokens": 2}, {"max_new_tokens": 9, "temperature": 0}, {}, {"max_new_tokens": 2}]
    windows = [*(model.windows([TEXTS[0]], options)[0] for options in given)]
    found = model.join_windows(windows, model.predict_windows([one for part in windows for one in part]))
    expected = [load(folder, **options).predict(TEXTS[0]) for options in given]
    assert found == expected


def test_both_names_of_an_option_are_one(client):
    assert ask(client, beams=2).json() == ask(client, num_beams=2).json()
    refused(ask(client, beams=2, num_beams=2), 422, "two names")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1}, "temperature=-1"),
        ({"temperature": "warm"}, "temperature='warm'"),
        ({"num_beams": 2.5}, "num_beams=2.5"),
        ({"num_beams": "2"}, "num_beams='2'"),
        ({"num_beams": 2, "temperature": 1}, "samples at random"),
        ({"temperature": 0, "top_k": 3}, "samples at random"),
        ({"no_repeat_ngram_size": 0}, "no_repeat_ngram_size=0"),
        ({"max_new_tokens": 51}, "limit is 50"),
        ({"num_beams": 5}, "limit is 4"),
        ({"num_return_sequences": 2}, "no field 'num_return_sequences'"),
    ],
)
def test_impossible_options_are_refused_as_by_generate(client, options, message):
    refused(ask(client, **options), 422, message)


def test_a_model_that_writes_nothing_has_no_such_options(trained_once):
    with TestClient(one_model(trained_once)) as client:
        message = refused(ask(client, max_new_tokens=3), 422, "max_new_tokens")
        assert trained_once.name in message


def test_the_description_has_the_options_of_the_models_that_have_them(client, folder, trained_once):
    def validator(opened: TestClient) -> Draft202012Validator:
        body = opened.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]
        return Draft202012Validator(body["content"]["application/json"]["schema"])

    with TestClient(create_api(ModelRegistry([trained_once, folder], built_in=False))) as both:
        check = validator(both)
    for options, valid in [
        ({}, True),
        ({"temperature": 0.5, "top_k": 4, "seed": 3}, True),
        ({"beams": 3, "max_new_tokens": 9}, True),
        ({"beams": 3, "top_k": 4}, False),
        ({"temperature": -1}, False),
        ({"no_repeat_ngram_size": 0}, False),
        ({"no_repeat_ngram_size": 2}, True),
    ]:
        assert check.is_valid({"inputs": TEXTS, "model": folder.name, **options}) is valid
        assert check.is_valid({"inputs": TEXTS, "model": trained_once.name, **options}) is (not options)
        assert ask(client, **options).is_success is valid
