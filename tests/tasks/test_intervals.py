"""Intervals contain the true values as often as they say."""

from dataclasses import dataclass

import numpy as np
import pytest
from headway.tasks.intervals import Bootstrap, draw_weights, wilson
from headway.tasks.tallies import tally_labels, tally_means, tally_numbers
from scipy.stats import binom, pearsonr, poisson, spearmanr

LABELS = ("red", "green", "blue")


@dataclass
class Predicted:
    label: str
    score: float = 0.9


def some_labels(size, rng, chances=(0.6, 0.3, 0.1), right=((0.9, 0.07, 0.03), (0.2, 0.7, 0.1), (0.2, 0.2, 0.6))):
    gold = rng.choice(3, size, p=chances)
    found = (rng.random(size)[:, None] > np.cumsum(right, axis=1)[gold]).sum(1)
    return [Predicted(LABELS[i], rng.random()) for i in found], [LABELS[i] for i in gold]


@pytest.mark.parametrize(("offset", "scale"), [(0, 1), (1e6, 1e-3), (0, 1e-12)])
def test_the_metrics_of_numbers_are_those_of_scipy(offset, scale):
    rng = np.random.default_rng(0)
    gold = rng.normal(size=200).round(1)
    found = (gold + rng.normal(size=200)) * scale + offset
    errors = found - gold
    assert tally_numbers(found, gold).metrics() == pytest.approx(
        {
            "pearson": pearsonr(found, gold)[0],
            "spearman": spearmanr(found, gold)[0],
            "rmse": np.sqrt((errors**2).mean()),
            "mae": np.abs(errors).mean(),
        },
        rel=1e-6,
    )


def test_a_constant_has_no_correlation():
    found = tally_numbers([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]).metrics()
    assert (found["pearson"], found["spearman"]) == (0, 0)


def test_weights_follow_the_poisson_distribution_and_are_independent():
    weights = draw_weights(np.arange(20_000, dtype=np.uint64), 50).astype(float)
    shares = [(weights == number).mean() for number in range(5)]
    assert shares == pytest.approx(poisson(1).pmf(range(5)), abs=2e-3)
    correlations = np.corrcoef(weights.T) - np.eye(50)
    assert np.abs(correlations).max() < 0.035  # five standard deviations
    assert np.abs(weights.mean(0) - 1).max() < 0.03


def test_another_seed_draws_other_samples():
    groups = np.arange(500, dtype=np.uint64)
    assert (draw_weights(groups, 8, seed=0) != draw_weights(groups, 8, seed=1)).mean() > 0.5


@pytest.mark.parametrize("kind", ["labels", "numbers"])
def test_parts_give_the_intervals_of_the_whole(kind):
    rng = np.random.default_rng(0)
    predictions, gold = some_labels(300, rng)
    numbers = rng.normal(size=(300, 2))

    def tally(rows):
        if kind == "numbers":
            return tally_numbers(*numbers[rows].T)
        return tally_labels(predictions[rows], gold[rows], LABELS)

    whole, parts = Bootstrap(), Bootstrap()
    whole.add(tally(slice(None)))
    for rows in (slice(0, 7), slice(7, 200), slice(200, None)):
        parts.add(tally(rows))
    expected = whole.intervals()
    for name, one in parts.intervals().items():
        assert (one.value, one.low, one.high) == pytest.approx(
            (expected[name].value, expected[name].low, expected[name].high)
        )


def test_intervals_contain_the_true_value_in_95_percent_of_the_test_sets():
    rng = np.random.default_rng(0)
    chances, right = np.array([0.6, 0.3, 0.1]), np.array([[0.9, 0.07, 0.03], [0.2, 0.7, 0.1], [0.2, 0.2, 0.6]])
    cells = chances[:, None] * right
    truth = {"accuracy": np.trace(cells), "f1": (2 * np.diag(cells) / (cells.sum(0) + cells.sum(1))).mean()}
    hits = dict.fromkeys(truth, 0)
    for seed in range(1000):
        bootstrap = Bootstrap(500, seed)
        bootstrap.add(tally_labels(*some_labels(400, rng), LABELS))
        for name, one in bootstrap.intervals().items():
            if name in truth:
                hits[name] += one.low <= truth[name] <= one.high
    assert {name: 930 <= count <= 970 for name, count in hits.items()} == dict.fromkeys(truth, True), hits


def test_groups_widen_the_interval_so_that_it_still_contains_the_true_value():
    rng = np.random.default_rng(0)
    hits = narrow = 0
    for seed in range(300):
        shares = np.repeat(rng.beta(4, 1, size=60), 5)  # five rows of a document are alike
        bootstrap, alone = Bootstrap(400, seed), Bootstrap(400, seed)
        tally = tally_means({"accuracy": rng.random(300) < shares}, of_01=["accuracy"])
        bootstrap.add(tally, np.repeat(np.arange(60), 5))
        alone.add(tally)
        hits += bootstrap.intervals()["accuracy"].low <= 0.8 <= bootstrap.intervals()["accuracy"].high
        narrow += alone.intervals()["accuracy"].low <= 0.8 <= alone.intervals()["accuracy"].high
    assert hits >= 273  # 91 %
    assert narrow < hits


@pytest.mark.parametrize(("size", "share"), [(200, 0.9), (300, 0.81), (100, 0.5)])
def test_wilson_intervals_cover_exactly_enough(size, share):
    hits = [one for one in range(size + 1) if wilson(one / size, size).low <= share <= wilson(one / size, size).high]
    assert 0.93 <= binom(size, share).pmf(hits).sum() <= 0.97


def test_without_an_error_the_interval_is_not_a_point():
    bootstrap = Bootstrap()
    bootstrap.add(tally_labels([Predicted("red")] * 20, ["red"] * 20, LABELS))
    found = bootstrap.intervals()
    assert found["accuracy"].low == pytest.approx(1 - 0.161, abs=0.01)  # Wilson's, near the rule of three: 3 / 20
    assert found["f1"].low < 0.9
