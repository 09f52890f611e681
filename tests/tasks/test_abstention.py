"""Abstention: risk and coverage, the threshold of confidence, and how a model keeps and follows its rules."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from data_files import assert_error
from headway.core.training.training_config import TrainConfig
from headway.tasks import (
    RuleOptions,
    TextClassification,
    TokenClassification,
    fit_rules,
    load,
    measure_rules,
    save_rules,
)
from headway.tasks.base.decision_rules import STORED_AS
from headway.tasks.base.model import TaskModel
from headway.tasks.base.report_parts import Chart
from headway.tasks.classification.predictions import LabelsPrediction
from headway.tasks.evaluation import evaluate_with_report
from headway.tasks.evaluation.risk_coverage import confidence_at, risk_coverage
from headway.tasks.tagging.predictions import EntitiesPrediction

FAST = TrainConfig(max_steps=2, batch_size=8, learning_rate=1e-3, precision="fp32", device="cpu")
WORDS = ["good", "fine", "great", "bad", "poor", "sad"]
ROWS = [(f"a {WORDS[i % 6]} thing {i}", "plus" if i % 6 < 3 else "minus") for i in range(60)]


@pytest.fixture(scope="module")
def folder(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two labels that has learnt a little, without rules."""
    output = tmp_path_factory.mktemp("rules") / "model"
    TextClassification().on(bert_folder).fit(ROWS, config=FAST, output=output, eval_fraction=0, progress=False)
    return output


@pytest.fixture
def model(folder: Path) -> TaskModel:
    return load(folder, device="cpu")


def test_risk_falls_with_coverage_if_confidence_says_what_is_wrong():
    confidence, wrong = np.array([0.9, 0.8, 0.7, 0.6]), np.array([False, False, True, True])
    curve = risk_coverage(confidence, wrong)
    assert curve.coverage == (0.25, 0.5, 0.75, 1.0)
    assert curve.risk == pytest.approx((0, 0, 1 / 3, 0.5))
    assert curve.min_confidence == (0.9, 0.8, 0.7, 0.6)
    assert curve.area == curve.best_area == pytest.approx((0 + 0 + 1 / 3 + 0.5) / 4)
    reverse = risk_coverage(-confidence, wrong)
    assert reverse.area > reverse.best_area == curve.best_area


def test_rows_of_equal_confidence_are_never_divided():
    curve = risk_coverage(np.array([0.9, 0.5, 0.5, 0.5]), np.array([False, True, False, True]))
    assert curve.coverage == (0.25, 1.0)
    same = risk_coverage(np.full(4, 0.5), np.array([True, False, True, False]))
    assert same.area == pytest.approx(0.5)  # as if answered in random order
    assert same.coverage == (1.0,)


def test_a_long_curve_is_stored_with_few_points_and_the_area_of_all():
    random = np.random.default_rng(0)
    confidence = random.random(5000)
    wrong = random.random(5000) > confidence
    short, full = risk_coverage(confidence, wrong), risk_coverage(confidence, wrong, 5000)
    assert len(short.coverage) == 100
    assert short.coverage[-1] == 1.0
    assert short.area == full.area == pytest.approx(0.25, abs=0.02)  # the mean of c / 2 over coverages c
    assert len(full.coverage) == 5000


def test_the_threshold_answers_the_chosen_share_or_a_little_more():
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.6])
    assert [confidence_at(confidence, share) for share in (0.2, 0.3, 0.6, 0.7, 1)] == [0.9, 0.8, 0.7, 0.6, 0.6]


def test_the_confidence_of_several_labels_or_words_is_that_of_the_least_certain_one():
    assert LabelsPrediction(("a",), {"a": 0.9, "b": 0.3}).confidence == 0.7
    assert EntitiesPrediction((), ("a", "b"), ("O", "O"), (0.9, 0.6)).confidence == 0.6
    assert EntitiesPrediction((), (), (), ()).confidence == 1.0


def test_fitted_rules_are_followed_by_the_model_but_stored_on_request_only(model: TaskModel, folder: Path):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    found = model.evaluate(ROWS)
    scores = fit_rules(model, found, RuleOptions(coverage=0.5, conformal=0.8))
    assert scores.abstention is not None
    assert scores.conformal is not None
    assert scores.abstention.answered.value >= 0.5
    assert scores.conformal.covered.value >= 0.8
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    predictions = model.predict([text for text, _ in ROWS])
    answered = [one.confidence >= scores.abstention.min_confidence for one in predictions]
    assert [not one.abstained for one in predictions] == answered
    assert 0 < sum(answered) < len(ROWS)
    assert all(one.label in one.label_set for one in predictions)
    save_rules(model)
    changed = {path.name for path in folder.iterdir() if path.read_bytes() != before[path.name]}
    assert changed == {"headway.json", "README.md"}
    again = load(folder, device="cpu")
    assert again.rules == model.rules
    assert [one.certainty for one in again.predict([text for text, _ in ROWS])] == [
        one.certainty for one in predictions
    ]
    measured = measure_rules(again, again.evaluate(ROWS)).to_json()
    assert measured["abstention"] == scores.to_json()["abstention"] | {"fitted": False}
    for name in changed:
        (folder / name).write_bytes(before[name])


def test_a_model_without_rules_says_nothing(model: TaskModel):
    one = model.predict("a good thing")
    assert not one.abstained
    assert one.label_set is None
    assert one.to_json().keys() == {"label", "score", "scores"}
    assert one.summary == one.brief
    assert measure_rules(model, model.evaluate(ROWS)).sentences() == []


def test_a_confidence_chosen_by_hand_overrules_the_stored_one(model: TaskModel):
    fit_rules(model, model.evaluate(ROWS), RuleOptions(coverage=0.1))
    texts = [text for text, _ in ROWS]
    assert any(one.abstained for one in model.predict(texts))
    assert not any(one.abstained for one in model.predict(texts, min_confidence=0))
    assert all(one.abstained for one in model.predict(texts, min_confidence=1))
    assert all(one.abstained for _, one in model.predict_rows(texts, min_confidence=1))
    assert_error(lambda: model.predict(texts, min_confidence=2), "--min-confidence 2", "from 0")


def test_the_windows_of_a_server_give_the_same_certainty(model: TaskModel):
    fit_rules(model, model.evaluate(ROWS), RuleOptions(coverage=0.5, conformal=0.8))
    texts = [text for text, _ in ROWS[:8]]
    windows = model.windows(texts)
    found = model.join_windows(windows, model.predict_windows([one for part in windows for one in part]))
    assert [one.certainty for one in found] == [one.certainty for one in model.predict(texts)]


def test_rows_with_the_same_text_widen_the_intervals(model: TaskModel):
    once = fit_rules(model, model.evaluate(ROWS), RuleOptions(coverage=0.5)).abstention
    many = fit_rules(model, model.evaluate(ROWS * 4), RuleOptions(coverage=0.5)).abstention
    assert once is not None
    assert many is not None
    assert many.answered.high - many.answered.low > 0.7 * (once.answered.high - once.answered.low)


def test_entities_have_abstention_but_no_sets(bert_folder: Path):
    words = [["a", "good", "film"], ["where", "is", "Ada"]] * 4
    tagger = TokenClassification().on(bert_folder)
    tagger.fit(words, [["O", "O", "B-X"], ["O", "O", "B-PER"]] * 4, config=FAST, eval_fraction=0, progress=False)
    found = tagger.evaluate(words, [["O", "O", "B-X"], ["O", "O", "B-PER"]] * 4)
    scores = fit_rules(tagger, found, RuleOptions(coverage=0.5)).abstention
    assert scores is not None
    assert scores.answered.value >= 0.5
    assert "abstained" in tagger.predict("a good film").to_json()
    assert_error(lambda: fit_rules(tagger, found, RuleOptions(conformal=0.5)), "exactly one label")


def test_shares_that_cannot_be_are_refused(model: TaskModel):
    for options in ({"coverage": 0}, {"coverage": 1.5}, {"conformal": 1.0}, {"conformal": -1}):
        assert_error(lambda options=options: RuleOptions(**options), next(iter(options)), "such as 0.9")
    assert_error(lambda: RuleOptions(conformal_method="x"), "lac, aps")
    number = TextClassification().on(model.base)
    number.fit([(text, float(i)) for i, (text, _) in enumerate(ROWS)], config=FAST, eval_fraction=0, progress=False)
    found = number.evaluate([(text, float(i)) for i, (text, _) in enumerate(ROWS)])
    assert_error(lambda: fit_rules(number, found, RuleOptions(coverage=0.9)), "--coverage needs predictions with a")
    assert_error(lambda: number.predict("a good thing", min_confidence=0.5), "--min-confidence needs predictions")


def test_rules_are_stored_in_a_folder_that_headway_saved_only(bert_folder: Path):
    model = TextClassification().on(bert_folder)
    model.fit(ROWS, config=FAST, eval_fraction=0, progress=False)
    fit_rules(model, model.evaluate(ROWS), RuleOptions(coverage=0.5))
    assert_error(lambda: save_rules(model), "not a folder that Headway saved", "save(FOLDER)")
    assert not (bert_folder / "headway.json").exists()


@pytest.mark.parametrize(
    "damage",
    [{"abstention": {"min_confidence": 7}}, {"conformal": {"method": "lac"}}, {"future": {}}, {"abstention": 3}],
)
def test_damaged_rules_are_refused_when_the_model_is_opened(folder: Path, tmp_path: Path, damage: dict):
    broken = shutil.copytree(folder, tmp_path / "broken")
    info = json.loads((broken / "headway.json").read_text())
    (broken / "headway.json").write_text(json.dumps({**info, STORED_AS: damage}))
    assert_error(lambda: load(broken, device="cpu"), "headway.json", STORED_AS)


@pytest.mark.realdata
def test_the_risk_of_sst2_falls_with_coverage(minilm: Path):
    def rows(name: str) -> list[tuple[str, str]]:
        lines = (Path(os.environ["HEADWAY_DATA"]) / "sst2" / name).read_text(encoding="utf-8").splitlines()
        return [(text, label) for text, label in (line.split("\t") for line in lines)]

    model = TextClassification(frozen=True).on(minilm)
    model.fit(rows("train.tsv")[:3000], progress=False)
    fit_rules(model, model.evaluate(rows("dev.tsv")), RuleOptions(coverage=0.8, conformal=0.9))
    scores = measure_rules(model, model.evaluate(rows("test.tsv")))
    assert scores.abstention is not None
    assert scores.conformal is not None
    curve = scores.abstention.curve
    risk = np.interp(np.arange(0.2, 1.01, 0.1), curve.coverage, curve.risk)
    assert (np.diff(risk) > 0).all()
    assert scores.abstention.answered.value == pytest.approx(0.8, abs=0.04)
    assert scores.abstention.accuracy is not None
    assert scores.abstention.accuracy.low > scores.abstention.accuracy_of_all.value
    assert scores.conformal.covered.low < 0.9 < scores.conformal.covered.high


def test_the_report_has_the_curve_of_the_same_rows(model: TaskModel):
    found, report = evaluate_with_report(model, ROWS)
    (chart,) = [part for part in report.parts if isinstance(part, Chart) and part.title == "Risk and coverage"]
    scores = fit_rules(model, found, RuleOptions(coverage=0.5)).abstention
    assert scores is not None
    assert chart.series[0].x == pytest.approx(scores.curve.coverage)
    assert chart.series[0].y == pytest.approx(scores.curve.risk)
    assert f"{scores.curve.area:.4f}" in chart.note


def test_rules_that_are_fitted_to_training_rows_say_so(model: TaskModel):
    others = [(f"quite a {text}", label) for text, label in ROWS]
    assert "promise too much" in fit_rules(model, model.evaluate(ROWS), RuleOptions(coverage=0.5)).sentences()[-1]
    assert "promise" not in " ".join(fit_rules(model, model.evaluate(others), RuleOptions(coverage=0.5)).sentences())
    assert "promise" not in " ".join(measure_rules(model, model.evaluate(ROWS)).sentences())
