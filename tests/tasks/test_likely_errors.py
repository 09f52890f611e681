"""Reports list labels that are probably wrong, in bounded memory."""

import numpy as np
import pytest
from headway.tasks import QuestionAnswering, TextClassification, TokenClassification
from headway.tasks.classification.predictions import LabelPrediction, LabelsPrediction, TextExample
from headway.tasks.evaluation import likely_errors
from headway.tasks.evaluation.likely_errors import LikelyErrors
from headway.tasks.tagging.predictions import EntitiesPrediction, TaggedExample
from headway.tasks.tagging.tag_schemes import WordSpan

TASK = TextClassification(labels=("a", "b"), problem_type="single_label_classification")


def example(i: int, label: object) -> TextExample:
    return TextExample(i, f"/home/me/data.csv, line {i}", f"text {i}", None, label)  # pyright: ignore


def predicted(probability: float) -> LabelPrediction:
    scores = {"a": probability, "b": 1 - probability}
    label = max(scores, key=lambda one: scores[one])
    return LabelPrediction(label, scores[label], scores)


def collect(*parts: tuple[list[float], str]) -> LikelyErrors:
    found, row = LikelyErrors(), 0
    for probabilities, gold in parts:
        examples = [example(row + i, one) for i, one in enumerate(gold)]
        found.add(TASK, [predicted(one) for one in probabilities], examples)
        row += len(gold)
    return found


def test_labels_are_suspect_if_the_model_is_as_sure_of_another_one_as_of_right_ones():
    # The mean probability of "b" over the rows that have it is 0.7, that of "a" 0.5.
    found = collect(([0.9, 0.8, 0.35, 0.25], "aaaa"), ([0.1, 0.2, 0.7, 0.2], "bbbb")).summary()
    assert found is not None
    assert (found.checked, found.found) == (8, 2)
    # Row 2 is not: 0.65 for "b" is below 0.7. Row 6 is: 0.7 for "a" is above 0.575.
    assert [(one.where, one.given, one.likely) for one in found.rows] == [
        ("data.csv, line 3", "a", "b"), ("data.csv, line 6", "b", "a"),
    ]  # fmt: skip
    assert (found.rows[0].given_probability, found.rows[0].likely_probability) == pytest.approx((0.25, 0.75))


def test_memory_does_not_grow_and_the_lowest_probabilities_are_kept(monkeypatch):
    monkeypatch.setattr(likely_errors, "MAX_KEPT", 5)
    chance = np.random.default_rng(0)
    probabilities = chance.uniform(0, 0.4, 200).round(6)
    found = collect(
        *[(part.tolist(), "a" * 50) for part in np.split(probabilities, 4)], ([0.9] * 9, "b" * 9)
    ).summary()
    assert found is not None
    assert [one.given_probability for one in found.rows] == pytest.approx(sorted(probabilities)[:5])


def test_equal_probabilities_in_parts_of_different_sizes_are_ranked_in_the_order_of_the_rows():
    found = collect(([0.1] * 3, "aaa"), ([0.1], "a"), ([0.2] * 3, "bbb")).summary()
    assert found is not None
    assert [one.where for one in found.rows] == [f"data.csv, line {i}" for i in range(4)]


def test_a_label_that_the_model_does_not_have_is_not_suspect():
    task = TextClassification(labels=("a", "b", "new"), problem_type="single_label_classification")
    found = LikelyErrors()
    found.add(task, [predicted(0.9)] * 3, [example(0, "new"), example(1, "a"), example(2, "b")])
    summary = found.summary()
    assert summary is not None
    assert [one.given for one in summary.rows] == ["b"]
    assert summary.checked == 2


def test_each_of_several_labels_and_of_words_is_checked():
    several = TextClassification(labels=("a", "b"), problem_type="multi_label_classification")
    found = LikelyErrors()
    predictions = [LabelsPrediction(("a",), {"a": 0.9, "b": 0.1})] * 4
    found.add(several, predictions, [example(0, ("a",)), example(1, ("a",)), example(2, ("a",)), example(3, ("b",))])
    summary = found.summary()
    assert summary is not None
    assert {(one.item, one.given, one.likely) for one in summary.rows} == {("a", "no", "yes"), ("b", "yes", "no")}
    tagger = TokenClassification(labels=("O", "B-PER", "I-PER", "B-LOC", "I-LOC"))
    entities = EntitiesPrediction((), ("Ada", "ran"), ("B-PER", "O"), (0.9, 0.95))
    unread = EntitiesPrediction((), ("Ada", "ran"), ("O", "O"), (0.0, 0.0))
    right, wrong = (WordSpan(0, 1, "PER"),), (WordSpan(0, 1, "LOC"),)
    examples = [
        TaggedExample(i, "d, line 1", "Ada ran", ("Ada", "ran"), (0, 4), one)
        for i, one in enumerate((right, right, wrong, right))
    ]
    found = LikelyErrors()
    found.add(tagger, [entities, entities, entities, unread], examples)
    summary = found.summary()
    assert summary is not None
    assert [(one.item, one.given, one.likely) for one in summary.rows] == [("Ada", "LOC", "PER")]
    assert summary.checked == 6


def test_a_task_without_such_labels_has_no_list():
    found = LikelyErrors()
    found.add(QuestionAnswering(), [], [])
    found.add(TextClassification(problem_type="regression"), [], [])
    assert found.summary() is None
