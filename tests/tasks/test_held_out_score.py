"""Metrics of held-out rows are honest: what is fitted to rows is not scored on them, and what says nothing scores at
chance.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from headway.core.training.training_config import TrainConfig
from headway.tasks import QuestionAnswering, TextClassification, load
from headway.tasks.base.held_out_score import cross_fit
from headway.tasks.base.results import Trained
from headway.tasks.base.score_notes import CROSS_FITTED, HELD_OUT, TEST
from headway.tasks.classification.predictions import TextExample
from headway.tasks.data.folds import folds_of
from headway.tasks.data.labels import MULTI_LABEL, SINGLE_LABEL
from headway.tasks.question_answering.predictions import AnswerPrediction, AnswerSpan

FAST = TrainConfig(max_steps=6, batch_size=16, learning_rate=5e-3, precision="fp32", device="cpu")
LABELS = tuple(f"label {i:02d}" for i in range(28))
ROWS, SHARE = 300, 0.1
WORDS = ("cat", "dog", "fox", "mat", "money", "card", "parcel", "program")


def examples_of(gold: list[Any]) -> list[TextExample]:
    return [TextExample(i, f"row {i}", f"text {i}", None, label) for i, label in enumerate(gold)]


def scores_of_random_labels(seed: int) -> tuple[float, float]:
    """The micro F1 of 28 labels at random, from random outputs: cross-fitted, and as the fitted task predicts."""
    random = np.random.default_rng(seed)
    task = TextClassification(labels=LABELS, problem_type=MULTI_LABEL)
    gold = random.random((ROWS, len(LABELS))) < SHARE
    examples = examples_of([tuple(np.compress(row, LABELS)) for row in gold])
    predictions = task.target.decode(torch.from_numpy(random.normal(-2, 1, gold.shape)))
    found = cross_fit(task, predictions, examples)
    assert found.metrics_from == CROSS_FITTED
    return found.metrics["f1"], found.task.score(found.fitted, examples)["f1"]


def test_twenty_eight_labels_that_say_nothing_score_at_chance():
    cross_fitted, fitted = np.array([scores_of_random_labels(seed) for seed in range(12)]).T
    chance = 2 * SHARE / (1 + SHARE)  # of every label for every row, the best that does not read the text
    assert chance - 0.02 < cross_fitted.mean() < chance + 0.002
    assert fitted.mean() > cross_fitted.mean() + 0.002  # on the rows to which the thresholds were fitted


def test_one_of_twenty_eight_labels_at_random_scores_at_chance_and_its_calibration_as_on_other_rows():
    accuracies, errors, errors_elsewhere = [], [], []
    task = TextClassification(labels=LABELS, problem_type=SINGLE_LABEL)
    for seed in range(10):
        random = np.random.default_rng(seed)
        logits = torch.from_numpy(random.normal(0, 2, (2 * ROWS, len(LABELS))))
        examples = examples_of(random.choice(LABELS, 2 * ROWS).tolist())
        predictions = task.target.decode(logits)
        found = cross_fit(task, predictions[:ROWS], examples[:ROWS])
        assert found.metrics_from == CROSS_FITTED
        elsewhere = task.recalibrate(predictions[ROWS:], found.task)
        accuracies.append(found.metrics["accuracy"])
        errors.append(found.metrics["calibration_error"])
        errors_elsewhere.append(task.score(elsewhere, examples[ROWS:])["calibration_error"])
    assert np.mean(accuracies) == pytest.approx(1 / len(LABELS), abs=0.01)
    assert np.mean(errors) > np.mean(errors_elsewhere) - 0.01


def test_which_kind_of_threshold_is_taken_is_also_chosen_on_other_rows():
    """Noise prefers one of three kinds of thresholds on these rows: the choice itself must not be rewarded."""
    gains = []
    for seed in range(30):
        random = np.random.default_rng(seed)
        task = TextClassification(labels=LABELS[:3], problem_type=MULTI_LABEL)
        gold = random.random((60, 3)) < 0.4
        examples = examples_of([tuple(np.compress(row, LABELS[:3])) for row in gold])
        predictions = task.target.decode(torch.from_numpy(random.normal(0, 1, gold.shape)))
        chance = 2 * gold.mean() / (1 + gold.mean())
        gains.append(cross_fit(task, predictions, examples).metrics["f1"] - chance)
    assert np.mean(gains) < 0.005


def test_no_answer_by_coin_flips_scores_at_chance():
    task = QuestionAnswering(says_none=True)
    gains, fitted_gains = [], []
    for seed in range(30):
        random = np.random.default_rng(seed)
        shares = random.random(60)
        spans = [(AnswerSpan("London", 0, 6, float(one)),) for one in shares]
        predictions = [AnswerPrediction("London", 0, 6, one[0].score, 1 - one[0].score, one, 0) for one in spans]
        gold = random.random(60) < 0.5
        examples: Any = [type("Example", (), {"gold": ("London",) if one else ()})() for one in gold]
        found = cross_fit(task, predictions, examples)
        chance = max(gold.mean(), 1 - gold.mean())
        gains.append(found.metrics["f1"] - chance)
        fitted_gains.append(found.task.score(found.fitted, examples)["f1"] - chance)
    assert np.mean(gains) < 0.005
    assert np.mean(fitted_gains) > 0.01


def test_rows_of_a_group_are_in_one_fold():
    groups = np.repeat(np.arange(40), 3)
    folds = folds_of(groups)
    assert all(len(set(folds[groups == group])) == 1 for group in range(40))
    assert np.bincount(folds).tolist() == [24] * 5
    assert set(folds_of(np.arange(50_000))) == {0, 1}
    assert folds_of(np.zeros(9, dtype=int)).max() == 0


def test_where_all_rows_are_one_group_nothing_that_is_fitted_is_scored():
    random = np.random.default_rng(0)
    task = TextClassification(labels=LABELS[:4], problem_type=MULTI_LABEL)
    gold = random.random((80, 4)) < 0.3
    examples = examples_of([tuple(np.compress(row, LABELS[:4])) for row in gold])
    predictions = task.target.decode(torch.from_numpy(np.where(gold, -1.0, -3.0)))
    found = cross_fit(task, predictions, examples, np.zeros(80, dtype=int))
    assert found.predictions == predictions
    assert found.task.calibrated == "the thresholds"


# In training.


def messages(count: int, seed: int = 0, *, several: bool = True) -> list[dict[str, Any]]:
    """Rows with labels that their words tell."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        words = random.choice(WORDS, 2, replace=False).tolist()
        label = [word for word in words if word in WORDS[:3]] if several else str(words[0])
        rows.append({"text": f"the {words[0]} and the {words[1]} {seed}-{i}", "label": label})
    return rows


def train(folder: Path, output: Path, rows: list[dict[str, Any]], **options: Any) -> tuple[Any, Trained]:
    model = TextClassification().on(folder)
    return model, model.fit(rows, output=output, config=FAST, **options)


def test_the_test_rows_are_scored_and_choose_nothing(bert_folder: Path, tmp_path: Path):
    rows, dev, test = messages(60), messages(40, 1), messages(40, 2)
    model, trained = train(bert_folder, tmp_path / "a", rows, eval_data=dev, test_data=test)
    wrong = [{**row, "label": list(WORDS[:3])} for row in test]
    other, worse = train(bert_folder, tmp_path / "b", rows, eval_data=dev, test_data=wrong)
    assert model.task == other.task
    assert trained.best_step == worse.best_step
    assert trained.metrics["f1"] != worse.metrics["f1"]
    assert (trained.metrics_from, trained.test_examples, trained.eval_examples) == (TEST, 40, 40)
    assert trained.scored_on == "40 test rows that chose nothing"
    assert not any("chosen" in note for note in trained.notes)
    again = load(tmp_path / "a").evaluate(test).metrics
    assert again == pytest.approx(trained.metrics, abs=1e-5)
    info = json.loads((tmp_path / "a/headway.json").read_text())
    assert (info["metrics_from"], info["data"]["test"]["examples"], info["data"]["eval"]["examples"]) == (TEST, 40, 40)
    card = (tmp_path / "a/README.md").read_text("utf-8")
    assert "Nothing was chosen on these rows: they are the test data." in card
    assert "chosen on the same rows" not in card
    assert len(model.held_out.examples) == 40
    assert model.held_out.examples[0].text.endswith("2-0")


def test_without_test_rows_it_is_said_what_the_rows_chose(bert_folder: Path, tmp_path: Path):
    _, trained = train(bert_folder, tmp_path / "out", messages(60), eval_data=messages(40, 1))
    assert trained.metrics_from == CROSS_FITTED
    assert trained.scored_on == "40 held-out rows, cross-fitted"
    assert trained.notes[0].startswith("The metrics are cross-fitted: each row was scored with the thresholds")
    assert trained.notes[1].startswith(f"The best step ({trained.best_step} of 6) was chosen on the same rows")
    assert "--test-fraction" in trained.notes[2]


def test_nothing_is_said_where_nothing_was_chosen(bert_folder: Path, tmp_path: Path):
    rows = messages(60, several=False)
    _, trained = train(bert_folder, tmp_path / "out", rows, eval_data=rows[:30], keep="last")
    assert (trained.metrics_from, trained.notes) == (HELD_OUT, ())


def test_a_test_without_evaluation_scores_the_last_weights(bert_folder: Path, tmp_path: Path):
    model = TextClassification().on(bert_folder)
    events = list(model.train(messages(60), test_data=messages(30, 2), eval_fraction=0, config=FAST))
    trained = events[-1]
    assert isinstance(trained, Trained)
    assert (trained.metrics_from, trained.eval_examples, trained.test_examples) == (TEST, 0, 30)
    assert trained.best_step is None
    assert "f1" in trained.metrics
    assert any("nothing is held out for evaluation" in note for note in events[0].to_json()["notes"])
