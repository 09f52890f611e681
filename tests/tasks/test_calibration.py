"""Thresholds of several labels and the temperature of one label, fitted to held-out predictions."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from headway.core.training.training_config import TrainConfig
from headway.tasks import TextClassification, load
from headway.tasks.base.held_out_score import cross_fit
from headway.tasks.classification.calibration import best_f1_threshold, fit_temperature, fit_thresholds
from headway.tasks.classification.predictions import TextExample
from headway.tasks.data.labels import MULTI_LABEL
from headway.tasks.tallies import tally_label_sets
from torch.nn import functional as F


def f1(found: np.ndarray, gold: np.ndarray) -> float:
    return 2 * (found & gold).sum() / (found.sum() + gold.sum())


def test_a_label_that_says_nothing_scores_at_chance():
    share, cross_fitted, fitted_to_itself = 0.1, [], []
    for seed in range(100):
        random = np.random.default_rng(seed)
        gold = random.random((300, 1)) < share
        probabilities = random.random((300, 1))
        cross_fitted.append(f1(cross_fit_thresholds(probabilities, gold), gold))
        threshold = best_f1_threshold(probabilities[:, 0], gold[:, 0])
        fitted_to_itself.append(f1(probabilities >= threshold, gold))
    chance = 2 * share / (1 + share)  # of predicting the label for every row, which is the best guess
    assert np.mean(cross_fitted) < chance + 0.005
    assert np.mean(fitted_to_itself) > chance + 0.01  # which is why the thresholds are cross-fitted


def cross_fit_thresholds(probabilities: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """What a task predicts for each row with thresholds that were fitted to other rows."""
    labels = tuple(f"label {i}" for i in range(gold.shape[1]))
    task = TextClassification(labels=labels, problem_type=MULTI_LABEL)
    predictions = task.target.decode(torch.logit(torch.from_numpy(probabilities)))
    examples = [TextExample(i, "", "x", None, tuple(np.compress(row, labels))) for i, row in enumerate(gold)]
    found = cross_fit(task, predictions, examples).predictions
    return np.array([[label in one.labels for label in labels] for one in found])


def several(rows: int, seed: int, scale: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Informative probabilities of labels, each on its own scale."""
    random = np.random.default_rng(seed)
    gold = random.random((rows, len(scale))) < 0.2
    return np.clip((0.3 + 0.4 * gold + random.normal(0, 0.12, gold.shape)) * scale, 0, 1), gold


def test_labels_with_probabilities_on_other_scales_get_their_own_thresholds():
    thresholds = fit_thresholds(*several(2000, 0, (1.0, 0.3)))
    found = cross_fit_thresholds(*several(2000, 0, (1.0, 0.3)))
    probabilities, gold = several(2000, 1, (1.0, 0.3))
    assert thresholds[0] > 2 * thresholds[1]
    assert f1(probabilities >= thresholds, gold) == pytest.approx(f1(found, several(2000, 0, (1.0, 0.3))[1]), abs=0.02)
    assert f1(probabilities >= thresholds, gold) > f1(probabilities >= 0.5, gold) + 0.1


def test_the_threshold_of_a_rare_label_is_drawn_towards_the_common_one():
    probabilities, gold = several(3000, 2, (1.0, 0.3, 0.3))
    gold[3:, 2] = False  # three rows are left
    _, common, rare = fit_thresholds(probabilities, gold)
    alone = best_f1_threshold(probabilities[:, 2], gold[:, 2], 1)
    shared = best_f1_threshold(probabilities.ravel(), gold.ravel())
    assert abs(rare - shared) < 0.2 * abs(alone - shared)
    assert abs(common - shared) > 0.8 * abs(best_f1_threshold(probabilities[:, 1], gold[:, 1]) - shared)


def test_one_half_stays_where_no_other_threshold_is_better():
    gold = np.arange(40)[:, None] % 4 == np.arange(4)
    assert fit_thresholds(np.where(gold, 0.9, 0.1), gold) == ()
    assert (cross_fit_thresholds(np.where(gold, 0.9, 0.1), gold) == gold).all()
    assert fit_thresholds(np.full((1, 3), 0.4), np.ones((1, 3), dtype=bool)) == ()


def test_a_label_without_rows_gets_the_common_threshold():
    probabilities, gold = several(400, 3, (0.5, 0.5))
    thresholds = fit_thresholds(
        np.column_stack([probabilities, probabilities[:, 0]]), np.column_stack([gold, gold[:, 0] & False])
    )
    assert thresholds[2] == pytest.approx(best_f1_threshold(probabilities.ravel(), gold.ravel()), abs=0.15)


@pytest.mark.parametrize("true", [0.07, 0.2, 1.0, 5.0])
def test_the_temperature_is_found_also_far_below_one(true: float):
    torch.manual_seed(0)
    logits = torch.randn(4000, 3) * 2
    gold = torch.distributions.Categorical(logits=logits).sample()
    found = fit_temperature(logits * true, gold)
    assert found == pytest.approx(true, rel=0.1)
    assert found is not None
    grid = torch.logspace(math.log10(0.05), math.log10(8), 400).tolist()
    assert (
        F.cross_entropy(logits * true / found, gold)
        <= min(F.cross_entropy(logits * true / t, gold) for t in grid) + 1e-5
    )


def test_the_reported_metrics_are_cross_fitted_and_said_to_be(bert_folder: Path, tmp_path: Path):
    rows = [
        {"text": f"the {a} and the {b} {i}", "labels": [one for one in (a, b) if one != "mat"]}
        for i, (a, b) in enumerate((a, b) for _ in range(20) for a in ("cat", "dog", "mat") for b in ("fox", "mat"))
    ]
    config = TrainConfig(max_steps=12, batch_size=16, learning_rate=5e-3, precision="fp32", device="cpu")
    model = TextClassification().on(bert_folder)
    trained = model.fit(rows, rows, output=tmp_path / "out", config=config)
    assert model.task.thresholds
    assert any("cross-fitted" in note for note in trained.notes)
    card = (tmp_path / "out/README.md").read_text("utf-8")
    assert trained.notes[0] in card
    held_out = model.held_out
    assert held_out is not None
    rowwise = [one.labels for one in held_out.predictions]
    tally = tally_label_sets(rowwise, [one.label for one in held_out.examples], model.task.labels)
    assert trained.per_label == tally.per_label()
    assert json.loads((tmp_path / "out/headway.json").read_text())["metrics"] == trained.metrics
    assert load(tmp_path / "out").evaluate(rows).metrics["loss"] == pytest.approx(trained.metrics["loss"], abs=1e-5)
