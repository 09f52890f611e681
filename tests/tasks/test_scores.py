"""Figures equal those of scikit-learn and scipy, computed here."""

import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk
from headway.tasks import metrics
from hypothesis import assume, given, settings
from hypothesis import strategies as st

relaxed = settings(max_examples=80, deadline=None, derandomize=True)
LABELS = ("apple", "banana", "cherry", "date")


@dataclass
class Found:
    label: str
    score: float


answers = st.lists(
    st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS), st.floats(0, 1)), min_size=1, max_size=40
)
sets = st.lists(st.tuples(st.sets(st.sampled_from(LABELS)), st.sets(st.sampled_from(LABELS))), min_size=1, max_size=30)


def indicator(rows: list[set[str]]) -> np.ndarray:
    return np.array([[label in row for label in LABELS] for row in rows], dtype=int)


@relaxed
@given(answers)
def test_one_label_scores_as_scikit_learn(rows: list[tuple[str, str, float]]):
    gold, found = [row[0] for row in rows], [row[1] for row in rows]
    figures = metrics.one_label([Found(label, score) for _, label, score in rows], gold, LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains of samples with one class
        expected = {
            "accuracy": sk.accuracy_score(gold, found),
            "f1": sk.f1_score(gold, found, average="macro", zero_division=0),
            "f1_weighted": sk.f1_score(gold, found, average="weighted", zero_division=0),
            "matthews_correlation": sk.matthews_corrcoef(gold, found),
        }
    assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert next(iter(figures)) == "accuracy"


@relaxed
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_with_two_labels_there_is_the_f1_of_the_second(rows: list[tuple[bool, bool]]):
    labels = ("no", "yes")
    figures = metrics.one_label([Found(labels[one], 0.7) for _, one in rows], [labels[one] for one, _ in rows], labels)
    expected = sk.f1_score([one for one, _ in rows], [one for _, one in rows], zero_division=0)
    assert figures["f1_positive"] == pytest.approx(expected)


@relaxed
@given(sets)
def test_several_labels_score_as_scikit_learn(rows: list[tuple[set[str], set[str]]]):
    gold, found = [row[0] for row in rows], [row[1] for row in rows]
    truth, guess = indicator(gold), indicator(found)
    assert metrics.several_labels([tuple(row) for row in found], gold, LABELS) == pytest.approx(
        {
            "f1": sk.f1_score(truth, guess, average="micro", zero_division=0),
            "f1_macro": sk.f1_score(truth, guess, average="macro", zero_division=0),
            "precision": sk.precision_score(truth, guess, average="micro", zero_division=0),
            "recall": sk.recall_score(truth, guess, average="micro", zero_division=0),
            "accuracy": sk.accuracy_score(truth, guess),
        }
    )


@relaxed
@given(sets)
def test_the_table_by_label_is_scikit_learns(rows: list[tuple[set[str], set[str]]]):
    gold, found = [row[0] for row in rows], [row[1] for row in rows]
    columns = sk.precision_recall_fscore_support(indicator(gold), indicator(found), zero_division=0)
    table = metrics.by_label([tuple(row) for row in found], gold, LABELS)
    assert [row["label"] for row in table] == list(LABELS)
    for name, column in zip(("precision", "recall", "f1", "examples"), columns, strict=True):
        assert [row[name] for row in table] == pytest.approx(list(column))


def test_a_single_label_of_many_is_scored_by_itself_not_by_its_absence():
    table = metrics.several_labels([("a",), (), ("a",)], [("a",), ("a",), ()], ("a",))
    assert table["f1"] == pytest.approx(0.5)


reals = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))


@relaxed
@given(st.lists(st.tuples(reals, reals), min_size=2, max_size=30))
def test_numbers_score_as_scipy(rows: list[tuple[float, float]]):
    gold, found = (np.array(side) for side in zip(*rows, strict=True))
    figures = metrics.numbers(found, gold)
    assert figures["rmse"] == pytest.approx(np.sqrt(sk.mean_squared_error(gold, found)))
    assert figures["mae"] == pytest.approx(sk.mean_absolute_error(gold, found))
    if np.ptp(gold) == 0 or np.ptp(found) == 0:
        assert figures["pearson"] == figures["spearman"] == 0.0
        return
    assume(np.ptp(gold) > 1 and np.ptp(found) > 1)
    assert figures["pearson"] == pytest.approx(scipy.stats.pearsonr(found, gold)[0], abs=1e-9)
    assert figures["spearman"] == pytest.approx(scipy.stats.spearmanr(found, gold)[0], abs=1e-9)


@pytest.mark.parametrize("tiny", [1e-300, 1e-12])
def test_a_correlation_of_tiny_numbers_is_one_too(tiny: float):
    figures = metrics.numbers([tiny, 2 * tiny, 3 * tiny], [1, 2, 3])
    assert figures["pearson"] == pytest.approx(1)


def f1_at(threshold: float, probabilities: list[float], gold: list[bool]) -> float:
    found = [one >= threshold for one in probabilities]
    return 2 * sum(a and b for a, b in zip(found, gold, strict=True)) / max(1, sum(found) + sum(gold))


@relaxed
@given(st.lists(st.tuples(st.floats(0, 1) | st.sampled_from([0.0, 0.3, 0.3000001, 1.0]), st.booleans()), min_size=1))
def test_no_threshold_gives_a_better_f1_than_the_best(rows: list[tuple[float, bool]]):
    probabilities, gold = [row[0] for row in rows], [row[1] for row in rows]
    assume(any(gold))
    threshold = metrics.best_threshold(probabilities, gold, 1)
    best = max(f1_at(one, probabilities, gold) for one in [*probabilities, 0.0])
    assert f1_at(threshold, probabilities, gold) == pytest.approx(best)


def test_too_few_positives_leave_the_threshold_where_it_was():
    assert metrics.best_threshold([0.9, 0.1], [True, False], 2) == 0.5


@relaxed
@given(answers)
def test_the_calibration_error_is_the_mean_gap_over_bins(rows: list[tuple[str, str, float]]):
    confidence, right = np.array([row[2] for row in rows]), np.array([row[0] == row[1] for row in rows])
    expected = 0.0
    for i in range(15):
        inside = (confidence >= i / 15) & ((confidence < (i + 1) / 15) | (i == 14))
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    near_an_edge = np.abs(confidence * 15 - np.round(confidence * 15)) < 1e-9
    assume(not (near_an_edge & (confidence < 1)).any() or (confidence[near_an_edge] == 0).all())
    assert metrics.calibration_error(list(confidence), right) == pytest.approx(expected)
