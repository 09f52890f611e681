"""The HTTP API and the browser with an encoder-decoder: it predicts, and what it cannot do is refused."""

import pytest
from api_client import refused
from fastapi.testclient import TestClient
from headway.core.checkpoints.hub import BUILT_IN
from headway.core.checkpoints.joining import join_models
from headway.tasks import TextToText
from headway.ui.browser.tabs.generate import language_models
from headway.ui.browser.tabs.predict import offer_similar
from headway.ui.browser.tabs.train_form import model_names
from headway.ui.http.api import create_api
from headway.ui.model_registry import ModelRegistry


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "joined"
    folder.mkdir()
    join_models(BUILT_IN["mini-bert"], BUILT_IN["mini-gpt2"], folder)
    return ModelRegistry([folder], built_in=False)


def test_a_server_predicts_with_it_and_refuses_what_it_cannot_do(registry):
    with TestClient(create_api(registry)) as client:
        client.portal.call(client.app.state.serving.warm_up)
        (described,) = client.get("/info").json()["models"]
        assert (described["kind"], described["task"]) == ("encoder-decoder", "text-to-text")
        (found,) = client.post("/predict", json={"inputs": ["the cat"]}).json()["predictions"]
        assert {"text", "stopped"} <= set(found)
        for path, body in {
            "/generate": {"prompt": "a"},
            "/embed": {"texts": ["a"]},
            "/v1/embeddings": {"input": ["a"]},
        }.items():
            refused(client.post(path, json={**body, "model": "joined"}), 422, "use /predict")


def test_generate_refuses_it_before_it_shows_a_prompt(headway, registry, tmp_path):
    rows = [{"input": "the cat", "output": "my cat"}] * 2
    model = TextToText().on(registry.find("joined").folder)
    model.fit(rows, output=tmp_path / "pairs", max_steps=1, eval_fraction=0, device="cpu", progress=False)
    ran = headway("generate", tmp_path / "pairs", "the cat")
    assert ran.code == 2
    assert "Use it with headway predict" in " ".join(ran.err.split())
    assert "template" not in ran.err


def test_the_browser_offers_it_for_text_to_text_alone(registry):
    assert model_names(registry, "text-to-text") == ["joined"]
    assert model_names(registry, "text-generation") == language_models(registry) == []
    assert registry.text_readers() == []  # the tab Inspect


def test_the_tab_predict_offers_similar_sentences_for_models_that_can_be_embedded_alone(registry, trained_once):
    both = ModelRegistry([registry.find("joined").folder, trained_once], built_in=False)
    assert not offer_similar(both, "joined").visible
    assert offer_similar(both, trained_once.name).visible


def test_the_description_of_the_api_offers_it_for_predictions_alone(registry):
    with TestClient(create_api(registry)) as client:
        bodies = {
            path: str(one["post"])
            for path, one in client.get("/openapi.json").json()["paths"].items()
            if "post" in one
        }
    assert {path for path, one in bodies.items() if "joined" in one} == {"/predict"}
