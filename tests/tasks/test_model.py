"""TaskModel from end to end: training, resuming, saving, predicting, evaluating, and errors on the way."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from headway.core.checkpoints.checkpoint import load_checkpoint
from headway.core.errors import HeadwayError
from headway.core.training.training_config import TrainConfig
from headway.core.training.training_events import Evaluated, Finished, Saved, Started, Step
from headway.tasks import TextClassification, load
from headway.tasks.base.inference import EXAMPLES_AT_ONCE
from headway.tasks.base.model import TaskModel
from headway.tasks.base.results import Prepared, Trained
from headway.tasks.data.places import format_places
from headway.tasks.data.read import read_table, stream_rows

FAST = TrainConfig(max_steps=4, batch_size=8, learning_rate=1e-3, precision="fp32", device="cpu", save_steps=2)
GOOD = "text,label\n" + "".join(
    f"{'my parcel has arrived' if i % 2 else 'where is the money'} {'thank you ' * (i % 5)}{i},{'ab'[i % 2]}\n"
    for i in range(24)
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "train.csv"
    path.write_text(GOOD, encoding="utf-8")
    return path


@pytest.fixture
def model(bert_folder: Path) -> TaskModel:
    return TextClassification().on(bert_folder)


def message(call: Any, *parts: object) -> str:
    """The message of the error that a call raises: one line with every part."""
    with pytest.raises(HeadwayError) as caught:
        call()
    text = str(caught.value)
    for part in parts:
        assert str(part) in text
    assert "\n" not in text
    return text


def left_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


# What training tells and leaves


def test_a_run_yields_its_events_in_order(model: TaskModel, data: Path, tmp_path: Path):
    events = list(model.train(data, output=tmp_path / "out", config=FAST))
    kinds = [type(event) for event in events]
    assert kinds[:2] == [Prepared, Started]
    assert kinds[-2:] == [Finished, Trained]
    assert kinds.count(Step) == 4
    assert {Evaluated, Saved} <= set(kinds)
    prepared, trained = events[0], events[-1]
    assert (prepared.examples, prepared.eval_examples) == (22, 2)
    assert any("2 rows are held out" in note and "seed 0" in note for note in prepared.notes)
    for event in events:
        assert json.loads(json.dumps(event.to_json(), allow_nan=False))["event"] == type(event).__name__.lower()
    assert prepared.to_json()["report"]["label_counts"] == {"a": 11, "b": 11}
    assert (trained.examples, trained.eval_examples, trained.steps) == (22, 2, 4)
    assert trained.tokens_per_second > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_final_metrics_are_those_of_the_best_weights(model: TaskModel, data: Path, tmp_path: Path, precision: str):
    config = replace(FAST, eval_steps=1, learning_rate=5e-3, precision=precision)
    events = list(model.train(data, data, output=tmp_path / "out", config=config))
    best = [event for event in events if isinstance(event, Evaluated) and event.best][-1]
    trained = events[-1]
    assert trained.best_step == best.step
    assert trained.metrics == pytest.approx(best.metrics, abs=1e-6)
    again = load(tmp_path / "out").evaluate(data)
    assert again.metrics == pytest.approx(trained.metrics, abs=1e-6)
    assert again.per_label == trained.per_label
    assert [row["examples"] for row in trained.per_label] == [12, 12]


def test_headway_json_describes_the_training(model: TaskModel, data: Path, tmp_path: Path):
    model.fit(data, output=tmp_path / "out", config=FAST, settings={"data": str(data), "épochs": 3})
    info = json.loads((tmp_path / "out/headway.json").read_text(encoding="utf-8"))
    assert (info["task"], info["base_from"]) == ("text-classification", "folder")
    assert info["base"].startswith("tiny-bert")
    assert "/" not in info["base"]
    assert info["data"]["train"]["source"] == "train.csv"
    assert len(info["data"]["train"]["fingerprint"]) == 16
    assert (info["data"]["train"]["examples"], info["data"]["train"]["rows"]) == (22, 24)
    assert (info["training"]["learning_rate"], info["training"]["precision"]) == (1e-3, "fp32")
    assert info["metrics"]
    assert (tmp_path / "out/run.yaml").read_text(encoding="utf-8") == f"data: {data}\népochs: 3\n"
    assert len((tmp_path / "out/log.jsonl").read_text().splitlines()) == 6  # four steps and two evaluations
    assert load(tmp_path / "out").info == info


def test_evaluation_data_is_read_with_the_columns_of_the_training_data(model: TaskModel, tmp_path: Path):
    (tmp_path / "train.csv").write_text(GOOD.replace("text,label", "said,meant"))
    (tmp_path / "dev.csv").write_text(
        "said,meant,comment\nwhere is the money,a,a comment that is far longer than that\n"
    )
    chosen = {"text": "said", "label": "meant"}
    model.fit(tmp_path / "train.csv", tmp_path / "dev.csv", output=tmp_path / "out", config=FAST, columns=chosen)
    assert (
        load(tmp_path / "out").evaluate(tmp_path / "dev.csv", columns=chosen).examples[0].text == "where is the money"
    )


def test_columns_may_be_given_by_number(model: TaskModel, tmp_path: Path):
    (tmp_path / "train.tsv").write_text("".join(f"{i % 2}\tmy parcel number {i}\n" for i in range(8)))
    model.fit(tmp_path / "train.tsv", output=tmp_path / "out", config=FAST, columns={"text": 1, "label": "0"})
    assert model.task.labels == ("0", "1")


def test_few_rows_are_not_split(model: TaskModel, tmp_path: Path):
    rows = [{"text": f"my parcel {i}", "label": "ab"[i % 2]} for i in range(8)]
    prepared, *_, trained = model.train(rows, output=tmp_path / "out", config=FAST)
    assert any("nothing is held out" in note for note in prepared.notes)
    assert any("8 rows are too few to hold some of them out" in note for note in prepared.notes)
    assert (trained.metrics, trained.per_label, trained.eval_examples) == ({}, [], 0)


def test_long_texts_are_trained_on_and_predicted_in_windows(bert_folder: Path, tmp_path: Path):
    rows = [{"text": "the money is here " * (20 * (i % 2) + 1), "label": "ab"[i % 2]} for i in range(8)]
    model = TextClassification(max_length=16).on(bert_folder)
    prepared, *_ = model.train(rows, output=tmp_path / "out", config=FAST)
    assert [finding.kind for finding in prepared.report.findings if finding.kind in ("long", "cut")] == ["long"]
    loaded = load(tmp_path / "out")
    assert loaded.limit == 16
    assert loaded.predict(rows[1]["text"]) != loaded.predict(rows[1]["text"][:30])


def test_truncated_texts_are_counted_in_training_and_evaluation(bert_folder: Path, tmp_path: Path):
    rows = [{"text": "the money is here " * (20 * (i % 2) + 1), "label": "ab"[i % 2]} for i in range(8)]
    model = TextClassification(max_length=16, long_texts="cut").on(bert_folder)
    prepared, *_ = model.train(rows, output=tmp_path / "out", config=FAST)
    assert any(finding.kind == "cut" and finding.level == "warning" for finding in prepared.report.findings)
    assert load(tmp_path / "out").evaluate(rows).notes[-1] == "4 of 8 texts are cut at 16 tokens"


# Nothing is lost, nothing is overwritten


def test_an_existing_output_is_refused_before_data_is_read(model: TaskModel, tmp_path: Path):
    (tmp_path / "out").mkdir()
    message(lambda: model.fit("no such file", output=tmp_path / "out"), "already exists", "--overwrite")


def test_overwrite_replaces_a_model(model: TaskModel, data: Path, tmp_path: Path):
    model.fit(data, output=tmp_path / "out", config=FAST)
    first = (tmp_path / "out/model.safetensors").read_bytes()
    model.fit(data, output=tmp_path / "out", config=FAST, seed=1, overwrite=True)
    assert (tmp_path / "out/model.safetensors").read_bytes() != first
    assert {path.name for path in tmp_path.iterdir()} == {"train.csv", "out"}


def test_overwrite_replaces_only_model_folders(model: TaskModel, data: Path, tmp_path: Path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter.txt").write_text("hello")
    message(lambda: model.fit(data, output=tmp_path / "home", config=FAST, overwrite=True), "not a model folder")
    message(lambda: model.fit(data, output=data, config=FAST, overwrite=True), "not a model folder")
    assert (tmp_path / "home/letter.txt").read_text() == "hello"
    assert data.read_text() == GOOD


def test_a_model_is_replaced_only_by_a_complete_one(model: TaskModel, data: Path, tmp_path: Path):
    model.fit(data, output=tmp_path / "out", config=FAST)
    before = (tmp_path / "out/model.safetensors").read_bytes()
    data.write_text("text,label\nonly one,a\n")
    message(lambda: model.fit(data, output=tmp_path / "out", config=FAST, overwrite=True), "every row has the label")
    assert (tmp_path / "out/model.safetensors").read_bytes() == before


def interrupt(
    model: TaskModel, data: Path, output: Path, after: int, config: TrainConfig = FAST, **options: Any
) -> None:
    """Starts a run and stops reading its events after a step."""
    events = model.train(data, output=output, config=config, **options)
    for event in events:
        if isinstance(event, Step) and event.step == after:
            events.close()  # pyright: ignore[reportAttributeAccessIssue]


def test_a_resumed_run_gives_the_same_model_as_an_uninterrupted_one(bert_folder: Path, data: Path, tmp_path: Path):
    def fresh() -> TaskModel:
        return TextClassification().on(bert_folder)

    fresh().fit(data, output=tmp_path / "whole", config=FAST)
    interrupt(fresh(), data, tmp_path / "broken", after=3)
    assert not (tmp_path / "broken").exists()
    events = list(fresh().train(data, output=tmp_path / "broken", config=FAST, resume=True))
    assert next(event for event in events if isinstance(event, Started)).resumed_from == 2
    for name in ("model.safetensors", "log.jsonl", "config.json"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not (tmp_path / "broken.running").exists()


def test_an_interrupted_run_is_only_discarded_on_request(model: TaskModel, data: Path, tmp_path: Path):
    interrupt(model, data, tmp_path / "out", after=3)
    message(
        lambda: model.fit(data, output=tmp_path / "out", config=FAST), "interrupted run", "--resume", "--overwrite"
    )
    message(
        lambda: model.fit(data, output=tmp_path / "out", config=FAST, resume=True, overwrite=True), "give one of them"
    )
    data.write_text("text,label\nonly one,a\n")  # what cannot be trained on costs the run nothing either
    message(lambda: model.fit(data, output=tmp_path / "out", config=FAST, overwrite=True), "every row has the label")
    assert (tmp_path / "out.running/checkpoint-000002").is_dir()
    data.write_text(GOOD)
    model.fit(data, output=tmp_path / "out", config=FAST, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == {"train.csv", "out"}


def test_a_run_interrupted_before_its_first_checkpoint_leaves_no_files(model: TaskModel, data: Path, tmp_path: Path):
    interrupt(model, data, tmp_path / "out", after=1)
    assert {path.name for path in tmp_path.iterdir()} == {"train.csv"}


def test_a_run_folder_without_a_checkpoint_is_replaced(model: TaskModel, data: Path, tmp_path: Path):
    (tmp_path / "out.running").mkdir()
    (tmp_path / "out.running/log.jsonl").write_text("{}\n")
    model.fit(data, output=tmp_path / "out", config=FAST)
    assert {path.name for path in tmp_path.iterdir()} == {"train.csv", "out"}


def test_a_resumed_run_replaces_the_model_that_it_was_started_to_replace(model: TaskModel, data: Path, tmp_path: Path):
    model.fit(data, output=tmp_path / "out", config=FAST)
    before = (tmp_path / "out/model.safetensors").read_bytes()
    other = replace(FAST, seed=5)
    interrupt(model, data, tmp_path / "out", after=3, config=other, overwrite=True)
    assert (tmp_path / "out/model.safetensors").read_bytes() == before
    model.fit(data, output=tmp_path / "out", config=other, resume=True)
    assert (tmp_path / "out/model.safetensors").read_bytes() != before


def test_a_finished_run_cannot_be_resumed(model: TaskModel, data: Path, tmp_path: Path):
    model.fit(data, output=tmp_path / "out", config=FAST)
    message(lambda: model.fit(data, output=tmp_path / "out", config=FAST, resume=True), "nothing to resume")


def test_resume_without_an_interrupted_run_starts_one(model: TaskModel, data: Path, tmp_path: Path):
    model.fit(data, output=tmp_path / "out", config=FAST, resume=True)
    assert (tmp_path / "out/config.json").exists()


@pytest.mark.parametrize("change", ["data", "task", "base"])
def test_a_run_is_not_resumed_with_other_data_or_options(
    model: TaskModel, gpt2_folder: Path, bert_folder: Path, data: Path, tmp_path: Path, change: str
):
    interrupt(model, data, tmp_path / "out", after=3)
    if change == "data":
        data.write_text(GOOD.replace("where is", "where was"))
    elif change == "task":
        model = TextClassification(class_weight="balanced").on(bert_folder)
    else:
        model = TextClassification().on(shutil.copytree(bert_folder, tmp_path / "other"))
    message(lambda: model.fit(data, output=tmp_path / "out", config=FAST, resume=True), "cannot be resumed")


def test_a_run_that_fails_to_save_because_the_disk_is_full_can_be_resumed(
    model: TaskModel, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("headway.tasks.base.model_folder.save_checkpoint", full)
        message(lambda: model.fit(data, output=tmp_path / "out", config=FAST), tmp_path / "out", "disk is full")
    assert {path.name for path in tmp_path.iterdir()} == {"train.csv", "out.running"}
    events = list(model.train(data, output=tmp_path / "out", config=FAST, resume=True))
    assert not [event for event in events if isinstance(event, Step)]  # all was done already
    assert load(tmp_path / "out").predict("my parcel")
    assert not (tmp_path / "out.running").exists()


def test_a_loss_that_is_not_finite_leaves_no_files(model: TaskModel, data: Path, tmp_path: Path):
    with torch.no_grad():
        model.network.backbone.token_embedding.weight.fill_(float("nan"))
    message(lambda: model.fit(data, output=tmp_path / "out", config=FAST), "step 1", "--learning-rate")
    assert not (tmp_path / "out").exists()
    message(lambda: model.predict("text"), "no trained head")


# Bad input


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ["train.csv", "no such file"]),
        ("", ["train.csv", "empty"]),
        ("text,label\n", ["train.csv", "only a header"]),
        (b"\x00\x01\x02binary", ["train.csv", "NUL byte"]),
        ("text,label\na text,x\nanother, with a comma,y\n", ["train.csv, line 3", "3 fields", "2 are expected"]),
        ("text,label\na text,x\nanother,\n", ["train.csv", "label"]),
        ("text,label\na text,x\nanother,x\n", ["train.csv", "every row has the label 'x'", "--label"]),
        ("text,label\n" + "a text,1.5\n" * 10 + "more,nan\n", ["train.csv", "1.5"]),
        ("text,label\n" + "a text,1.5\nb text,2.5\n" * 10 + "more,inf\n", ["train.csv, line 22", "'inf'", "finite"]),
    ],
)
def test_bad_training_data_is_named_with_its_correction_and_leaves_no_files(
    model: TaskModel, tmp_path: Path, content: str | bytes | None, parts: list[str]
):
    path = tmp_path / "train.csv"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = left_in(tmp_path)
    message(lambda: model.fit(path, output=tmp_path / "out", config=FAST), *parts)
    assert left_in(tmp_path) == before


def test_bad_evaluation_data_is_named_before_training(model: TaskModel, data: Path, tmp_path: Path):
    (tmp_path / "dev.csv").write_text("text,label\nfine,a\nunseen,c\n")
    before = left_in(tmp_path)
    call = lambda: model.fit(data, tmp_path / "dev.csv", output=tmp_path / "out", config=FAST, strict=True)  # noqa: E731
    message(call, "dev.csv, line 3", "'c'", "(a, b)")
    assert left_in(tmp_path) == before


def test_the_message_about_an_unknown_column_names_the_most_similar_one(model: TaskModel, data: Path, tmp_path: Path):
    call = lambda: model.fit(data, output=tmp_path / "out", columns={"label": "lable"})  # noqa: E731
    message(call, "lable", 'Did you mean --label "label"')
    message(lambda: model.fit(data, output=tmp_path / "out", columns={"txt": "text"}), "--txt")


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2])
def test_an_invalid_eval_fraction_is_refused(model: TaskModel, data: Path, tmp_path: Path, fraction: float):
    message(lambda: model.fit(data, output=tmp_path / "out", eval_fraction=fraction), "--eval-fraction")


def test_an_unknown_option_is_a_type_error(model: TaskModel, data: Path, tmp_path: Path):
    with pytest.raises(TypeError, match="epoch_count"):
        model.fit(data, output=tmp_path / "out", epoch_count=3)


def test_options_replace_fields_of_the_config(model: TaskModel, data: Path, tmp_path: Path):
    assert model.fit(data, output=tmp_path / "out", config=FAST, max_steps=1).steps == 1


# Opening


def damage(folder: Path, tmp_path: Path, **changes: Any) -> Path:
    """A copy of a model folder with files replaced; None: deleted."""
    copy = shutil.copytree(folder, tmp_path / "damaged")
    for name, content in changes.items():
        path = copy / name.replace("_", ".", 1)
        path.unlink() if content is None else path.write_text(content)
    return copy


@pytest.fixture(scope="module")
def trained_folder(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "model"
    rows = [{"text": f"my parcel {i}", "label": "ab"[i % 2]} for i in range(8)]
    TextClassification().on(bert_folder).fit(rows, output=folder, config=FAST)
    return folder


def test_the_message_about_a_missing_head_says_how_to_train_one(bert_folder: Path):
    message(lambda: load(bert_folder), "BertModel", "headway train")


def test_an_untrained_model_can_neither_predict_nor_be_saved(model: TaskModel, data: Path, tmp_path: Path):
    for call in (lambda: model.predict("text"), lambda: model.evaluate(data), lambda: model.save(tmp_path / "out")):
        message(call, "no trained head", "fit()", "load()")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ('{"task": "mind-reading", "options": {}}', ["mind-reading", "Update Headway"]),
        ('{"task": "text-classification", "options": {"colour": 1}}', ["colour", "Update Headway"]),
        ('{"task": "text-classification", "options": {"labels": ["x", "y"]}}', ["different heads or labels"]),
        ('{"task": ', ["headway.json", "not valid JSON"]),
        ("[1]", ["headway.json", "list"]),
    ],
)
def test_a_damaged_headway_json_is_named(trained_folder: Path, tmp_path: Path, change: str, parts: list[str]):
    message(lambda: load(damage(trained_folder, tmp_path, headway_json=change)), *parts)


def test_a_folder_without_headway_json_is_a_published_model(trained_folder: Path, tmp_path: Path):
    model = load(damage(trained_folder, tmp_path, headway_json=None))
    found, expected = (one.predict("my parcel") for one in (model, load(trained_folder)))
    assert found == expected


def test_a_tokenizer_of_another_model_is_detected(trained_folder: Path, gpt2_folder: Path, tmp_path: Path):
    folder = shutil.copytree(trained_folder, tmp_path / "mixed")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(gpt2_folder / name, folder / name)
    vocabulary = load(trained_folder).network.config.vocab_size
    model = load(folder)
    assert model.tokenizer.vocab_size > vocabulary
    text = model.tokenizer.decode(range(vocabulary, model.tokenizer.vocab_size))
    message(lambda: model.predict(text), "do not belong together")


def test_plain_weights_are_read_on_first_access(trained_folder: Path, data: Path, tmp_path: Path):
    model = load(trained_folder)
    expected = model.predict("my parcel")
    assert all(parameter.is_meta for parameter in model._network.parameters())
    stored = load_checkpoint(trained_folder).network.state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in model.network.state_dict().items())
    assert model.predict("my parcel").score == pytest.approx(expected.score, abs=1e-6)
    load(trained_folder).save(tmp_path / "saved")
    assert load(tmp_path / "saved").predict("my parcel") == expected
    asked, again = load(trained_folder), load(trained_folder)
    asked.predict("my parcel")
    trained = [one.fit(data, output=tmp_path / name, config=FAST) for one, name in ((asked, "one"), (again, "two"))]
    assert trained[0].metrics == trained[1].metrics
    ours, same = (load(tmp_path / name).network.state_dict() for name in ("one", "two"))
    assert all(torch.equal(value, same[name]) for name, value in ours.items())


# Asking


@pytest.fixture(scope="module")
def answering(trained_folder: Path) -> TaskModel:
    return load(trained_folder)


def test_one_text_gives_one_prediction_and_a_list_gives_a_list(answering: TaskModel):
    one = answering.predict("my parcel")
    assert one.label in ("a", "b")
    assert answering.predict(["my parcel"]) == [one]
    assert answering.predict([("my parcel",), {"text": "my parcel"}, ["my parcel"]]) == [one] * 3
    assert answering.predict(text for text in ["my parcel"]) == [one]
    assert answering.predict([]) == []


@pytest.mark.parametrize(
    "given", [("a", "b"), {"text": "a", "pair": "b"}, {"txt": "a"}, [None], [3], [("a", 3)], [[]]]
)
def test_inputs_that_the_task_does_not_read_are_refused(answering: TaskModel, given: Any):
    message(lambda: answering.predict(given), "input 1", "one text")


def test_rows_are_predicted_as_they_are_read(answering: TaskModel, tmp_path: Path):
    path = tmp_path / "in.jsonl"
    rows = [{"id": i, "text": "my parcel " * (i % 4)} for i in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    drawn = answering.predict_rows(stream_rows(path), at_once=5)
    assert next(drawn)[0] == rows[0]
    found = [next(iter(answering.predict_rows(stream_rows(path)))), *drawn]
    assert [row for row, _ in found] == rows
    assert [one for _, one in found] == answering.predict([row["text"] for row in rows])


def test_many_texts_are_encoded_in_parts(answering: TaskModel, monkeypatch: pytest.MonkeyPatch):
    seen: list[int] = []
    encode = type(answering.task).encode

    def watched(task: Any, examples: Any, *rest: Any) -> Any:
        seen.append(len(examples))
        return encode(task, examples, *rest)

    monkeypatch.setattr(type(answering.task), "encode", watched)
    texts = [("my parcel", "the money", "here")[i % 3] for i in range(10_000)]
    found = answering.predict(texts)
    assert seen == [EXAMPLES_AT_ONCE, EXAMPLES_AT_ONCE, 10_000 - 2 * EXAMPLES_AT_ONCE]
    assert found[:3] * 3 == found[:9]
    assert len(found) == 10_000


def test_an_evaluation_has_metrics_predictions_and_examples(answering: TaskModel):
    rows = [{"text": f"my parcel {i}", "label": "ab"[i % 2]} for i in range(8)]
    found = answering.evaluate(rows)
    right = sum(one.label == row["label"] for one, row in zip(found.predictions, rows, strict=True))
    assert found.metrics["accuracy"] == right / 8
    plain = found.to_json()
    assert (plain["metrics"], plain["per_label"]) == (found.metrics, found.per_label)
    assert (plain["examples"], plain["left_out"]) == (8, 0)
    message(lambda: answering.evaluate([{"text": "a", "label": "z"}], unknown_labels="error"), "row 1", "'z'")


def test_a_model_predicts_after_training_but_not_after_an_abandoned_run(model: TaskModel, data: Path, tmp_path: Path):
    model.fit(data, output=tmp_path / "out", config=FAST)
    assert model.predict("my parcel") == load(tmp_path / "out").predict("my parcel")
    interrupt(model, data, tmp_path / "other", after=1)
    message(lambda: model.predict("my parcel"), "no trained head")
    model.fit(data, output=tmp_path / "third", config=FAST)  # as good as new
    assert (tmp_path / "third/model.safetensors").read_bytes() == (tmp_path / "out/model.safetensors").read_bytes()


def test_bad_training_data_leaves_a_loaded_model_unchanged(trained_folder: Path, tmp_path: Path):
    model = load(trained_folder)
    before = model.predict("my parcel")
    message(lambda: model.fit([{"text": "a", "label": "x"}], output=tmp_path / "out"), "every row has the label")
    assert model.predict("my parcel") == before


def test_places_are_formatted_as_one_phrase():
    lines = [f"train.tsv, line {i}" for i in (3, 8, 9, 12, 40, 77)]
    assert format_places(lines[:1]) == "train.tsv, line 3"
    assert format_places(lines[:3]) == "train.tsv, lines 3, 8 and 9"
    assert format_places(lines) == "train.tsv, lines 3, 8, 9, 12, 40 and 1 more"
    assert format_places([lines[0], "dev.csv, record 1"]) == "train.tsv, line 3; dev.csv, record 1"


# Several processes

TOGETHER = """
import json, sys
from pathlib import Path
from headway.core.training.distributed import processes
from headway.core.training.training_config import TrainConfig
from headway.core.training.training_events import Step
from headway.tasks import TextClassification, load
base, data, output = map(Path, sys.argv[1:])
config = TrainConfig(max_steps=4, batch_size=8, learning_rate=1e-3, precision="fp32", device="cpu", save_steps=2)
events = list(TextClassification().on(base).train(data, output=output, config=config))
model = load(output)
report = {
    "losses": [event.loss for event in events if isinstance(event, Step)],
    "metrics": events[-1].metrics,
    "predictions": [one.to_json() for one in model.predict([f"my parcel {i}" for i in range(7)])],
    "evaluation": model.evaluate(data).metrics,
}
(output.parent / f"report-{processes().rank}.json").write_text(json.dumps(report))
"""


def test_two_processes_give_the_model_of_one(bert_folder: Path, data: Path, tmp_path: Path):
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*launcher, str(script), str(bert_folder), str(data), str(tmp_path / "two")],
        capture_output=True, text=True, env=environment, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    reports = [json.loads((tmp_path / f"report-{rank}.json").read_text()) for rank in (0, 1)]
    assert reports[0] == reports[1]
    assert not (tmp_path / "two.running").exists()
    report = reports[0]
    assert len(report["losses"]) == 4
    assert len(report["predictions"]) == 7
    one_process = load(tmp_path / "two").predict([f"my parcel {i}" for i in range(7)])
    for found, expected in zip(report["predictions"], one_process, strict=True):
        assert found["scores"] == pytest.approx(expected.scores, abs=1e-5)
    assert report["evaluation"] == pytest.approx(load(tmp_path / "two").evaluate(read_table(data)).metrics, abs=1e-5)
