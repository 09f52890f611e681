"""A model that is no better than a constant prediction is reported, with the likely cause."""

import json

import numpy as np
import pytest
from headway.core.training.defaults import suited_rate
from headway.tasks import QuestionAnswering, TextClassification, TokenClassification, load
from headway.tasks.base.baseline import Baseline, HowTrained, agreement, explain_no_learning, indicators, paired
from headway.tasks.base.card_text import escape
from headway.tasks.classification.multi_label import MultiLabel
from headway.tasks.classification.predictions import LabelPrediction, LabelsPrediction, NumberPrediction
from headway.tasks.classification.regression import Regression
from headway.tasks.classification.single_label import SingleLabel
from headway.tasks.question_answering.answers import Answer
from headway.tasks.question_answering.predictions import AnswerPrediction, QuestionExample
from headway.tasks.tagging.baseline import entity_baseline
from headway.tasks.tagging.tag_schemes import WordSpan

RANDOM = np.random.default_rng(0)
LABELS = ("blue", "green", "red")
TRAINED = HowTrained(num_rows=5000, num_labels=3, steps=500, learning_rate=suited_rate(384), hidden_size=384)


def single(predicted, gold):
    predictions = [LabelPrediction(label, 0.9, dict.fromkeys(LABELS, 0.1)) for label in predicted]
    found = SingleLabel(LABELS).baseline(predictions, gold)
    assert found is not None
    return found


def mostly_red(size, share=0.6):
    return ["red" if i < share * size else LABELS[i % 2] for i in range(size)]


# The test


def test_agreement_has_the_mean_and_the_variance_of_random_orders():
    gold, predicted = RANDOM.random((9, 4)), RANDOM.random((9, 4))
    sums = [float((predicted[RANDOM.permutation(9)] * gold).sum()) for _ in range(20_000)]
    observed = float((predicted * gold).sum())
    assert agreement(predicted, gold) == pytest.approx((observed - np.mean(sums)) / np.std(sums), abs=0.05)


def test_a_constant_prediction_agrees_by_chance_only():
    assert agreement(np.ones((50, 1)), RANDOM.random((50, 1))) == 0
    assert paired([0.5, 0.5], [0.5, 0.5]) == 0
    assert paired([1, 1], [0, 0]) > 100
    assert paired([1, 1, 0, 1], [0, 0, 0, 0]) > 1.645 > paired([1, 0, 0, 0], [0, 0, 1, 0])


def test_random_predictions_are_rarely_taken_for_learning():
    gold = indicators(([one] for one in mostly_red(200)), LABELS)
    deviations = [agreement(gold[RANDOM.permutation(200)], gold) for _ in range(400)]
    assert 0.01 < np.mean(np.array(deviations) > 1.645) < 0.09


# One label


def test_one_class_for_everything_is_nothing_learnt():
    found = single(["red"] * 100, mostly_red(100))
    complaint = found.complaint
    assert complaint is not None
    for part in ("Nothing was learnt", "accuracy 0.600", "always predicting 'red' (0.600)", "100 examples"):
        assert part in complaint


def test_a_good_model_gets_no_complaint_even_on_ten_rows():
    gold = mostly_red(10)
    assert single(gold, gold).complaint is None
    assert single([*gold[:8], "red", "red"], gold).complaint is None


def test_a_difference_that_may_be_chance_is_called_so():
    gold = ["red", "blue"] * 10
    predicted = ["red"] * 19 + ["blue"]
    complaint = single(predicted, gold).complaint
    assert complaint is not None
    assert "chance" in complaint


def test_rare_labels_that_are_found_are_not_nothing():
    gold = ["red"] * 90 + ["blue"] * 10
    predicted = ["red"] * 80 + ["blue"] * 20  # every blue one, and ten wrong ones
    complaint = single(predicted, gold).complaint
    assert complaint is not None
    assert "Nothing" not in complaint
    assert "no better than always predicting 'red' (0.900)" in complaint
    assert "follow the labels" in complaint


def test_rows_with_one_label_only_cannot_tell():
    assert SingleLabel(LABELS).baseline([LabelPrediction("red", 1.0, {"red": 1.0})], ["red"]) is None


def test_gold_labels_that_the_model_does_not_know_are_no_error():
    assert single(["red", "blue", "red", "blue"], ["red", "blue", "grey", "grey"]).num_examples == 4


# Several labels, numbers, entities, answers


def several(predicted, gold):
    predictions = [LabelsPrediction(tuple(labels), dict.fromkeys(LABELS, 0.5)) for labels in predicted]
    return MultiLabel(LABELS).baseline(predictions, gold)


def test_several_labels_are_compared_with_the_best_constant_set():
    gold = [("red", "blue"), ("red",), ("red", "blue"), ("red", "green")] * 10
    found = several([("red", "blue")] * 40, gold)
    assert found is not None
    assert found.constant == "always predicting 'red' and 'blue'"
    assert found.score == pytest.approx(found.constant_score)
    assert "Nothing was learnt" in (found.complaint or "")
    found = several(gold, gold)
    assert found is not None
    assert found.complaint is None
    assert several(gold, [("red",)] * 40) is None


def numbers(predicted, gold):
    return Regression().baseline([NumberPrediction(float(one)) for one in predicted], gold)


def test_numbers_are_compared_with_the_mean():
    gold = [1.0, 2.0, 3.0, 4.0] * 10
    found = numbers([2.5] * 40, gold)
    assert found is not None
    assert "always predicting the mean, 2.5 (0.000)" in (found.complaint or "")
    assert "Nothing was learnt" in (numbers(RANDOM.permutation(gold), gold) or found).complaint
    good = numbers([one + RANDOM.normal() for one in gold], gold)
    assert good is not None
    assert good.complaint is None
    assert numbers([1, 2], [3.0, 3.0]) is None


def test_entities_are_compared_with_finding_none():
    gold = [[WordSpan(0, 2, "PER")], [WordSpan(3, 4, "LOC")], []] * 10
    words = [range(5)] * 30
    found = entity_baseline([[]] * 30, gold, words, outside=True)
    assert found is not None
    assert "Nothing was learnt: f1 0.000 on 30 examples is no better than finding no entity" in (found.complaint or "")
    good = entity_baseline(gold[:27] + [[]] * 3, gold, words, outside=True)
    assert good is not None
    assert good.complaint is None
    assert entity_baseline([[]], [[]], [range(3)], outside=True) is None


def test_tags_of_every_word_are_compared_with_the_most_frequent_one():
    gold = [[WordSpan(0, 1, "DET"), WordSpan(1, 2, "NOUN"), WordSpan(2, 3, "NOUN")]] * 10
    constant = [[WordSpan(i, i + 1, "NOUN") for i in range(3)]] * 10
    found = entity_baseline(constant, gold, [range(3)] * 10, outside=False)
    assert found is not None
    assert "always predicting 'NOUN' (0.667)" in (found.complaint or "")


def test_answers_are_compared_with_answering_nothing():
    gold = [("Ada",), ("London",), (), ()] * 5
    examples = [
        QuestionExample(i, f"row {i}", str(i), "q", "c", tuple(Answer(one, 0) for one in answers))
        for i, answers in enumerate(gold)
    ]

    def baseline(answers):
        predictions = [AnswerPrediction(one, 0, 1, 0.5, 0.5, (), 0) for one in answers]
        found = QuestionAnswering().baseline(predictions, examples)
        assert found is not None
        return found

    declined = baseline([None] * 20)
    assert declined.constant_score == 0.5
    assert "no better than answering no question (0.500)" in (declined.complaint or "")
    assert baseline([answers[0] if answers else None for answers in gold]).complaint is None


# Causes


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"steps": 12}, ["Few steps (12)", "--epochs"]),
        ({"learning_rate": 5e-5}, ["5e-05 is low", f"--learning-rate {suited_rate(384):g}"]),
        ({"learning_rate": 1e-2}, ["0.01 is high"]),
        ({"num_rows": 20, "num_labels": 7}, ["20 rows for 7 labels are few", "merge labels"]),
        ({"num_rows": 5, "num_labels": 0}, ["5 rows are few"]),
        ({}, ["headway check"]),
        ({"learning_rate": None, "steps": 1}, ["headway check"]),
    ],
)
def test_the_likely_causes_say_what_to_change(changed, parts):
    advice = HowTrained(**{**vars(TRAINED), **changed}).advice
    for part in parts:
        assert part in advice
    assert advice.startswith("Likely cause")


def test_a_model_that_had_learnt_points_at_the_data():
    poor = Baseline("always predicting 'red'", "accuracy", 0.4, 0.5, 0.1, 100)
    assert TRAINED.advice in (explain_no_learning(poor, TRAINED) or "")
    text = explain_no_learning(poor, TRAINED, had_learnt=True)
    assert text is not None
    assert "its own held-out rows" in text
    assert TRAINED.advice not in text
    assert explain_no_learning(poor, None) == poor.complaint
    assert explain_no_learning(None, TRAINED) is None
    good = Baseline("always predicting 'red'", "accuracy", 0.9, 0.5, 9.0, 100)
    assert explain_no_learning(good, TRAINED) is None


# From training to the model folder

WORDS = ["cat", "dog", "parcel", "money", "card", "mat", "program", "fox"]
NOISE = [{"text": f"the {WORDS[i % 8]} {WORDS[i % 7]}", "label": LABELS[i * i % 3]} for i in range(300)]


def test_training_evaluation_and_the_card_say_it(bert_folder, tmp_path):
    model = TextClassification().on(bert_folder)
    options = {"precision": "fp32", "device": "cpu", "max_steps": 2, "learning_rate": 1e-6, "eval_fraction": 0.3}
    trained = model.fit(NOISE, output=tmp_path / "out", **options)
    assert trained.nothing_learnt is not None
    for part in ("Nothing was learnt", "Few steps (2)", "1e-06 is low"):
        assert part in trained.nothing_learnt
    assert json.loads((tmp_path / "out/headway.json").read_text())["nothing_learnt"] == trained.nothing_learnt
    assert escape(trained.nothing_learnt) in (tmp_path / "out/README.md").read_text()
    assert trained.to_json()["nothing_learnt"] == trained.nothing_learnt
    evaluation = load(tmp_path / "out").evaluate(NOISE)
    assert "Few steps (2)" in (evaluation.to_json()["nothing_learnt"] or "")


def test_a_model_that_learns_is_not_accused(bert_folder, tmp_path):
    rows = [{"text": f"the {word} {other}", "label": word} for word in ("cat", "dog") for other in WORDS * 4]
    model = TextClassification().on(bert_folder)
    trained = model.fit(rows, rows, output=tmp_path / "out", precision="fp32", device="cpu", learning_rate=5e-3)
    assert trained.metrics["accuracy"] > 0.9
    assert trained.nothing_learnt is None
    assert "Nothing" not in (tmp_path / "out/README.md").read_text()


def test_a_tagger_that_finds_nothing_is_reported(bert_folder, tmp_path):
    rows = [{"words": ["the", word], "tags": ["O", "B-PER"]} for word in WORDS * 4]
    model = TokenClassification().on(bert_folder)
    options = {"precision": "fp32", "device": "cpu", "max_steps": 1, "learning_rate": 1e-6}
    trained = model.fit(rows, output=tmp_path / "out", eval_fraction=0.4, **options)
    assert trained.nothing_learnt is not None
    assert "finding no entity" in trained.nothing_learnt
