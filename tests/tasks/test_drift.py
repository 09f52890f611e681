"""Drift: its tests keep their level, and a model says what differs between new rows and those it was trained for."""

import json

import numpy as np
import pytest
from headway.core.errors import HeadwayError
from headway.tasks import TextClassification
from headway.tasks.evaluation.drift import has_labels, measure_drift
from headway.tasks.evaluation.drift_tests import RowFacts, drift_findings
from scipy.stats import chi2_contingency
from test_compare import FAST, ROWS
from test_contract import CASES

NAMES = np.array(["red", "green", "blue"])
NEW = [{"text": "naïve ξψω owners " * 4 + word} for word in ("today", "card", "cat", "dog", "London") * 8]


def facts(kind: str, rng: np.random.Generator, size: int, shift: float = 0.0) -> RowFacts:
    """One kind of facts of random rows; without a shift, all are from the same distribution."""
    if kind == "labels":
        return RowFacts(labels=[(name,) for name in rng.choice(NAMES, size, p=[0.5 + shift, 0.3, 0.2 - shift])])
    if kind == "entities":  # a row often has several of the same type
        types, numbers = rng.choice(NAMES, size, p=[0.5 + shift, 0.3, 0.2 - shift]), rng.integers(0, 4, size)
        return RowFacts(labels=[(name,) * number for name, number in zip(types, numbers, strict=True)])
    if kind == "lengths":
        return RowFacts(lengths=rng.poisson(200 * (1 + shift), size).astype(float))
    if kind == "unknown":
        shares = np.where(rng.random(size) < 0.3 + shift, rng.random(size) / 4, 0)
        return RowFacts(unknown=shares)
    return RowFacts(**{kind: rng.beta(5 + 20 * shift, 2, size)})


KINDS = ["labels", "entities", "confidence", "lengths", "distances", "unknown"]


@pytest.mark.parametrize("kind", KINDS)
def test_without_drift_a_test_finds_some_in_about_5_percent_of_the_cases(kind):
    rng = np.random.default_rng(0)
    sizes = (40, 30) if kind == "entities" else (200, 150)
    found = [drift_findings(*(facts(kind, rng, size) for size in sizes))[0] for _ in range(1000)]
    assert 0.03 <= np.mean([one.p < 0.05 for one in found]) <= 0.07


def test_without_drift_all_tests_together_find_some_in_at_most_5_percent_of_the_cases():
    rng, false = np.random.default_rng(0), []
    for _ in range(500):
        both = []
        for size in (200, 150):
            values = {}
            for kind in ("labels", "confidence", "lengths", "distances", "unknown"):
                values[kind] = getattr(facts(kind, rng, size), kind)
            both.append(RowFacts(**values))
        found = drift_findings(*both)
        assert len(found) == 5
        false.append(any(one.p < 0.05 for one in found))
    assert 0.015 <= np.mean(false) <= 0.07


@pytest.mark.parametrize("kind", KINDS)
def test_drift_is_found(kind):
    rng = np.random.default_rng(0)
    found = drift_findings(facts(kind, rng, 800), facts(kind, rng, 800, shift=0.19))[0]
    assert found.p < 0.001
    assert found.drifted
    assert found.sentence.startswith("Drift of ")


def test_a_small_difference_of_many_rows_is_called_small():
    rng = np.random.default_rng(0)
    found = drift_findings(facts("labels", rng, 20_000), facts("labels", rng, 20_000, shift=0.02))[0]
    assert (found.p < 0.001, found.drifted) == (True, False)
    assert found.sentence.startswith("A small drift of predicted labels: ")


def test_the_p_of_labels_is_that_of_the_chi_squared_test():
    rng = np.random.default_rng(0)
    reference, new = facts("labels", rng, 300), facts("labels", rng, 200, shift=0.05)
    table = [[sum(row == (name,) for row in one.labels) for name in NAMES] for one in (reference, new)]
    expected = chi2_contingency(table, correction=False)
    found = drift_findings(reference, new)[0]
    assert found.p == pytest.approx(expected.pvalue)
    assert found.effect == pytest.approx((expected.statistic / 500) ** 0.5)
    assert found.shares["red"] == pytest.approx((table[0][0] / 300, table[1][0] / 200))


def test_labels_that_occur_on_one_side_only_and_rare_labels_are_tested():
    many = [(f"rare {i}",) for i in range(30)]
    found = drift_findings(RowFacts(labels=[("a",)] * 100), RowFacts(labels=[("a",)] * 60 + many))[0]
    assert found.p < 0.001
    same = drift_findings(RowFacts(labels=[("a",)] * 100), RowFacts(labels=[("a",)] * 60))[0]
    assert (same.p, same.effect) == (1, 0)
    none = drift_findings(RowFacts(labels=[()] * 30), RowFacts(labels=[()] * 30))[0]
    assert (none.p, none.reference) == (1, "none")


@pytest.fixture(scope="module")
def model(bert_folder):
    task = TextClassification().on(bert_folder)
    task.fit(ROWS, **{**FAST, "eval_fraction": 0.5, "max_steps": 40, "learning_rate": 5e-3})
    return task


def test_rows_like_the_training_data_have_not_drifted_and_others_have(model):
    same = measure_drift(model, [{"text": row["text"]} for row in ROWS], ROWS)
    assert not same.drifted
    other = measure_drift(model, NEW, ROWS)
    assert {one.what for one in other.findings if one.drifted} >= {"length", "unknown tokens"}
    assert any(one.what.startswith("distance") and one.drifted for one in other.findings)
    assert other.sentences[0].startswith("Drift of ")
    assert (other.reference_rows, other.new_rows) == (len(ROWS), len(NEW))
    json.dumps(other.to_json(), allow_nan=False)
    part = other.report_part().to_json()
    assert [row[""] for row in part["rows"]] == [one.what for one in other.findings]


def test_confidence_on_rows_that_the_model_was_trained_on_is_not_compared(bert_folder):
    trained = TextClassification().on(bert_folder)
    trained.fit(ROWS, **FAST)
    found = measure_drift(trained, NEW, ROWS)
    assert "confidence" not in {one.what for one in found.findings}
    assert any("Confidence is not compared" in note for note in found.notes)
    assert "confidence" in {one.what for one in measure_drift(trained, ROWS, NEW).findings}


def test_few_rows_are_refused(model):
    with pytest.raises(HeadwayError, match="5 rows are too few to measure drift; give 20"):
        measure_drift(model, NEW[:5], ROWS)


def test_rows_have_labels_only_where_the_training_data_has_them(model):
    assert has_labels(model, ROWS) == (True, "")
    found, why = has_labels(model, NEW)
    assert (found, 'no column "label"' in why) == (False, True)
    assert not has_labels(model, [{**row, "label": None} for row in NEW])[0]
    assert not has_labels(model, [{**row, "kind": "post"} for row in NEW])[0]
    assert has_labels(model, [{**row, "kind": "post"} for row in NEW], columns={"label": "kind"})[0]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.task.self_supervised])
def test_drift_is_measured_for_every_task_that_predicts_rows(name, bert_folder, gpt2_folder):
    case = CASES[name]
    model = case.task.on(bert_folder if "bert" in case.task.models else gpt2_folder)
    model.fit(case.rows, **FAST)
    found = measure_drift(model, case.rows * 3, case.rows * 4)
    assert {"length"} <= {one.what for one in found.findings}
    assert not found.drifted
    json.dumps(found.to_json())


def test_language_models_are_refused(bert_folder):
    case = CASES["fill-mask"]
    model = case.task.on(bert_folder)
    model.fit(case.rows, **FAST)
    with pytest.raises(HeadwayError, match="drift is measured for models that predict rows"):
        measure_drift(model, case.rows * 3, case.rows * 3)
