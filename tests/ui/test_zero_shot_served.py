"""/zero-shot-classification and the browser form: labels of the request, with the scores of Python."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from headway.core.errors import HeadwayError
from headway.tasks import load
from headway.ui.browser.tabs.predict_zero_shot import choose_labels, offer_zero_shot
from headway.ui.http.api import create_api
from headway.ui.model_registry import ModelRegistry
from jsonschema_rs import Draft202012Validator
from page_elements import Page

PATH = "/zero-shot-classification"
TEXTS = ["a lovely film", "an awful meal", "what a walk", "a good song"]
BODY = {"inputs": TEXTS, "labels": ["film", "meal"]}
SEVERAL = "multi_label_classification"


@pytest.fixture(scope="module")
def registry(nli: Path, trained_once: Path, tiny: Path) -> ModelRegistry:
    """The first models do not know entailment."""
    return ModelRegistry([tiny, trained_once, nli], built_in=False)


@pytest.fixture(scope="module")
def client(registry: ModelRegistry):
    api = create_api(registry)
    yield TestClient(api)
    api.state.serving.close(10)


def scores(answer) -> list[dict[str, float]]:
    assert answer.status_code == 200, answer.text
    assert answer.json()["task"] == "zero-shot-classification"
    return [one["scores"] for one in answer.json()["predictions"]]


def assert_same(found: list[dict[str, float]], expected: list) -> None:
    assert [list(one) for one in found] == [list(one.scores) for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other.scores, abs=1e-5)


def test_the_answers_are_those_of_python(client, nli):
    expected = load(nli, labels=BODY["labels"]).predict(TEXTS)
    assert len({one.score for one in expected}) == len(TEXTS)
    answer = client.post(PATH, json=BODY)
    assert_same(scores(answer), expected)
    assert answer.json()["model"] == nli.name
    assert [one["label"] for one in answer.json()["predictions"]] == [one.label for one in expected]
    several = client.post(PATH, json={**BODY, "multi_label": True, "threshold": 0.0})
    assert_same(scores(several), load(nli, labels=BODY["labels"], problem_type=SEVERAL).predict(TEXTS))
    assert [one["labels"] for one in several.json()["predictions"]] == [BODY["labels"]] * len(TEXTS)


def test_each_request_has_labels_and_a_hypothesis_of_its_own(client, nli):
    words = {"0": "film", "1": "meal", "2": "walk"}
    body = {"inputs": TEXTS, "labels": words, "hypothesis": "A {}.", "model": nli.name}
    expected = load(nli, labels=list(words), verbalize=words, hypothesis="A {label}.").predict(TEXTS)
    assert_same(scores(client.post(PATH, json=body)), expected)
    assert_same(scores(client.post(PATH, json=BODY)), load(nli, labels=BODY["labels"]).predict(TEXTS))


def test_a_long_text_is_read_in_windows_for_every_label(client, nli):
    texts = ["a good film " * 50 + end for end in ("an awful meal", "a lovely walk")]
    found = client.post(PATH, json={**BODY, "inputs": texts})
    assert_same(scores(found), load(nli, labels=BODY["labels"]).predict(texts))
    first, second = found.json()["predictions"]
    assert first["scores"] != second["scores"]
    assert not first["truncated"]


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"labels": None}, 422, "labels is null"),
        ({"labels": []}, 422, "labels is empty"),
        ({"labels": "film"}, 422, "labels is a string"),
        ({"labels": ["film"]}, 422, "(multi_label)"),
        ({"labels": ["film", "film"]}, 422, "different"),
        ({"labels": ["film", 3]}, 422, "labels[1] is a number"),
        ({"labels": [str(i) for i in range(999)]}, 422, "the limit is 256"),
        ({"hypothesis": "A film."}, 422, "has no {label}"),
        ({"hypothesis": "a film " * 50 + "{label}"}, 422, "leaves no room"),
        ({"threshold": 0.3}, 422, "several labels"),
        ({"entailment": "yes"}, 422, "has no such label"),
        ({"inputs": [{"text": "a"}]}, 422, "inputs[0] is an object"),
        ({"candidate_labels": ["a"]}, 422, "no field 'candidate_labels'"),
        ({"model": "nothing"}, 404, "no model 'nothing'"),
        ({"model": "model"}, 422, "reads single texts"),
    ],
)
def test_invalid_bodies_are_refused(client, change, status, words):
    answer = client.post(PATH, json={**BODY, **change})
    assert answer.status_code == status, answer.text
    message = answer.json()["error"]["message"]
    assert words in message
    assert "--" not in message


def test_a_server_without_such_a_model_says_so(make_client):
    answer = make_client().post(PATH, json=BODY)
    assert answer.status_code == 404
    assert "no classifier of pairs" in answer.json()["error"]["message"]


def test_the_description_accepts_what_the_server_accepts(client, nli):
    described = client.get("/openapi.json").json()["paths"][PATH]["post"]
    content = described["requestBody"]["content"]["application/json"]
    assert client.post(PATH, json=content["example"]).status_code == 200
    assert content["schema"]["properties"]["model"]["enum"] == [nli.name, None]
    bodies = [
        BODY,
        {**BODY, "labels": {"0": "film", "1": "meal"}},
        {**BODY, "labels": ["film"], "multi_label": True, "threshold": 0.2},
        {**BODY, "labels": ["film"]},
        {**BODY, "threshold": 0.2},
        {**BODY, "hypothesis": "A film."},
        {**BODY, "labels": ["film", "film"]},
    ]
    for body in bodies:
        valid = Draft202012Validator(content["schema"]).is_valid(body)
        assert valid == (client.post(PATH, json=body).status_code == 200), body


def test_the_tab_predict_offers_labels_of_ones_own_for_models_that_know_entailment(registry, nli, trained_once, tiny):
    assert offer_zero_shot(registry, nli.name).visible
    assert not any(offer_zero_shot(registry, name).visible for name in (trained_once.name, tiny.name, None))


def test_the_form_in_the_browser_shows_the_scores_of_python(registry, nli):
    page = Page(choose_labels(registry, nli.name, TEXTS[0], "film, meal\nwalk", "A {label}.", False))
    expected = load(nli, labels=["film", "meal", "walk"], hypothesis="A {label}.").predict(TEXTS[0])
    assert expected.label in page.text
    for label, score in expected.scores.items():
        assert label in page.text
        assert f"{score:.2f}" in page.text or f"{score:.3f}" in page.text or f"{100 * score:.1f}" in page.text
    several = choose_labels(registry, nli.name, TEXTS[0], "film", "A {label}.", True)
    assert "film" in Page(several).text
    long = "a good film " * 50
    assert choose_labels(registry, nli.name, long, "film,meal", "A {label}.", False)


@pytest.mark.parametrize(
    ("text", "labels", "hypothesis", "words"),
    [
        (" ", "film,meal", "A {label}.", "enter a text"),
        ("a", " ,", "A {label}.", "the labels to choose from"),
        ("a", "film", "A {label}.", "at least two labels"),
        ("a", "film,film", "A {label}.", "must be different"),
        ("a", "film,meal", "A label.", "has no {label}"),
    ],
)
def test_the_form_says_what_is_missing(registry, nli, text, labels, hypothesis, words):
    with pytest.raises(HeadwayError, match=words):
        choose_labels(registry, nli.name, text, labels, hypothesis, False)
