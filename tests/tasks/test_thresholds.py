"""Thresholds and scales that the user sets: --threshold for several labels, --scale for similarity."""

import json
from pathlib import Path
from typing import Any

import pytest
from headway.core.errors import HeadwayError
from headway.core.training.training_config import TrainConfig
from headway.tasks import SentenceSimilarity, TextClassification, load
from headway.tasks.base.model import TaskModel
from headway.tasks.classification.thresholds import apply_threshold, normalize_threshold
from headway.ui.cli import main

FAST = TrainConfig(max_steps=2, batch_size=8, learning_rate=1e-3, precision="fp32", device="cpu")
TEXTS = ["my parcel " * (i % 5 + 1) + "money" * (i % 2) for i in range(24)]
LABELS = ("a, b", "billing", "x=y")


@pytest.fixture(scope="module")
def folder(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("several") / "model"
    labels = [LABELS[: i % 4] for i in range(24)]
    TextClassification().on(bert_folder).fit(TEXTS, labels, output=output, config=FAST, eval_fraction=0)
    return output


@pytest.fixture
def model(folder: Path) -> TaskModel:
    return load(folder)


def refused(call: Any, *parts: str) -> None:
    with pytest.raises(HeadwayError) as caught:
        call()
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0.3, (0.3, 0.3, 0.3)),
        ("0.3", (0.3, 0.3, 0.3)),
        (1, (1.0, 1.0, 1.0)),
        ("billing=0.3", (0.5, 0.3, 0.7)),
        ("billing=0.3, a, b=.4,x=y=1", (0.4, 0.3, 1.0)),
        ({"billing": 0.3, "x=y": 0}, (0.5, 0.3, 0.0)),
        ('{"a, b": 0.25}', (0.25, 0.6, 0.7)),
    ],
)
def test_a_threshold_is_one_number_or_one_for_each_of_some_labels(given: Any, expected: tuple[float, ...]):
    stored = normalize_threshold(given)
    assert normalize_threshold(stored) == stored
    assert apply_threshold(stored, LABELS, (0.5, 0.6, 0.7)) == expected


@pytest.mark.parametrize(
    "given", [1.2, -0.1, "high", "billing=", "=0.3", "billing=2", {}, "{", float("nan"), True, []]
)
def test_other_thresholds_are_refused(given: Any):
    refused(lambda: normalize_threshold(given), "--threshold", "one number, or numbers by label")


def test_predictions_follow_the_threshold(model: TaskModel):
    probabilities = model.predict_proba(TEXTS)
    middle = float(probabilities[:, 1].mean())
    found = model.predict(TEXTS, threshold={"billing": middle, "a, b": 0, "x=y": 1})
    assert {True, False} == {"billing" in one.labels for one in found}
    for one, row in zip(found, probabilities, strict=True):
        assert ("billing" in one.labels) == (row[1] >= middle)
        assert "a, b" in one.labels
        assert "x=y" not in one.labels
    assert [one for _, one in model.predict_rows(TEXTS, threshold=0)] == model.predict(TEXTS, threshold=0)
    assert all(one.labels == model.labels for one in model.predict(TEXTS, threshold=0))
    assert model.predict(TEXTS) == load(model.base).predict(TEXTS)
    assert model.task.with_options({"threshold": middle}).choose_labels(found[0].scores) == list(
        model.predict(TEXTS[0], threshold=middle).labels
    )


def test_a_threshold_is_kept_with_the_model(model: TaskModel, tmp_path: Path):
    model.set_options(threshold={"billing": 0.0})
    model.save(tmp_path / "out")
    again = load(tmp_path / "out")
    assert all("billing" in one.labels for one in again.predict(TEXTS))
    assert "`billing` 0.000" in (tmp_path / "out/README.md").read_text()
    model.fit(TEXTS, [LABELS[: i % 4] for i in range(24)], config=FAST)
    assert all("billing" in one.labels for one in model.predict(TEXTS))


def test_thresholds_of_unknown_labels_and_of_other_models_are_refused(model: TaskModel, bert_folder: Path):
    refused(lambda: model.predict(TEXTS, threshold={"biling": 0.3}), '"biling"', 'Did you mean "billing"?')
    one = TextClassification().on(bert_folder)
    one.fit(TEXTS, list("ab") * 12, config=FAST)
    refused(lambda: one.predict(TEXTS, threshold=0.3), "--threshold", "several labels")


def test_the_command_line_takes_thresholds(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def labels(*options: str) -> list[str]:
        assert main(["predict", str(folder), "my parcel", "--json", *options]) == 0
        return json.loads(capsys.readouterr().out)["labels"]

    assert labels("--threshold", "0") == list(LABELS)
    assert labels("--threshold", "1") == []
    assert labels("--threshold", "billing=1,a, b=0,x=y=1") == ["a, b"]
    config = tmp_path / "predict.yaml"
    config.write_text("threshold: billing=0,a, b=1,x=y=1\n")
    assert labels("--config", str(config)) == ["billing"]
    assert main(["predict", str(folder), "my parcel", "--threshold", "biling=0.2"]) == 2
    assert 'Did you mean "billing"?' in capsys.readouterr().err
    data = tmp_path / "test.jsonl"
    data.write_text(json.dumps({"text": "my parcel", "label": list(LABELS)}) + "\n")
    assert main(["evaluate", str(folder), "--data", str(data), "--threshold", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["f1"] == 1


# Similarity


PAIRS = [("my parcel", "the money", i % 4) for i in range(24)]


def test_a_known_scale_sets_the_targets_of_the_cosine(bert_folder: Path):
    inferred, known = SentenceSimilarity().on(bert_folder), SentenceSimilarity(scale="0,5").on(bert_folder)
    prepared, *_ = inferred.train(PAIRS, config=FAST)
    assert any("--scale LOWEST,HIGHEST sets another one" in note for note in prepared.notes)
    known.fit(PAIRS, config=FAST)
    assert (inferred.task.lowest, inferred.task.highest) == (0, 3)
    assert (known.task.lowest, known.task.highest) == (0, 5)
    pair: Any = (0, 5)
    assert SentenceSimilarity(scale=pair).scale == "0,5"
    assert known.evaluate([("a", "b", 7), ("my parcel", "d", 1)]).metrics.keys() >= {"spearman", "pearson"}


@pytest.mark.parametrize("scale", ["5", "5,0", "0,0", "a,b", "0,5,6", "0,inf", "nan,1"])
def test_an_impossible_scale_is_refused(scale: str):
    refused(lambda: SentenceSimilarity(scale=scale), f"--scale {scale}")


def test_scores_outside_of_the_scale_are_refused(bert_folder: Path):
    model = SentenceSimilarity(scale="0,2").on(bert_folder)
    refused(lambda: model.fit(PAIRS, config=FAST), "score 3", "--scale 0,2")
    refused(
        lambda: SentenceSimilarity(scale="0,1").on(bert_folder).fit([("a", "b")], config=FAST), "--scale", "--label"
    )
