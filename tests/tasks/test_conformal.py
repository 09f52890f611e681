"""Conformal prediction sets: their coverage, their sizes, and what refuses them."""

import os
from pathlib import Path

import numpy as np
import pytest
from data_files import assert_error
from headway.tasks import TextClassification
from headway.tasks.base.decision_rules import APS, LAC, METHODS, nonconformity
from headway.tasks.classification.predictions import LabelPrediction
from headway.tasks.evaluation.conformal import fit_conformal

Predicted = tuple[list[LabelPrediction], list[str]]  # predictions and the right labels
LABELS = [f"intent {number:02}" for number in range(77)]


def simulate(rows: int, seed: int, spread: float = 1.5) -> Predicted:
    """Predictions of a model of 77 classes that is right in about two of three rows, and too sure of itself."""
    random = np.random.default_rng(seed)
    gold = random.integers(0, len(LABELS), rows)
    logits = random.normal(size=(rows, len(LABELS)))
    logits[np.arange(rows), gold] += random.gamma(3, 1.2, rows)
    probabilities = np.exp(spread * logits)
    probabilities /= probabilities.sum(1, keepdims=True)
    predictions = []
    for row in probabilities.tolist():
        score = max(row)
        predictions.append(LabelPrediction(LABELS[row.index(score)], score, dict(zip(LABELS, row, strict=True))))
    return predictions, [LABELS[one] for one in gold]


def measure(method: str, coverage: float, seed: int) -> tuple[float, float]:
    """The coverage and the mean size of the sets on rows that they are not fitted to."""
    rule = fit_conformal(*simulate(3000, seed), coverage, method)
    predictions, gold = simulate(3000, seed + 1000)
    sets = rule.label_sets([one.scores for one in predictions])
    return float(np.mean([one in found for one, found in zip(gold, sets, strict=True)])), float(
        np.mean([len(found) for found in sets])
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_of_77_classes_reach_their_coverage_within_a_point(method: str, coverage: float):
    found = [measure(method, coverage, seed)[0] for seed in range(4)]
    assert np.mean(found) == pytest.approx(coverage, abs=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_a_higher_coverage_has_larger_sets(method: str):
    sizes = [measure(method, coverage, 0)[1] for coverage in (0.7, 0.8, 0.9)]
    assert 1 < sizes[0] < sizes[1] < sizes[2] < len(LABELS) / 2


def test_scores_are_those_of_the_papers():
    probabilities = np.array([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]])
    assert nonconformity(probabilities, LAC) == pytest.approx(1 - probabilities)
    assert nonconformity(probabilities, APS) == pytest.approx(np.array([[0.8, 0.0, 0.5], [0.0, 1.0, 1.0]]))


def test_the_quantile_is_the_smallest_sufficient_score():
    predictions = [LabelPrediction("a", 1 - i / 100, {"a": 1 - i / 100, "b": i / 100}) for i in range(1, 20)]
    rule = fit_conformal(predictions, ["a"] * 19, 0.9, LAC)
    assert rule.quantile == pytest.approx(0.18)  # the 18th of 19: ceil(20 * 0.9)
    assert rule.label_sets([{"a": 0.9, "b": 0.1}, {"a": 0.5, "b": 0.5}]) == [("a",), ("a",)]  # never empty
    assert rule.label_sets([{"b": 0.85, "a": 0.83}]) == [("b", "a")]


def test_too_few_rows_and_unknown_labels_are_refused():
    predictions, gold = simulate(20, 0)
    assert_error(lambda: fit_conformal(predictions, gold, 0.99, LAC), "at least 99 held-out rows", "there are 20")
    strange = ["unknown"] * 5 + gold[5:]
    assert_error(lambda: fit_conformal(predictions, strange, 0.9, LAC), "5 of 20 rows", "--unknown-labels skip")
    assert_error(lambda: fit_conformal(predictions, gold, 0.9, "raps"), "lac or aps")


@pytest.mark.realdata
@pytest.mark.parametrize("method", METHODS)
def test_sets_of_trec_reach_their_coverage_on_average_over_splits(trec: Predicted, method: str):
    predictions, gold = trec
    random, covered = np.random.default_rng(0), []
    for _ in range(20):
        order = random.permutation(len(gold))
        half, others = order[: len(gold) // 2], order[len(gold) // 2 :]
        rule = fit_conformal([predictions[i] for i in half], [gold[i] for i in half], 0.9, method)
        sets = rule.label_sets([predictions[i].scores for i in others])
        covered.append(np.mean([gold[i] in one for i, one in zip(others, sets, strict=True)]))
    assert np.mean(covered) == pytest.approx(0.9, abs=0.01)


@pytest.fixture(scope="module")
def trec(minilm: Path) -> Predicted:
    """Predictions of 50 classes of questions for the half of trec that trained nothing, and the right labels."""
    lines = (Path(os.environ["HEADWAY_DATA"]) / "trec/train.txt").read_text(encoding="latin-1").splitlines()
    rows = [line.split(" ", 1) for line in lines]
    model = TextClassification(frozen=True).on(minilm)
    model.fit([text for _, text in rows[::2]], [label for label, _ in rows[::2]], progress=False)
    gold = [label for label, _ in rows[1::2]]
    return model.predict([text for _, text in rows[1::2]]), gold
