"""Cross-validation and runs with several seeds."""

import json
import random
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import assert_error
from headway.core.training.training_config import TrainConfig
from headway.core.training.training_events import Event, Started
from headway.tasks import (
    FillMask,
    MultipleChoice,
    QuestionAnswering,
    SentenceSimilarity,
    TextClassification,
    TokenClassification,
    load,
)
from headway.tasks.base.fold import OutOfFold
from headway.tasks.base.repeats import Repeats, Summary
from headway.tasks.base.results import RepeatFinished, RepeatStarted, Trained
from headway.tasks.data.fold_assignment import assign_folds
from launch_worker import launch

QUICK = TrainConfig(max_steps=4, eval_steps=2, batch_size=8, learning_rate=1e-3, device="cpu", precision="fp32")
WORDS = ("cat", "dog", "fox", "mat", "program", "money", "card", "parcel")


def rows(size: int = 40) -> list[dict[str, Any]]:
    chance = random.Random(0)
    texts = [f"the {chance.choice(WORDS)} and a {chance.choice(WORDS)} {i}" for i in range(size)]
    return [{"text": text, "label": "ab"[i % 2]} for i, text in enumerate(texts)]


def run(folder: Path, output: Path | None, data: Any = None, task: Any = None, **options: Any) -> list[Event]:
    model = (task or TextClassification(frozen=True)).on(folder)
    options.setdefault("config", TrainConfig(device="cpu"))
    return list(model.train(rows() if data is None else data, output=output, **options))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out_of_fold.jsonl").read_text().splitlines()]


# The assignment.


def test_folds_have_the_proportions_of_the_labels():
    labels = np.array([0] * 60 + [1] * 30 + [2] * 7)
    folds = assign_folds(labels, 5, 0, np.arange(97))
    for label, least, most in ((0, 12, 12), (1, 6, 6), (2, 1, 2)):
        counts = Counter(folds[labels == label].tolist())
        assert sorted(counts) == [0, 1, 2, 3, 4]
        assert (min(counts.values()), max(counts.values())) == (least, most)
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= 1
    assert (assign_folds(labels, 5, 1, np.arange(97)) != folds).any()


def test_groups_are_not_divided_and_their_folds_have_similar_sizes():
    chance = np.random.default_rng(0)
    groups = np.unique(chance.integers(0, 80, 400), return_inverse=True)[1]
    labels = chance.integers(0, 3, 400)
    folds = assign_folds(labels, 4, 0, groups)
    assert all(len(set(folds[groups == group])) == 1 for group in range(groups.max() + 1))
    for label in range(3):
        counts = np.bincount(folds[labels == label], minlength=4)
        assert counts.max() - counts.min() <= 8


def test_a_label_of_one_group_is_in_no_fold_unless_most_labels_are():
    labels = np.array([0] * 10 + [1] * 10 + [2])
    folds = assign_folds(labels, 5, 0, np.arange(21))
    assert folds[-1] == -1
    assert (folds[:-1] >= 0).all()
    assert (assign_folds(np.arange(20), 5, 0, np.arange(20)) >= 0).all()
    assert (assign_folds(np.full(20, -1), 5, 0, np.arange(20)) >= 0).all()  # numbers have no label


def test_fewer_groups_than_folds_are_refused():
    assert_error(
        lambda: assign_folds(np.array([0, 1] * 10), 5, 0, np.repeat(np.arange(4), 5)),
        "--folds 5",
        "only 4 groups",
        "--folds 4",
    )


# Cross-validation.


def test_each_row_is_predicted_once_by_a_model_that_was_not_trained_on_it(bert_folder: Path, tmp_path: Path):
    output = tmp_path / "model"
    events = run(bert_folder, output, folds=4)
    found, info = lines(output), json.loads((output / "headway.json").read_text())
    assert [one["row"] for one in found] == list(range(40))
    assert Counter(one["fold"] for one in found) == {1: 10, 2: 10, 3: 10, 4: 10}
    assert [one["gold"] for one in found] == [row["label"] for row in rows()]
    assert [one["place"] for one in found] == list(range(1, 41))
    assert all(set(one["probabilities"]) == {"a", "b"} for one in found)
    accuracy = sum(one["prediction"]["label"] == one["gold"] for one in found) / 40
    trained = events[-1]
    assert isinstance(trained, Trained)
    assert trained.metrics["accuracy"] == info["metrics"]["accuracy"] == pytest.approx(accuracy)
    low, high = trained.intervals["accuracy"]
    assert low < accuracy < high
    assert (trained.examples, trained.eval_examples) == (40, 40)
    assert info["metrics_from"] == "out-of-fold"
    assert info["folds"]["mean"]["accuracy"] == pytest.approx(accuracy)  # folds of equal size
    scores = [one["metrics"]["accuracy"] for one in info["folds"]["runs"]]
    assert info["folds"]["spread"]["accuracy"] == pytest.approx(np.std(scores, ddof=1))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    card = (output / "README.md").read_text()
    assert "cross-validation with 4 folds" in card
    assert "trained on all rows" in card
    assert "Mean and standard deviation of 4 folds" in card
    assert load(output).predict("the cat").label in "ab"


def test_the_model_is_the_one_that_all_rows_give(bert_folder: Path, tmp_path: Path):
    run(bert_folder, tmp_path / "folds", folds=2)
    run(bert_folder, tmp_path / "all", eval_fraction=0)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("folds", "all")]
    assert weights[0] == weights[1]


def test_groups_and_equal_texts_are_never_on_both_sides(bert_folder: Path, tmp_path: Path):
    data = [
        {"text": "thanks" if i % 10 == 9 else f"text {i}", "label": "ab"[i % 2], "author": f"author {i // 5}"}
        for i in range(60)
    ]
    output = tmp_path / "model"
    events = run(bert_folder, output, data, columns={"group": "author"}, folds=3)
    found = lines(output)
    assert len(found) == 60
    fold_of = {}
    for one in found:
        assert fold_of.setdefault(data[one["row"]]["author"], one["fold"]) == one["fold"]
    notes = [note for event in events for note in getattr(event, "notes", ())]
    assert any('rows with the same "author" stay together' in note for note in notes)
    assert any("are left out of training because held-out rows have the same texts" in note for note in notes)


def test_a_row_with_a_label_of_its_own_is_always_trained_on_and_this_is_said(bert_folder: Path, tmp_path: Path):
    data = [*rows(), {"text": "the only one", "label": "c"}]
    events = run(bert_folder, tmp_path / "model", data, folds=4)
    assert len(lines(tmp_path / "model")) == 40
    notes = [note for event in events for note in getattr(event, "notes", ())]
    assert any("1 are always trained on: no other rows have their labels" in note for note in notes)
    assert any(
        "40 rows is predicted" in note and "1 rows whose label no other row has are only trained on" in note
        for note in notes
    )


def stopping_after(steps: int):
    """A `stop` that is asked after every step."""
    asked = count(1)
    return lambda: next(asked) >= steps


def test_interrupted_folds_are_resumed_and_finished_ones_are_not_repeated(bert_folder: Path, tmp_path: Path):
    output, task = tmp_path / "model", TextClassification()
    with pytest.raises(KeyboardInterrupt):
        run(bert_folder, output, task=task, folds=3, config=QUICK, stop=stopping_after(5))
    assert not output.exists()
    assert (tmp_path / "model.folds" / "1" / "headway.json").exists()
    assert_error(
        lambda: run(bert_folder, output, task=task, folds=3, config=QUICK), "model.folds", "--resume", "--overwrite"
    )
    assert_error(
        lambda: run(bert_folder, output, task=task, folds=4, config=QUICK, resume=True),
        "other options (count)",
        "--overwrite",
    )
    events = run(bert_folder, output, task=task, folds=3, config=QUICK, resume=True)
    assert [one.before for one in events if isinstance(one, RepeatFinished)] == [True, False, False]
    assert [one.resumed_from for one in events if isinstance(one, Started)] == [2, None, None]
    run(bert_folder, tmp_path / "whole", task=task, folds=3, config=QUICK)
    for name in ("out_of_fold.jsonl", "model.safetensors"):
        assert (output / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "whole"]


def test_the_model_on_all_rows_can_be_resumed(bert_folder: Path, tmp_path: Path):
    output, task = tmp_path / "model", TextClassification()
    with pytest.raises(KeyboardInterrupt):
        run(bert_folder, output, task=task, folds=2, config=QUICK, stop=stopping_after(8))
    events = run(bert_folder, output, task=task, folds=2, config=QUICK, resume=True)
    assert [one.before for one in events if isinstance(one, RepeatFinished)] == [True, True]
    assert [one.resumed_from for one in events if isinstance(one, Started)] == [2]
    assert output.exists()


def test_changed_data_is_noticed_before_the_last_training(bert_folder: Path, tmp_path: Path):
    output, task = tmp_path / "model", TextClassification()
    with pytest.raises(KeyboardInterrupt):
        run(bert_folder, output, task=task, folds=2, config=QUICK, stop=stopping_after(8))
    assert_error(
        lambda: run(bert_folder, output, rows(42), task=task, folds=2, config=QUICK, resume=True),
        "data was changed",
        "--overwrite",
    )
    run(bert_folder, output, rows(42), task=task, folds=2, config=QUICK, overwrite=True)
    assert len(lines(output)) == 42


def test_the_model_is_trained_for_the_median_best_step_if_folds_were_best_before_their_end():
    def summary(*best: int | None) -> Summary:
        infos = [{"metrics": {"accuracy": 0.5}, "best_step": step, "steps": 100} for step in best]
        return Summary(Repeats("folds", len(best)), infos)

    assert summary(20, 30, 70).steps()[0] == 30
    assert "median of the best steps of the folds (20, 30, 70)" in summary(20, 30, 70).steps()[1]
    assert summary(20, 100, 100).steps() == (None, summary(20, 100, 100).steps()[1])
    assert summary(None, None).steps()[0] is None


def test_the_calibration_is_the_mean_of_the_folds():
    task = TextClassification(labels=("a", "b"))
    hot, cold = (type(task).from_json({**task.to_json(), "temperature": one}) for one in (4.0, 1.0))
    assert task.averaged([hot, cold]).temperature == pytest.approx(2.5)
    low, high, none = (
        type(task).from_json({**task.to_json(), "thresholds": one}) for one in ([0.1, 0.3], [0.3, 0.7], [])
    )
    assert task.averaged([low, high, none]).thresholds == pytest.approx((0.2, 0.5))
    assert task.averaged([low, none, none]).thresholds == ()


WORDS_AND_TAGS = [
    {"tokens": ["Ada", "saw", f"the{i}"], "tags": ["B-PER", "O", "O"] if i % 2 else ["O", "O", "B-LOC"]}
    for i in range(24)
]
KINDS: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "several labels": (
        TextClassification(problem_type="multi_label_classification", frozen=True),
        [{"text": f"text {i}", "label": [["a"], ["a", "b"], ["b"]][i % 3]} for i in range(24)],
    ),
    "a number": (
        TextClassification(problem_type="regression", frozen=True),
        [{"text": f"text {i}", "label": i / 7} for i in range(24)],
    ),
    "entities": (TokenClassification(), WORDS_AND_TAGS),
    "answers": (
        QuestionAnswering(),
        [{"question": "who?", "context": f"Ada {i} came", "answers": "Ada"} for i in range(24)],
    ),
    "choices": (
        MultipleChoice(),
        [{"question": f"who {i}?", "choices": ["Ada", "Bob"], "answer": i % 2} for i in range(24)],
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_of_every_task_are_the_same_after_reading_their_file(bert_folder: Path, tmp_path: Path, kind: str):
    task, data = KINDS[kind]
    options = {} if getattr(task, "frozen", False) else {"config": QUICK}
    model = task.on(bert_folder)
    *_, trained = model.train(data, output=tmp_path / "model", folds=2, **options)
    assert isinstance(trained, Trained)
    assert trained.eval_examples == 24
    assert model.held_out is not None
    read = [OutOfFold.of_line(line) for line in (tmp_path / "model" / "out_of_fold.jsonl").read_text().splitlines()]
    assert [one.prediction for one in read] == model.held_out.predictions
    assert model.task.score([one.prediction for one in read], model.held_out.examples) == trained.metrics


def test_folds_without_an_output_leave_nothing(bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    model = TextClassification(frozen=True).on(bert_folder)
    trained = model.fit(rows(), folds=2, device="cpu", progress=False)
    assert trained.folds is not None
    assert trained.folds["count"] == 2
    assert list(tmp_path.iterdir()) == []
    model.save(tmp_path / "saved")
    assert len(lines(tmp_path / "saved")) == 40


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        (TextClassification(), {"folds": 1}, ["--folds 1", "from 2"]),
        (TextClassification(), {"folds": 3, "seeds": 3}, ["--folds", "--seeds", "one of them"]),
        (TextClassification(), {"folds": 3, "eval_data": rows()}, ["--eval-data", "--folds"]),
        (TextClassification(), {"folds": 3, "test_data": rows()}, ["--test-data", "--folds"]),
        (TextClassification(), {"folds": 3, "test_fraction": 0.1}, ["--test-fraction", "--folds"]),
        (TextClassification(), {"folds": 3, "eval_fraction": 0.2}, ["--eval-fraction", "--folds"]),
        (TextClassification(), {"seeds": 3, "eval_fraction": 0}, ["--seeds", "held-out rows"]),
        (TextClassification(frozen=True), {"seeds": 3}, ["--seeds", "--frozen"]),
        (FillMask(), {"folds": 3}, ["--folds", "fill-mask"]),
        (SentenceSimilarity(), {"folds": 3}, ["--folds", "sentence-similarity"]),
    ],
)
def test_runs_that_make_no_sense_are_refused(bert_folder: Path, tmp_path: Path, task, options, words):
    assert_error(lambda: run(bert_folder, tmp_path / "model", task=task, **options), *words)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_train_the_folds_together(bert_folder: Path, tmp_path: Path):
    data = tmp_path / "train.csv"
    data.write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows()))
    options = ["--max-steps", "4", "--batch-size", "8", "--device", "cpu", "--precision", "fp32"]
    command = ["train", "text-classification", "--data", data, "--model", bert_folder, "--output", tmp_path / "model"]
    line = [*map(str, command), *options, "--folds", "2"]
    (tmp_path / "commands.json").write_text(json.dumps([line, [*line, "--frozen", "--overwrite"]]))
    assert launch("commands", 2, tmp_path) == [[0, 0], [0, 0]], (tmp_path / "messages-0.txt").read_text()
    assert len(lines(tmp_path / "model")) == 40
    assert "Fold 2 of 2" in (tmp_path / "messages-0.txt").read_text()
    assert "2 processes" in (tmp_path / "messages-0.txt").read_text()


# Seeds.


def test_the_run_with_the_median_score_is_kept(bert_folder: Path, tmp_path: Path):
    output = tmp_path / "model"
    model = TextClassification().on(bert_folder)
    events = list(model.train(rows(60), output=output, seeds=3, config=QUICK, eval_fraction=0.5))
    assert [one.number for one in events if isinstance(one, RepeatStarted)] == [1, 2, 3]
    trained = events[-1]
    assert isinstance(trained, Trained)
    info = json.loads((output / "headway.json").read_text())
    runs = info["seeds"]["runs"]
    assert [one["seed"] for one in runs] == [0, 1, 2]
    assert len({one["metrics"]["loss"] for one in runs}) == 3  # other heads and batches
    assert len({one["eval_examples"] for one in runs}) == 1
    kept = runs[info["seeds"]["kept"]]
    assert info["metrics"] == trained.metrics == kept["metrics"]
    assert kept["metrics"]["accuracy"] == sorted(one["metrics"]["accuracy"] for one in runs)[1]
    assert info["training"]["seed"] == info["seeds"]["kept"]
    assert "runs with different seeds" in (output / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    texts = [row["text"] for row in rows()]
    assert [one.score for one in model.predict(texts)] == [one.score for one in load(output).predict(texts)]


def test_runs_with_several_seeds_are_scored_on_the_same_test_rows(bert_folder: Path, tmp_path: Path):
    options = {"task": TextClassification(), "seeds": 2, "config": QUICK, "test_fraction": 0.25}
    trained = run(bert_folder, tmp_path / "model", rows(60), **options)[-1]
    assert isinstance(trained, Trained)
    assert (trained.metrics_from, trained.test_examples, trained.eval_examples) == ("test", 15, 6)
    assert trained.scored_on == "15 test rows that chose nothing"
    assert trained.notes == ()
    info = json.loads((tmp_path / "model" / "headway.json").read_text())
    assert (info["metrics_from"], info["data"]["test"]["examples"]) == ("test", 15)


def test_folds_say_that_their_best_steps_were_chosen_on_the_rows_that_they_hold_out(bert_folder: Path, tmp_path: Path):
    options = {"task": TextClassification(), "folds": 2, "config": QUICK}
    trained = run(bert_folder, tmp_path / "model", **options)[-1]
    assert isinstance(trained, Trained)
    assert (trained.metrics_from, trained.scored_on) == ("out-of-fold", "40 out-of-fold rows")
    assert trained.notes[1].startswith("The best step of each fold was chosen on the rows that it holds out")
    assert trained.notes[1] in (tmp_path / "model" / "README.md").read_text()


def test_finished_seeds_are_not_repeated(bert_folder: Path, tmp_path: Path):
    output, options = tmp_path / "model", {"task": TextClassification(), "seeds": 3, "config": QUICK}
    with pytest.raises(KeyboardInterrupt):
        run(bert_folder, output, stop=stopping_after(8), **options)
    events = run(bert_folder, output, resume=True, **options)
    assert [one.before for one in events if isinstance(one, RepeatFinished)] == [True, True, False]
    assert output.exists()
