"""Evaluation reports: intervals of labels, slices, confusions, calibration, near duplicates."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from headway.core.errors import HeadwayError
from headway.tasks import TextClassification, TokenClassification
from headway.tasks.base.report_numbers import NumberCharts
from headway.tasks.classification.predictions import LabelPrediction, LabelsPrediction, NumberPrediction, TextExample
from headway.tasks.classification.report_curves import LabelCurves, LabelSetCurves
from headway.tasks.evaluation import ReportOptions, evaluate_with_report
from headway.tasks.evaluation.divisions import OTHER_VALUES
from headway.tasks.evaluation.near_duplicates import NearDuplicates, TrainingTexts, signature
from headway.tasks.evaluation.slices import Slices
from headway.tasks.intervals import Bootstrap
from headway.tasks.language_modeling.predictions import SequenceLoss
from headway.tasks.language_modeling.report_losses import LossCharts
from headway.tasks.question_answering.answers import Answer
from headway.tasks.question_answering.predictions import AnswerPrediction, QuestionExample
from headway.tasks.question_answering.report_answers import AnswerCharts, question_word
from headway.tasks.tagging.entity_scores import tally_entities
from headway.tasks.tagging.report_entities import entity_errors
from headway.tasks.tagging.tag_schemes import WordSpan
from headway.tasks.tallies import tally_label_sets, tally_labels, tally_means, tally_numbers
from headway.tasks.text_to_text.predictions import GeneratedText, OutputLoss
from headway.tasks.text_to_text.predictions import PairExample as TextPair
from headway.tasks.text_to_text.report_outputs import OutputCharts
from sklearn.metrics import precision_recall_fscore_support

LABELS = ("red", "green", "blue")


@dataclass
class Predicted:
    label: str
    score: float = 0.9


def text(i, words="some words", label=None):
    return TextExample(i, f"data.csv, line {i}", words, None, label)


# Labels.


def test_the_scores_of_each_label_are_those_of_scikit_learn_and_inside_their_intervals():
    rng = np.random.default_rng(0)
    gold, found = rng.choice(LABELS, (2, 200))
    rows = [(one,) for one in gold], [(one,) for one in found]
    for tally in (
        tally_labels([Predicted(one) for one in found], gold, LABELS),
        tally_label_sets(rows[1], rows[0], LABELS),
    ):
        bootstrap = Bootstrap()
        bootstrap.add(tally)
        *expected, support = precision_recall_fscore_support(gold, found, labels=LABELS)
        table = bootstrap.by_label()
        assert [(row["label"], row["examples"]) for row in table] == list(zip(LABELS, support, strict=True))
        for name, column in zip(("precision", "recall", "f1"), expected, strict=True):
            assert [row[name].value for row in table] == pytest.approx(list(column))
            assert all(row[name].low < row[name].value < row[name].high for row in table)


def test_a_label_that_is_never_right_has_an_interval_all_the_same():
    gold = ["red"] * 50 + ["green"] * 4
    bootstrap = Bootstrap()
    bootstrap.add(tally_labels([Predicted("red")] * 54, gold, LABELS))
    recall = {row["label"]: row["recall"] for row in bootstrap.by_label()}
    assert (recall["green"].value, recall["green"].low) == (0, 0)
    assert 0.3 < recall["green"].high < 0.6  # 4 examples
    assert recall["red"].low > 0.9


def test_the_scores_of_each_type_of_entities_are_those_of_its_table():
    rng = np.random.default_rng(0)

    def spans():
        return [
            [WordSpan(i, i + 1, str(rng.choice(["PER", "LOC"]))) for i in range(5) if rng.random() < 0.5]
            for _ in range(80)
        ]

    predicted, gold = spans(), spans()
    bootstrap = Bootstrap()
    tally = tally_entities(predicted, gold, (), ("PER", "LOC"))
    bootstrap.add(tally)
    for row, expected in zip(bootstrap.by_label(), tally.per_label(), strict=True):
        assert (row["label"], row["entities"]) == (expected["label"], expected["entities"])
        names = ("precision", "recall", "f1", "f1_overlap")
        assert [row[name].value for name in names] == pytest.approx([expected[name] for name in names])


# Slices.


def compared(right, values, parts=1):
    slices = Slices()
    for rows in np.array_split(np.arange(len(right)), parts):
        tally = tally_means({"accuracy": right[rows]}, of_01=["accuracy"])
        slices.add(tally, rows.astype(np.uint64), {"by": [(values[i],) for i in rows]})
    return slices.compare()


def test_a_part_with_a_lower_score_comes_first_and_parts_may_be_added_one_by_one():
    rng = np.random.default_rng(0)
    values = rng.choice(["bad", "good", "also good"], 600)
    right = rng.random(600) < np.where(values == "bad", 0.5, 0.9)
    metric, found = compared(right, values)
    first = found[0]
    assert (metric, first.value, first.significant, first.worse) == ("accuracy", "bad", True, True)
    assert first.examples == (values == "bad").sum()
    assert first.score.value == pytest.approx(right[values == "bad"].mean())
    assert first.rest == pytest.approx(right[values != "bad"].mean())
    assert first.score.low < first.score.value < first.score.high
    again = compared(right, values, parts=4)[1]
    assert [(one.value, one.p) for one in again] == [(one.value, pytest.approx(one.p)) for one in found]


def test_random_parts_are_seldom_significant():
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(200):
        right, values = rng.random(300) < 0.85, rng.choice(list("abcdef"), 300)
        wrong += any(one.significant for one in compared(right, values)[1])
    assert wrong <= 20  # 5 % expected of 200, and four standard deviations


def test_a_small_part_that_is_all_right_is_not_significant():
    right = np.arange(200) % 10 != 0
    values = np.where((np.arange(200) < 25) & right, "few", "others")
    assert not any(one.significant for one in compared(right, values)[1])


def test_parts_of_fewer_than_twenty_examples_are_shown_without_a_test():
    values = np.array(["few"] * 5 + ["many"] * 100)
    assert {one.value: one.p is None for one in compared(np.arange(105) > 4, values)[1]}["few"]


def test_many_values_of_a_column_are_one_part():
    values = np.array([f"id {i}" for i in range(500)])
    found = compared(np.ones(500), values)[1]
    assert {one.value: one.examples for one in found}[OTHER_VALUES] == 300


def test_parts_that_are_too_small_for_a_test_come_after_all_others():
    values = np.array(["large" if i < 100 else "other" if i < 200 else f"id {i}" for i in range(260)])
    found = compared(np.arange(260) % 7 > 0, values)[1]
    assert {one.value for one in found[:2]} == {"large", "other"}
    assert {one.p for one in found[2:]} == {None}
    assert len(found) == 62


@pytest.mark.parametrize(("names", "metric"), [(("pearson", "mae"), "mae"), (("spearman", "pearson"), "spearman")])
def test_parts_of_numbers_are_compared_by_the_error_or_by_ranks_of_all(names, metric):
    rng = np.random.default_rng(0)
    gold, values = rng.normal(size=400), rng.choice(["noisy", "exact"], 400)
    found = gold + rng.normal(size=400) * np.where(values == "noisy", 3, 0.1)
    slices = Slices()
    for rows in np.array_split(np.arange(400), 3):
        tally = tally_numbers(found[rows], gold[rows], names)
        slices.add(tally, rows.astype(np.uint64), {"by": [(values[i],) for i in rows]})
    assert slices.compare()[0] == metric
    noisy = {one.value: one for one in slices.compare()[1]}["noisy"]
    assert noisy.significant
    assert noisy.worse


# Calibration and curves.


def test_the_calibration_error_is_that_of_the_metrics_before_and_after_the_temperature():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 3)) * 3
    gold = [LABELS[i] for i in (logits + rng.normal(size=logits.shape) * 3).argmax(1)]

    def predictions(temperature):
        chances = np.exp(logits / temperature)
        chances /= chances.sum(1, keepdims=True)
        scores = [dict(zip(LABELS, row.tolist(), strict=True)) for row in chances]
        return [LabelPrediction(max(one, key=lambda label: one[label]), max(one.values()), one) for one in scores]

    curves = LabelCurves(LABELS, 2.0)
    calibrated = predictions(2.0)
    for rows in np.array_split(np.arange(500), 3):
        curves.add([calibrated[i] for i in rows], [text(i, label=gold[i]) for i in rows])
    (table, *_) = curves.parts()
    found = [row["calibration error"] for row in table.rows]
    for row, one in zip(found, (predictions(1.0), calibrated), strict=True):
        assert row == pytest.approx(tally_labels(one, gold, LABELS).metrics()["calibration_error"])
    assert found[1] < found[0] / 2


def test_the_curve_of_two_labels_is_that_of_scikit_learn():
    from sklearn.metrics import precision_score, recall_score

    rng = np.random.default_rng(0)
    truth = rng.random(400) < 0.3
    scores = np.clip(rng.normal(0.4 + 0.2 * truth, 0.2), 0, 1).round(3)
    curves = LabelCurves(("no", "yes"), 1.0)
    predictions = [
        LabelPrediction("yes" if s >= 0.5 else "no", max(s, 1 - s), {"no": 1 - s, "yes": s}) for s in scores
    ]
    curves.add(predictions, [text(i, label="yes" if one else "no") for i, one in enumerate(truth)])
    by_threshold = next(one for one in curves.parts() if "by threshold" in one.title)
    precision, recall, _ = by_threshold.series
    at = precision.x.index(0.5)
    assert precision.y[at] == pytest.approx(precision_score(truth, scores >= 0.5), abs=1e-4)
    assert recall.y[at] == pytest.approx(recall_score(truth, scores >= 0.5), abs=1e-4)


def test_several_labels_have_a_curve_for_each_and_one_for_all():
    rng = np.random.default_rng(0)
    curves = LabelSetCurves(LABELS, (0.5, 0.4, 0.3))
    scores = [dict(zip(LABELS, rng.random(3).tolist(), strict=True)) for _ in range(50)]
    gold = [tuple(label for label in LABELS if rng.random() < 0.5) for _ in range(50)]
    predictions = [LabelsPrediction((), one) for one in scores]
    curves.add(predictions, [text(i, label=one) for i, one in enumerate(gold)])
    curve = next(one for one in curves.parts() if one.title == "Precision and recall")
    assert {one.name for one in curve.series} == {"all labels", *LABELS}


def test_charts_of_numbers_keep_a_random_sample_and_the_statistics_of_all():
    rng = np.random.default_rng(0)
    gold = np.sort(rng.normal(size=5000))
    charts = NumberCharts(lambda one: one.value)
    for rows in np.array_split(np.arange(5000), 7):
        examples = [text(int(i), label=float(gold[i])) for i in rows]
        charts.add([NumberPrediction(float(gold[i]) + 0.5) for i in rows], examples)
    table, *_, scatter = charts.parts()
    assert table.rows[0]["value"] == pytest.approx(0.5)
    assert len(scatter.series[0].x) == 1000
    assert np.mean(scatter.series[0].x) == pytest.approx(0, abs=0.15)  # five standard deviations: of all parts


# Other tasks.


def test_errors_of_boundaries_are_apart_from_errors_of_types():
    gold = [WordSpan(i, i + 2, "PER") for i in (0, 10, 20, 30, 40)]
    places = [(0, 2, "PER"), (10, 12, "LOC"), (20, 23, "PER"), (31, 33, "LOC"), (50, 51, "ORG")]
    assert entity_errors([WordSpan(*one) for one in places], gold) == [
        ("PER", "correct"),
        ("PER", "wrong type"),
        ("PER", "wrong boundaries"),
        ("PER", "both wrong"),
        ("PER", "missed"),
        ("ORG", "spurious"),
    ]


def test_an_entity_is_compared_with_the_equal_one_if_there_is_one():
    gold = [WordSpan(0, 2, "PER")]
    assert entity_errors([WordSpan(0, 3, "PER"), WordSpan(0, 2, "PER")], gold) == [("PER", "correct")]


@pytest.mark.parametrize(
    ("question", "word"),
    [
        ("Who wrote it?", "who"),
        ("In which year was it?", "which"),
        ("To whom did she write?", "who"),
        ("How many  were there?", "how many"),
        ("How did it end?", "how"),
        ("Name the author.", "other"),
        ("Somewhere, whose is it?", "who"),
    ],
)
def test_questions_are_divided_by_their_question_word(question, word):
    assert question_word(question) == word


def test_answers_are_counted_for_questions_with_and_without_an_answer():
    def asked(i, *answers):
        return QuestionExample(i, f"line {i}", str(i), "Who?", "context", tuple(Answer(one, 0) for one in answers))

    def answered(answer):
        return AnswerPrediction(answer, None, None, 0.8, 0.1, ())

    charts = AnswerCharts()
    charts.add(
        [answered("Ada"), answered("Ada King"), answered("Bob"), answered(None), answered("Ada"), answered(None)],
        [*(asked(i, "Ada") for i in range(4)), asked(4), asked(5)],
    )
    has, none = charts.parts()[0].rows
    names = ("number", "exact answer", "overlapping answer", "wrong answer", "no answer")
    assert [has[name] for name in names] == [4, 1, 1, 1, 1]
    assert [none[name] for name in names] == [2, 0, 0, 1, 1]


def test_losses_are_divided_by_position_and_by_document():
    charts = LossCharts()
    first = SequenceLoss(6.0, 4, 0, 30, by_position=((3.0, 1), (1.0, 1), (2.0, 2)))
    rest = SequenceLoss(1.0, 1, 0, 0, by_position=((1.0, 1),))
    charts.add([first, rest], [0])
    charts.add([SequenceLoss(40.0, 20, 0, 9, by_position=((40.0, 20),))], [1])
    table, line, documents, worst = charts.parts()
    assert [(row["position"], row["tokens"], row["loss"]) for row in table.rows] == [
        ("0", 22, 2.0),
        ("1", 1, 1.0),
        ("2 to 3", 2, 1.0),
    ]
    assert line.series[0].y == (2.0, 1.0, 1.0)
    assert sum(documents.series[0].y) == 2
    assert [(row["document"], row["loss"]) for row in worst.rows] == [("number 2", 2.0)]


def test_outputs_that_did_not_stop_are_listed():
    charts = OutputCharts()
    outputs = [GeneratedText("one two", stopped=True), GeneratedText("on and on", stopped=False), None]
    charts.add(
        [OutputLoss(1.0, 1, 0, one) for one in outputs],
        [TextPair(i, f"line {i}", f"input {i}", ("one two three",)) for i in range(3)],
    )
    ends, lengths, unfinished = charts.parts()
    assert [row["number"] for row in ends.rows] == [1, 1, 0]
    assert [sum(one.y) for one in lengths.series] == [2, 2]
    assert unfinished.rows == [{"input": "input 1", "output": "on and on"}]


def test_cosines_are_drawn_beside_scores_on_another_scale():
    charts = NumberCharts(lambda one: one, same_scale=False)
    charts.add([0.1, 0.9, 0.5], [text(0, label=1.0), text(1, label=5.0), text(2)])
    (scatter,) = charts.parts()
    assert (scatter.series[0].x, scatter.series[0].y, scatter.diagonal) == ((1.0, 5.0), (0.1, 0.9), False)


# Near duplicates.


def test_texts_that_almost_equal_a_training_text_are_found_and_others_are_not():
    sentence = "The parcel that I ordered on Monday came back to the sender without any reason, and nobody answers."
    training = TrainingTexts([text(1, "Something else that nobody would confuse with a parcel."), text(2, sentence)])
    assert training.nearest(text(9, sentence.upper() + "  ")) == (1, 1.0)
    changed = text(9, sentence.replace("Monday", "Sunday"))
    near = training.nearest(changed)
    assert near is not None
    assert near[1] > 0.8
    assert training.describe(changed, *near).training_where == "data.csv, line 2"
    assert training.nearest(text(9, "The parcel came on Monday.")) is None
    assert training.nearest(text(9, "")) is None


def test_near_duplicates_are_those_of_a_comparison_with_every_training_text():
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(60)]
    known = [" ".join(rng.choice(words, 12)) for _ in range(300)]
    tested = [" ".join(rng.choice(words, 12)) for _ in range(20)]
    tested += [f"{one} {end}" for one, end in zip(known[::6], [*words, ""], strict=False)] + known[:9] * 3
    training = TrainingTexts([text(i, one) for i, one in enumerate(known)])
    signatures = np.stack([signature([one]) for one in known])
    found = NearDuplicates(training)
    expected = []
    for i, one in enumerate(tested):
        shares = (signatures == signature([one])).mean(1)
        best = int(shares.argmax())
        near = (best, float(shares[best])) if shares[best] >= 0.8 else None
        assert training.nearest(text(i, one)) == near
        assert found.add(text(i, one)) == (near is not None)
        expected += [near[1]] if near else []
    assert found.number == len(expected) > 60
    assert [one.similarity for one in found.listed] == sorted(expected, reverse=True)[:25]


# Whole reports.


@pytest.fixture(scope="module")
def colours(bert_folder):
    """A classifier of three colours, and its data."""
    rng = np.random.default_rng(0)
    words = {"red": "rose fire", "green": "grass leaf", "blue": "sea sky"}
    rows = [
        {"text": f"{rng.choice(words[label].split())} number {i}", "label": label, "from": "web" if i % 3 else "mail"}
        for i, label in enumerate(rng.choice(LABELS, 90))
    ]
    model = TextClassification().on(bert_folder)
    options = {"max_steps": 30, "learning_rate": 5e-3, "precision": "fp32", "device": "cpu", "progress": False}
    model.fit(rows, **options)
    return model, rows


def test_a_report_has_the_numbers_of_the_evaluation(colours):
    model, rows = colours
    options = ReportOptions(["from"], reference=rows[:30])
    found, report = evaluate_with_report(model, rows, options=options)
    content = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert {one["metric"]: one["value"] for one in content["metrics"]} == pytest.approx(found.metrics)
    accuracy = content["metrics"][0]
    assert accuracy["low"] < accuracy["value"] <= accuracy["high"]
    assert [row["label"] for row in content["per_label"]] == [row["label"] for row in found.per_label]
    assert [row["f1"]["value"] for row in content["per_label"]] == pytest.approx(
        [row["f1"] for row in found.per_label]
    )
    wrong = sum(one.label != example.gold for one, example in zip(found.predictions, found.examples, strict=True))
    assert content["mistakes"] == wrong
    assert sum(one["count"] for one in content["confusion"]["mistakes"]) == wrong
    assert sum(map(sum, content["confusion"]["counts"])) == len(rows)
    assert {one["value"] for one in content["slices"] if one["by"] == "column from"} == {"web", "mail"}
    assert {one["by"] for one in content["slices"]} >= {"label", "training data"}
    assert content["near_duplicates"] >= 30
    assert content["label_errors"]["checked"] == len(rows)
    assert content["label_errors"]["found"] <= wrong
    assert content["reading"][0]["rows"][0]["rows"] == len(rows)
    assert content["run"]["seconds"] > 0


def test_the_metrics_are_the_same_if_only_a_sample_of_the_predictions_is_kept(colours, monkeypatch):
    model, rows = colours
    monkeypatch.setattr("headway.tasks.base.evaluation.SAMPLE", 10)
    monkeypatch.setattr("headway.tasks.base.inference.EXAMPLES_AT_ONCE", 16)
    monkeypatch.setattr("headway.tasks.data.spool.IN_MEMORY", 16)
    rows = [*rows, {"text": "snow", "label": "white", "from": "web"}]
    all_rows, sampled = (model.evaluate(rows, keep_predictions=keep) for keep in (True, False))
    assert (sampled.num_examples, len(sampled.predictions), len(sampled.examples)) == (91, 10, 10)
    estimated = {"seen": None, "nothing_learnt": None}
    assert sampled.to_json() | estimated == all_rows.to_json() | estimated
    assert sampled.label_intervals == all_rows.label_intervals
    gold = {example.where: example.gold for example in all_rows.examples}
    assert all(gold[example.where] == example.gold for example in sampled.examples)


def test_numbers_of_a_column_are_divided_into_quarters_however_the_rows_arrive(colours, monkeypatch):
    model, rows = colours
    rows = [{**row, "price": f"{i}.50"} for i, row in enumerate(rows)]
    options = ReportOptions(["price"])
    whole = evaluate_with_report(model, rows, options=options)[1]
    monkeypatch.setattr("headway.tasks.base.inference.EXAMPLES_AT_ONCE", 16)
    part = evaluate_with_report(model, rows, options=options)[1]
    for report in (whole, part):
        found = [one for one in report.slices if one.by == "column price"]
        assert {one.value for one in found} == {
            "up to 22.5", "more than 22.5, up to 44.5", "more than 44.5, up to 66.5", "more than 66.5"
        }  # fmt: skip
        assert sum(one.examples for one in found) == len(rows)


def test_a_column_that_is_not_there_is_named_with_those_that_are(colours):
    model, rows = colours
    with pytest.raises(HeadwayError, match=r"--slice nowhere: .* no such column.*text, label, from"):
        evaluate_with_report(model, rows, options=ReportOptions(["nowhere"]))


def test_mistakes_of_a_label_that_the_model_does_not_know_are_listed(colours):
    model, rows = colours
    _, report = evaluate_with_report(model, [*rows, {"text": "snow", "label": "white", "from": "web"}])
    assert "white" in {one.gold for one in report.confusion.mistakes}


def test_a_report_of_entities_has_a_row_per_type(bert_folder):
    rows = [{"words": ["Ada", "saw", "Rome"], "tags": ["B-PER", "O", "B-LOC"]}] * 8
    model = TokenClassification().on(bert_folder)
    model.fit(rows, max_steps=2, eval_fraction=0, precision="fp32", device="cpu", progress=False)
    _, report = evaluate_with_report(model, rows)
    assert [row["label"] for row in report.per_label] == ["LOC", "PER"]
    sampled, found = (model.evaluate(rows, keep_predictions=keep) for keep in (False, True))
    assert sampled.metrics == pytest.approx(found.metrics)
    for row, expected in zip(sampled.per_label, found.per_label, strict=True):
        assert row == pytest.approx(expected)
    assert report.slice_metric == "f1"
