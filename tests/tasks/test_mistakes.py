"""Where a model is wrong: what it takes for what, and its worst mistakes."""

import json

import pytest
from headway.tasks import QuestionAnswering, TextClassification, TextGeneration, TokenClassification
from headway.tasks.base.error_analysis import account_of, confusion_of, worst_mispredictions
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


def test_the_matrix_counts_what_is_taken_for_what():
    gold = ["a", "b", "b", "b", "c"]
    found = ["a", "b", "c", "c", "c"]
    predictions = [one(label, a=0.1, b=0.1, c=0.1) for label in found]
    matrix = confusion_of(ONE, predictions, [example(label) for label in gold])
    assert matrix is not None
    assert matrix.labels == ("b", "c", "a")
    assert matrix.counts == ((1, 2, 0), (0, 1, 0), (0, 0, 1))
    fewer = confusion_of(ONE, predictions, [example(label) for label in gold], most=2)
    assert fewer is not None
    assert fewer.labels == ("b", None)
    assert fewer.counts == ((1, 2), (0, 2))


def test_the_mistakes_that_it_was_surest_of_come_first():
    predictions = [one("a", a=0.9, b=0.1), one("a", a=0.6, b=0.4), one("b", a=0.2, b=0.8)]
    examples = [example("b", 1), example("b", 2), example("b", 3)]
    worst = worst_mispredictions(ONE, predictions, examples)
    assert [(mistake.where, mistake.right, mistake.predicted) for mistake in worst] == [
        ("dev.tsv, line 1", "b", "a (0.90)"),
        ("dev.tsv, line 2", "b", "a (0.60)"),
    ]
    assert worst_mispredictions(ONE, predictions, examples, most=1) == worst[:1]
    assert json.loads(json.dumps(account_of(ONE, predictions, examples)))["mistakes"][0]["texts"] == ["text 1"]


def test_several_labels_and_numbers_have_mistakes_but_no_matrix():
    several = TextClassification(labels=("a", "b"), problem_type="multi_label_classification")
    predictions = [LabelsPrediction(("a",), {"a": 0.9, "b": 0.2}), LabelsPrediction((), {"a": 0.4, "b": 0.1})]
    worst = worst_mispredictions(several, predictions, [example(("b",), 1), example(("a",), 2)])
    assert [mistake.size for mistake in worst] == [pytest.approx(0.9), pytest.approx(0.6)]
    assert worst[1].predicted == "-"
    assert confusion_of(several, predictions, [example(("b",)), example(())]) is None
    assert worst_mispredictions(several, predictions[:1], [example(("a",))]) == []

    number = TextClassification(problem_type="regression")
    found = worst_mispredictions(
        number, [NumberPrediction(2.0), NumberPrediction(5.0)], [example(1.5, 1), example(1.0, 2)]
    )
    assert [(mistake.where, mistake.size) for mistake in found] == [("dev.tsv, line 2", 4.0), ("dev.tsv, line 1", 0.5)]


def test_entities_are_compared_word_by_word_and_by_their_places():
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
    assert (mistake.right, mistake.predicted, mistake.size) == ("PER: Ada; LOC: London", "PER: London", 3.0)


def test_an_answer_is_wrong_by_the_words_that_it_has_in_common_with_none():
    task = QuestionAnswering()
    gold = QuestionExample(0, "dev, line 1", "1", "who?", "Ada Lovelace wrote it", (Answer("Ada Lovelace", 0),))
    none = QuestionExample(1, "dev, line 2", "2", "when?", "Ada Lovelace wrote it", ())

    def answered(text: str | None, score: float) -> AnswerPrediction:
        return AnswerPrediction(text, 0, len(text or ""), score, 1 - score, ())

    predictions = [answered("Ada", 0.9), answered("wrote it", 0.8), answered("the Ada Lovelace", 0.9)]
    worst = worst_mispredictions(task, predictions, [gold, none, gold])
    assert [(mistake.right, mistake.predicted) for mistake in worst] == [
        ("no answer", "wrote it  0.80"),
        ("Ada Lovelace", "Ada  0.90"),
    ]
    assert confusion_of(task, predictions, [gold, none, gold]) is None


def test_a_task_of_texts_has_nothing_to_say():
    assert account_of(TextGeneration(), [object()], range(1)) == {"confusion": None, "mistakes": []}
