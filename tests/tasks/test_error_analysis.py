"""Error analysis: the confusion matrix and the worst mispredictions."""

import json

import pytest
from headway.tasks import QuestionAnswering, TextClassification, TextGeneration, TokenClassification
from headway.tasks.base.error_analysis import analyze_errors, confusion_matrix, worst_mispredictions
from headway.tasks.classification.predictions import LabelPrediction, LabelsPrediction, NumberPrediction, TextExample
from headway.tasks.question_answering.answers import Answer
from headway.tasks.question_answering.predictions import AnswerPrediction, QuestionExample
from headway.tasks.tagging.predictions import EntitiesPrediction, Entity, TaggedExample
from headway.tasks.tagging.tag_schemes import WordSpan

ONE = TextClassification(labels=("a", "b", "c"), problem_type="single_label_classification")


def one(label: str, **scores: float) -> LabelPrediction:
    return LabelPrediction(label, scores[label], scores)


def example(label, row: int = 0) -> TextExample:
    return TextExample(row, f"dev.tsv, line {row}", f"text {row}", None, label)


def test_the_confusion_matrix_counts_predictions_by_gold_label():
    gold = ["a", "b", "b", "b", "c"]
    found = ["a", "b", "c", "c", "c"]
    predictions = [one(label, a=0.1, b=0.1, c=0.1) for label in found]
    matrix = confusion_matrix(ONE, predictions, [example(label) for label in gold])
    assert matrix is not None
    assert matrix.labels == ("b", "c", "a")
    assert matrix.counts == ((1, 2, 0), (0, 1, 0), (0, 0, 1))
    fewer = confusion_matrix(ONE, predictions, [example(label) for label in gold], max_labels=2)
    assert fewer is not None
    assert fewer.labels == ("b", None)
    assert fewer.counts == ((1, 2), (0, 2))


def test_the_most_confident_mispredictions_come_first():
    predictions = [one("a", a=0.9, b=0.1), one("a", a=0.6, b=0.4), one("b", a=0.2, b=0.8)]
    examples = [example("b", 1), example("b", 2), example("b", 3)]
    worst = worst_mispredictions(ONE, predictions, examples)
    assert [(mistake.where, mistake.gold, mistake.predicted) for mistake in worst] == [
        ("dev.tsv, line 1", "b", "a (0.90)"),
        ("dev.tsv, line 2", "b", "a (0.60)"),
    ]
    assert worst_mispredictions(ONE, predictions, examples, most=1) == worst[:1]
    assert json.loads(json.dumps(analyze_errors(ONE, predictions, examples)))["mistakes"][0]["texts"] == ["text 1"]


def test_several_labels_and_numbers_have_mispredictions_but_no_confusion_matrix():
    several = TextClassification(labels=("a", "b"), problem_type="multi_label_classification")
    predictions = [LabelsPrediction(("a",), {"a": 0.9, "b": 0.2}), LabelsPrediction((), {"a": 0.4, "b": 0.1})]
    worst = worst_mispredictions(several, predictions, [example(("b",), 1), example(("a",), 2)])
    assert [mistake.error for mistake in worst] == [pytest.approx(0.9), pytest.approx(0.6)]
    assert worst[1].predicted == "-"
    assert confusion_matrix(several, predictions, [example(("b",)), example(())]) is None
    assert worst_mispredictions(several, predictions[:1], [example(("a",))]) == []

    number = TextClassification(problem_type="regression")
    found = worst_mispredictions(
        number, [NumberPrediction(2.0), NumberPrediction(5.0)], [example(1.5, 1), example(1.0, 2)]
    )
    assert [(mistake.where, mistake.error) for mistake in found] == [
        ("dev.tsv, line 2", 4.0),
        ("dev.tsv, line 1", 0.5),
    ]


def test_entities_are_compared_by_word_and_by_span():
    task = TokenClassification(labels=("O", "B-PER", "I-PER", "B-LOC", "I-LOC"), scheme="IOB2")
    text, words, starts = "Ada in London", ("Ada", "in", "London"), (0, 4, 7)
    gold = TaggedExample(0, "dev, line 1", text, words, starts, (WordSpan(0, 1, "PER"), WordSpan(2, 3, "LOC")))
    entity = Entity("London", "PER", 7, 13, 0.9)
    wrong = EntitiesPrediction((entity,), words, ("O", "O", "B-PER"), (0.9, 0.9, 0.9))
    right = EntitiesPrediction(
        (Entity("Ada", "PER", 0, 3, 0.9), Entity("London", "LOC", 7, 13, 0.9)),
        words,
        ("B-PER", "O", "B-LOC"),
        (0.9,) * 3,
    )
    assert sorted(task.confused([wrong], [gold])) == [("LOC", "PER"), ("PER", "no entity")]
    (mistake,) = worst_mispredictions(task, [wrong, right], [gold, gold])
    assert (mistake.gold, mistake.predicted, mistake.error) == ("PER: Ada; LOC: London", "PER: London", 3.0)


def test_the_error_of_an_answer_grows_with_its_lack_of_overlap():
    task = QuestionAnswering()
    gold = QuestionExample(0, "dev, line 1", "1", "who?", "Ada Lovelace wrote it", (Answer("Ada Lovelace", 0),))
    none = QuestionExample(1, "dev, line 2", "2", "when?", "Ada Lovelace wrote it", ())

    def answered(text: str | None, score: float) -> AnswerPrediction:
        return AnswerPrediction(text, 0, len(text or ""), score, 1 - score, ())

    predictions = [answered("Ada", 0.9), answered("wrote it", 0.8), answered("the Ada Lovelace", 0.9)]
    worst = worst_mispredictions(task, predictions, [gold, none, gold])
    assert [(mistake.gold, mistake.predicted) for mistake in worst] == [
        ("no answer", "wrote it  0.80"),
        ("Ada Lovelace", "Ada  0.90"),
    ]
    assert confusion_matrix(task, predictions, [gold, none, gold]) is None


def test_a_self_supervised_task_has_no_error_analysis():
    assert analyze_errors(TextGeneration(), [object()], range(1)) == {"confusion": None, "mistakes": []}
