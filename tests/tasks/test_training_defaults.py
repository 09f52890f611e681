"""A run that names no learning rate and no epochs: what it gets is said, recorded, and repeated by run.yaml."""

import json

import pytest
import yaml
from headway.core.training.defaults import RATE, suited_rate
from headway.core.training.training_events import Started
from headway.tasks import TASKS, TextClassification
from headway.tasks.base.results import Prepared

ROWS = [{"text": f"{start} {thing}", "label": thing} for start in "abcdefgh" for thing in ("cat", "dog", "mat")]


def train(folder, output, task=None, **options):
    options = {"output": output, "precision": "fp32", "device": "cpu", "eval_fraction": 0, **options}
    events = list((task or TextClassification()).on(folder).train(options.pop("rows", ROWS), **options))
    note = [one for event in events if isinstance(event, Prepared) for one in event.notes if "learning rate" in one]
    started = next(event for event in events if isinstance(event, Started))
    return note, started, json.loads((output / "headway.json").read_text())


def test_the_chosen_values_are_explained_used_and_recorded(bert_folder, tmp_path):
    (note,), started, info = train(bert_folder, tmp_path / "out", settings={"data": "rows.csv"}, batch_size=12)
    rate = suited_rate(32)
    assert f"learning rate {rate:g}" in note
    assert "--epochs" in note
    assert started.learning_rate == info["training"]["learning_rate"] == rate
    assert info["training"]["epochs"] * 2 == started.total_steps == info["steps"] > 6
    ran = yaml.safe_load((tmp_path / "out/run.yaml").read_text())
    assert ran == {"data": "rows.csv", "learning-rate": rate, "epochs": info["training"]["epochs"]}


def test_given_values_win_in_silence(bert_folder, tmp_path):
    given = {"learning_rate": 1e-3, "epochs": 1, "settings": {"epochs": 1, "learning-rate": 1e-3}}
    note, started, info = train(bert_folder, tmp_path / "out", **given)
    assert not note
    assert (started.learning_rate, started.total_steps) == (1e-3, 1)
    assert info["training"]["learning_rate"] == 1e-3


def test_steps_that_are_given_make_no_epochs(bert_folder, tmp_path):
    (note,), started, _ = train(bert_folder, tmp_path / "out", max_steps=2, settings={"max-steps": 2})
    assert "epochs" not in note
    assert started.total_steps == 2
    assert "epochs" not in yaml.safe_load((tmp_path / "out/run.yaml").read_text())


def test_frozen_features_have_no_rate_and_no_epochs(bert_folder, tmp_path):
    note, started, info = train(
        bert_folder, tmp_path / "out", TextClassification(frozen=True), settings={"frozen": True}
    )
    assert not note
    assert started.learning_rate == 0
    assert "learning_rate" not in info["training"]


@pytest.mark.parametrize("name", ["fill-mask", "text-generation"])
def test_language_models_keep_the_usual_values(name, bert_folder, gpt2_folder, tmp_path):
    rows = [f"{row['text']} and more" for row in ROWS]
    folder = {"fill-mask": bert_folder, "text-generation": gpt2_folder}[name]
    note, started, info = train(folder, tmp_path / "out", TASKS[name](), rows=rows)
    assert not note
    assert started.learning_rate == RATE
    assert info["training"]["epochs"] == 3


def test_an_interrupted_run_with_default_values_resumes_to_the_same_weights(bert_folder, tmp_path):
    options = {"precision": "fp32", "device": "cpu", "batch_size": 12, "save_steps": 10}
    train(bert_folder, tmp_path / "whole", **options)
    steps = iter(range(15))
    with pytest.raises(KeyboardInterrupt):
        train(bert_folder, tmp_path / "cut", stop=lambda: next(steps, None) is None, **options)
    _, started, _ = train(bert_folder, tmp_path / "cut", resume=True, **options)
    assert started.resumed_from == 16
    for name in ("model.safetensors", "log.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
