"""The threshold of several labels in POST /predict."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_client import one_model, refused
from fastapi.testclient import TestClient
from headway.core.training.training_config import TrainConfig
from headway.tasks import TextClassification

FAST = TrainConfig(max_steps=2, batch_size=8, learning_rate=1e-3, precision="fp32", device="cpu")
TEXTS = ["a film " * (i % 5 + 1) for i in range(24)]


@pytest.fixture(scope="module")
def client(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("several") / "topics"
    labels = [("a", "b", "c")[: i % 4] for i in range(24)]
    TextClassification().on(tiny).fit(TEXTS, labels, output=folder, config=FAST, eval_fraction=0)
    with TestClient(one_model(folder)) as opened:
        yield opened


def ask(client: TestClient, threshold: Any) -> Any:
    return client.post("/predict", json={"inputs": ["a film", "a song"], "threshold": threshold})


def test_labels_follow_the_threshold_of_the_request(client: TestClient):
    plain = client.post("/predict", json={"inputs": ["a film", "a song"]}).json()["predictions"]
    assert ask(client, None).json()["predictions"] == plain
    for threshold, expected in ((0, ["a", "b", "c"]), (1, []), ({"a": 0, "b": 1, "c": 0.0}, ["a", "c"])):
        found = ask(client, threshold).json()["predictions"]
        assert [one["labels"] for one in found] == [expected] * 2
        assert [one["scores"] for one in found] == [one["scores"] for one in plain]
    assert client.post("/predict", json={"inputs": ["a film", "a song"]}).json()["predictions"] == plain


@pytest.mark.parametrize("threshold", ["0.5", True, [], {}, {"a": "1"}, {"a": None}, 1.5, -1, {"a": 2}, {"d": 0.5}])
def test_other_thresholds_are_refused(client: TestClient, threshold: Any):
    response = ask(client, threshold)
    message = refused(response, 422, "threshold")
    assert "--" not in message
    assert response.json()["error"]["param"] == "threshold"


def test_a_model_with_one_label_has_no_threshold(trained: Path):
    with TestClient(one_model(trained)) as client:
        refused(ask(client, 0.5), 422, "several labels")
