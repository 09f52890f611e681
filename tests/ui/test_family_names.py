"""The command line, the HTTP API and the browser name the family of a model, and offer it for what it can do."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from api_client import refused as refused_response
from fastapi.testclient import TestClient
from headway.core.checkpoints.checkpoint import save_checkpoint
from headway.core.checkpoints.families.registry import FAMILIES
from headway.core.models.heads import Network, SequenceHead, new_backbone, reads_segments
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks import load
from headway.ui.browser.tabs.generate import language_models
from headway.ui.browser.tabs.inspection import choose_model
from headway.ui.browser.tabs.predict import describe_model
from headway.ui.browser.tabs.train_form import model_names
from headway.ui.http.api import create_api
from headway.ui.model_registry import ModelRegistry

SIZES = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "intermediate_size": 64, "max_positions": 48}
TOKENIZERS = {"roberta": "roberta_tokenizer_folder", "distilbert": "wordpiece_folder", "electra": "wordpiece_folder"}


@pytest.fixture(scope="module", params=TOKENIZERS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of a family with random weights."""
    tokenizer = Tokenizer.load(request.getfixturevalue(TOKENIZERS[kind]))
    torch.manual_seed(0)
    changes = {"embedding_size": 16} if kind == "electra" else {}
    backbone = new_backbone(replace(FAMILIES[kind].config, vocab_size=tokenizer.vocab_size, **SIZES, **changes))
    folder = tmp_path_factory.mktemp("models") / "kin"
    folder.mkdir()
    save_checkpoint(folder, Network(backbone, SequenceHead(backbone.config, 2)), labels=("bad", "good"))
    tokenizer.save(folder, segments=reads_segments(backbone.config))
    return folder


@pytest.fixture(scope="module")
def registry(model: Path) -> ModelRegistry:
    return ModelRegistry([model], built_in=False)


def test_the_browser_names_the_family_and_offers_the_model_for_its_tasks(registry, model, kind):
    title = FAMILIES[kind].title
    assert f"{title}, 1 layers" in describe_model(load(model))
    about, *_ = choose_model(registry, 2, "kin")
    assert title in about
    assert model_names(registry, "text-classification") == model_names(registry, "fill-mask") == ["kin"]
    assert model_names(registry, "text-generation") == language_models(registry) == []


def test_the_api_names_the_family(registry, kind):
    api = create_api(registry)
    client = TestClient(api)
    (described,) = client.get("/info").json()["models"]
    assert (described["kind"], described["task"]) == (kind, "text-classification")
    (found,) = client.post("/predict", json={"inputs": ["the cat sat"]}).json()["predictions"]
    assert set(found["scores"]) == {"bad", "good"}
    assert len(client.post("/embed", json={"texts": ["the cat"]}).json()["vectors"][0]) == 32
    message = f"is {FAMILIES[kind].with_article}, which cannot generate text"
    refused_response(client.post("/generate", json={"prompt": "a", "model": "kin"}), 422, message)
    api.state.serving.close(10)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("generate",), ", which fills masks"),
        (("prompt", "--labels", "a,b"), " without a head for masked tokens"),
    ],
    ids=["generate", "prompt"],
)
def test_a_command_for_language_models_names_the_family(headway, model, kind, command, reason):
    name, *options = command
    ran = headway(name, model, "a text", *options)
    assert ran.code == 2
    assert f"is {FAMILIES[kind].with_article}{reason}" in ran.err
    assert "GPT-2" in ran.err
