"""Metrics equal those of scikit-learn and scipy on any input, and undefined ones are 0 without a warning."""

import subprocess
import sys
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk
from headway.tasks.classification.calibration import best_f1_threshold
from headway.tasks.tallies import tally_label_sets, tally_labels, tally_numbers
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

relaxed = settings(max_examples=80, deadline=None, derandomize=True)
LABELS = ("apple", "banana", "cherry", "date")


@dataclass
class Predicted:
    label: str
    score: float


predicted_labels = st.lists(
    st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS), st.floats(0, 1)), min_size=1, max_size=40
)
label_sets = st.lists(
    st.tuples(st.sets(st.sampled_from(LABELS)), st.sets(st.sampled_from(LABELS))), min_size=1, max_size=30
)


def indicator(rows: list[set[str]]) -> np.ndarray:
    return np.array([[label in row for label in LABELS] for row in rows], dtype=int)


def test_commands_start_without_importing_scikit_learn_and_scipy():
    code = "import sys, headway.tasks, headway.ui.cli; print({'sklearn', 'scipy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@relaxed
@given(predicted_labels)
def test_single_label_metrics_equal_scikit_learns(rows: list[tuple[str, str, float]]):
    gold, found = [row[0] for row in rows], [row[1] for row in rows]
    scores = tally_labels([Predicted(label, score) for _, label, score in rows], gold, LABELS).metrics()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about samples with a single class
        expected = {
            "accuracy": sk.accuracy_score(gold, found),
            "f1": sk.f1_score(gold, found, average="macro", zero_division=0),
            "f1_weighted": sk.f1_score(gold, found, average="weighted", zero_division=0),
            "matthews_correlation": sk.matthews_corrcoef(gold, found),
        }
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
    assert next(iter(scores)) == "accuracy"


@relaxed
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_with_two_labels_the_f1_of_the_second_is_reported(rows: list[tuple[bool, bool]]):
    labels = ("no", "yes")
    predictions = [Predicted(labels[one], 0.7) for _, one in rows]
    scores = tally_labels(predictions, [labels[one] for one, _ in rows], labels).metrics()
    expected = sk.f1_score([one for one, _ in rows], [one for _, one in rows], zero_division=0)
    assert scores["f1_positive"] == pytest.approx(expected)


@relaxed
@given(label_sets)
def test_multi_label_metrics_equal_scikit_learns(rows: list[tuple[set[str], set[str]]]):
    gold, found = [row[0] for row in rows], [row[1] for row in rows]
    truth, guess = indicator(gold), indicator(found)
    scores = tally_label_sets([tuple(row) for row in found], [tuple(row) for row in gold], LABELS).metrics()
    assert scores == pytest.approx(
        {
            "f1": sk.f1_score(truth, guess, average="micro", zero_division=0),
            "f1_macro": sk.f1_score(truth, guess, average="macro", zero_division=0),
            "precision": sk.precision_score(truth, guess, average="micro", zero_division=0),
            "recall": sk.recall_score(truth, guess, average="micro", zero_division=0),
            "accuracy": sk.accuracy_score(truth, guess),
        }
    )


@relaxed
@given(label_sets)
def test_the_table_by_label_equals_scikit_learns(rows: list[tuple[set[str], set[str]]]):
    gold, found = [row[0] for row in rows], [row[1] for row in rows]
    columns = sk.precision_recall_fscore_support(indicator(gold), indicator(found), zero_division=0)
    table = tally_label_sets([tuple(row) for row in found], [tuple(row) for row in gold], LABELS).per_label()
    assert [row["label"] for row in table] == list(LABELS)
    for name, column in zip(("precision", "recall", "f1", "examples"), columns, strict=True):
        assert [row[name] for row in table] == pytest.approx(list(column))


def test_a_single_label_is_scored_by_its_presence_and_not_by_its_absence():
    predictions, gold = [("a",), (), ("a",)], [("a",), ("a",), ()]
    tally = tally_label_sets(predictions, gold, ("a",))
    assert tally.metrics()["f1"] == pytest.approx(0.5)
    assert tally.per_label() == [{"label": "a", "precision": 0.5, "recall": 0.5, "f1": 0.5, "examples": 2}]


def test_undefined_metrics_are_0_and_raise_no_warning():
    one = tally_labels([Predicted("apple", 1.0)] * 2, ["apple"] * 2, LABELS).metrics()
    assert (one["accuracy"], one["f1"], one["matthews_correlation"], one["calibration_error"]) == (1, 1, 0, 0)
    assert set(tally_label_sets([(), ()], [(), ()], LABELS).metrics().values()) == {0.0, 1.0}
    assert tally_label_sets([()], [()], ("a",)).per_label()[0]["f1"] == 0.0
    assert tally_numbers([2.0], [3.0]).metrics() == {"pearson": 0.0, "spearman": 0.0, "rmse": 1.0, "mae": 1.0}


reals = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))


@relaxed
@given(st.lists(st.tuples(reals, reals), min_size=2, max_size=30))
def test_regression_metrics_equal_those_of_scipy_and_scikit_learn(rows: list[tuple[float, float]]):
    gold, found = (np.array(side) for side in zip(*rows, strict=True))
    scores = tally_numbers(found, gold).metrics()
    assert scores["rmse"] == pytest.approx(np.sqrt(sk.mean_squared_error(gold, found)))
    assert scores["mae"] == pytest.approx(sk.mean_absolute_error(gold, found))
    if np.ptp(gold) == 0 or np.ptp(found) == 0:
        assert scores["pearson"] == scores["spearman"] == 0.0
        return
    assume(np.ptp(gold) > 1 and np.ptp(found) > 1)
    assert scores["pearson"] == pytest.approx(scipy.stats.pearsonr(found, gold)[0], abs=1e-9)
    assert scores["spearman"] == pytest.approx(scipy.stats.spearmanr(found, gold)[0], abs=1e-9)


@pytest.mark.parametrize("tiny", [1e-300, 1e-12])
def test_the_correlation_of_tiny_numbers_does_not_vanish(tiny: float):
    scores = tally_numbers([tiny, 2 * tiny, 3 * tiny], [1, 2, 3]).metrics()
    assert scores["pearson"] == pytest.approx(1)


def test_the_correlation_of_nearly_constant_numbers_raises_no_warning():
    scores = tally_numbers([1e9, 1e9 + 1e-6, 1e9 - 1e-6], [1, 2, 3]).metrics()
    assert -1 <= scores["pearson"] <= 1


def test_a_constant_whose_mean_is_rounded_correlates_with_nothing():
    scores = tally_numbers([0.011] * 24, range(24)).metrics()
    assert (scores["pearson"], scores["spearman"]) == (0, 0)


def f1_at(threshold: float, probabilities: list[float], gold: list[bool]) -> float:
    found = [one >= threshold for one in probabilities]
    return 2 * sum(a and b for a, b in zip(found, gold, strict=True)) / max(1, sum(found) + sum(gold))


@relaxed
@given(st.lists(st.tuples(st.floats(0, 1) | st.sampled_from([0.0, 0.3, 0.3000001, 1.0]), st.booleans()), min_size=1))
def test_no_threshold_has_a_better_f1_than_the_best_one(rows: list[tuple[float, bool]]):
    probabilities, gold = [row[0] for row in rows], [row[1] for row in rows]
    assume(any(gold))
    threshold = best_f1_threshold(probabilities, gold, 1)
    best = max(f1_at(one, probabilities, gold) for one in [*probabilities, 0.0])
    assert f1_at(threshold, probabilities, gold) == pytest.approx(best)


def test_with_too_few_positives_the_threshold_stays_at_one_half():
    assert best_f1_threshold([0.9, 0.1], [True, False], 2) == 0.5


@relaxed
@given(predicted_labels)
def test_the_calibration_error_is_the_mean_gap_of_scikit_learns_calibration_curve(rows: list[tuple[str, str, float]]):
    confidence, correct = np.array([row[2] for row in rows]), np.array([row[0] == row[1] for row in rows])
    near_an_edge = np.abs(confidence * 15 - np.round(confidence * 15)) < 1e-9  # each library has its own convention
    assume(not (near_an_edge & (confidence > 0) & (confidence < 1)).any())
    accuracy, mean_confidence = calibration_curve(correct, confidence, n_bins=15)
    counts, _ = np.histogram(confidence, 15, range=(0, 1))
    expected = np.abs(accuracy - mean_confidence) @ counts[counts > 0] / len(rows)
    scores = tally_labels([Predicted(row[1], row[2]) for row in rows], [row[0] for row in rows], LABELS).metrics()
    assert scores["calibration_error"] == pytest.approx(expected, abs=1e-12)
