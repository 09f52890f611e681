"""`headway predict` and `evaluate` with labels of the user: the classifier of pairs answers with them."""

import csv
import json
from pathlib import Path

import pytest
from headway.tasks import load

TEXTS = ["a lovely film", "an awful meal", "what a walk", "a good song"]
LABELS = ["film", "meal"]


def test_predict_answers_with_the_labels_of_the_user(headway, nli):
    expected = load(nli, labels=LABELS).predict(TEXTS)
    ran = headway("predict", nli, "--labels", "film, meal", *TEXTS, "--json")
    assert ran.code == 0, ran.err
    found = [json.loads(line) for line in ran.out.splitlines()]
    assert [one["label"] for one in found] == [one.label for one in expected]
    assert len({one.score for one in expected}) > 1
    assert [one["score"] for one in found] == pytest.approx([one.score for one in expected])


def test_predict_writes_a_column_for_each_label_of_a_file(headway, nli):
    Path("texts.csv").write_text("id,text\n" + "".join(f"{i},{text}\n" for i, text in enumerate(TEXTS)))
    ran = headway("predict", nli, "--labels", "film,meal", "--multi-label", "--data", "texts.csv", "--output", "o.csv")
    assert ran.code == 0, ran.err
    rows = list(csv.DictReader(Path("o.csv").read_text().splitlines()))
    expected = load(nli, labels=LABELS, problem_type="multi_label_classification").predict(TEXTS)
    assert [float(row["score_film"]) for row in rows] == pytest.approx(
        [one.scores["film"] for one in expected], abs=6e-4
    )


def test_evaluate_takes_the_labels_and_the_words_of_the_hypothesis(headway, nli):
    expected = [one.label for one in load(nli, labels=LABELS, hypothesis="A {label}.").predict(TEXTS)]
    numbers = [LABELS.index(label) for label in expected]
    Path("rows.csv").write_text(
        "text,label\n" + "".join(f"{text},{i}\n" for text, i in zip(TEXTS, numbers, strict=True))
    )
    options = ["--labels", "0,1", "--verbalize", "0=film,1=meal", "--hypothesis", "A {label}."]
    ran = headway("evaluate", nli, *options, "--data", "rows.csv", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["metrics"]["accuracy"] == 1
    ran = headway("evaluate", nli, *options, "--data", "rows.csv", "--coverage", 0.9, "--save")
    assert ran.code == 2
    assert "Omit it" in ran.err
    ran = headway("evaluate", nli, *options, "--data", "rows.csv", "--none-of-these", 0.1)
    assert ran.code == 2
    assert "none did" in ran.err


def test_the_task_is_listed_and_cannot_be_trained(headway):
    ran = headway("tasks", "--json")
    assert [one["task"] for one in json.loads(ran.out)["without_training"]] == ["zero-shot-classification"]
    assert "headway predict MODEL --labels" in ran.err
    ran = headway("train", "zero-shot-classification", "--data", "rows.csv", "--output", "model")
    assert ran.code == 2
    assert "trains nothing" in ran.err


def test_a_model_that_knows_no_entailment_is_refused(headway, trained):
    ran = headway("predict", trained, "--labels", "film,meal", TEXTS[0])
    assert ran.code == 2
    assert "reads single texts" in ran.err
    ran = headway("predict", trained, "--hypothesis", "A {label}.", TEXTS[0])
    assert ran.code == 2
    assert "--hypothesis is for labels of your own" in ran.err
