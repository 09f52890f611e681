"""Rows that are rejected, unlabelled or empty are left out, counted and listed; --strict refuses them."""

import csv
import json
from pathlib import Path

import pytest
from data_files import write
from headway.core.errors import HeadwayError
from headway.tasks.base.check import check_data
from headway.tasks.base.left_out import leave_out, usable_rows
from headway.tasks.classification.classification import TextClassification
from headway.tasks.data.read import read_table
from headway.tasks.embedding.similarity import SentenceSimilarity
from headway.tasks.question_answering.question_answering import QuestionAnswering
from headway.tasks.tagging.tagging import TokenClassification

GOOD = [{"text": f"a good text {i}", "label": "yes"} for i in range(12)]
GOOD += [{"text": f"a bad text {i}", "label": "no"} for i in range(12)]


def usable(task, rows, **reading):
    """The rows of a table that the task uses."""
    table = read_table(rows, **reading)
    return usable_rows(task, table, task.columns(table, {}, need_label=True))


SPANS = [[0, 3, "PER"]]
PAIR = {"sentence1": "a cat", "sentence2": "a dog"}
QUESTION = {"question": "Who?", "context": "Ada sat."}
CASES = {
    "rejected": (
        TextClassification(),
        {"text": "a", "label": "x", "answer": "accept"},
        {"text": "b", "label": "x", "answer": "reject"},
    ),
    "ignored": (
        TokenClassification(),
        {"text": "Ada sat", "spans": SPANS, "answer": "accept"},
        {"text": "Bo sat", "spans": SPANS, "answer": "ignore"},
    ),
    "without a label": (TextClassification(), {"text": "a", "label": "x"}, {"text": "b", "label": ""}),
    "without a text": (TextClassification(), {"text": "a", "label": "x"}, {"text": " ", "label": "x"}),
    "spans": (TokenClassification(), {"text": "Ada sat", "spans": SPANS}, {"text": "Bo sat", "spans": None}),
    "words": (TokenClassification(), {"tokens": ["Ada"], "ner_tags": ["B-PER"]}, {"tokens": [], "ner_tags": []}),
    "a number": (TextClassification(), {"text": "a", "label": 1.5}, {"text": "b", "label": float("nan")}),
    "a score": (SentenceSimilarity(), {**PAIR, "score": 1.0}, {**PAIR, "score": None}),
    "an answer": (QuestionAnswering(), {**QUESTION, "answers": ["Ada"]}, {**QUESTION, "answers": None}),
    "0/1 columns": (TextClassification(), {"text": "a", "x": 1, "y": 0}, {"text": "b", "x": None, "y": None}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_row_without_a_text_or_an_accepted_label_is_left_out(case):
    task, used, unused = CASES[case]
    table = read_table([used, unused, used])
    chosen = {"label": ["x", "y"]} if "x" in used else {}
    columns = task.columns(table, chosen, need_label=True)
    kept = usable_rows(task, table, columns)
    assert kept.places == [1, 3]
    assert [one.where for one in kept.left_out] == ["the given rows, row 2"]
    assert "1 of 3 rows is left out" in kept.notes[-1]
    assert "--strict" in kept.notes[-1]
    with pytest.raises(HeadwayError, match="row 2"):
        usable_rows(task, read_table([used, unused, used], strict=True), columns)


@pytest.mark.parametrize(
    ("task", "row"),
    [
        (TokenClassification(), {"text": "Ada sat", "spans": []}),
        (TokenClassification(), {"text": "Ada sat", "label": {}}),
        (QuestionAnswering(), {**QUESTION, "answers": ""}),
        (QuestionAnswering(), {**QUESTION, "answers": None, "is_impossible": True}),
        (TextClassification(), {"text": "a", "label": []}),
        (TextClassification(), {"text": "a", "label": 0}),
    ],
)
def test_a_row_that_says_that_there_is_nothing_is_used(task, row):
    table = read_table([row])
    assert leave_out(task, table, task.columns(table, {}, need_label=True))[1] == []


def test_a_column_of_other_answers_is_not_a_column_of_verdicts():
    rows = [{"text": "a", "label": "x", "answer": answer} for answer in ("accept", "reject", "postpone")]
    assert len(usable(TextClassification(), rows)) == 3
    table = read_table([{"text": "a", "answer": "accept"}, {"text": "b", "answer": "reject"}])
    task = TextClassification()
    assert len(usable_rows(task, table, task.columns(table, {"label": "answer"}, need_label=True))) == 2


def test_if_all_rows_are_left_out_the_error_says_why():
    with pytest.raises(HeadwayError, match=r"No row can be used: 1 row without a label .*; 1 row without a text"):
        usable(TextClassification(), [{"text": "a", "label": None}, {"text": "", "label": "x"}])


ROWS = [*GOOD, {"text": "", "label": "yes"}, {"text": "an open one", "label": None}]


def test_the_check_lists_all_places_and_refuses_on_request(tmp_path):
    rows = [*GOOD, *[{"text": f"t {i}", "label": None} for i in range(9)]]
    path = write(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    report = check_data(TextClassification(), path, path, left_out=str(tmp_path / "list.csv"))
    (finding,) = [one for one in report.findings if one.kind == "left out"]
    assert (report.examples, finding.level, len(finding.places)) == (24, "note", 18)
    listed = list(csv.reader((tmp_path / "list.csv").read_text(encoding="utf-8").splitlines()))
    assert listed[:2] == [["place", "reason"], [f"{path}, line 25", "without a label"]]
    assert len(listed) == 19
    errors = check_data(TextClassification(), path, strict=True).errors
    assert [len(one.places) for one in errors] == [9]


def test_training_and_evaluation_count_and_list_the_rows(bert_folder, tmp_path):
    path = write(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS))
    model = TextClassification().on(bert_folder)
    events = list(model.train(path, output=tmp_path / "model", epochs=1, left_out=str(tmp_path / "list.csv")))
    expected = [f"{path}, line {number}" for number in (25, 26)]
    assert any("2 of 26 rows are left out" in note for note in events[0].notes)
    for file in (tmp_path / "list.csv", tmp_path / "model" / "left_out.csv"):
        assert [row[0] for row in csv.reader(file.read_text(encoding="utf-8").splitlines())][1:] == expected
    measured = model.evaluate(path)
    assert len(measured.examples) == 24
    assert measured.to_json()["left_out"] == 2
    assert any("2 of 26 rows are left out" in note for note in measured.notes)
    with pytest.raises(HeadwayError, match="without a label"):
        model.evaluate(path, strict=True)
    assert len(list(model.predict_rows(path))) == 26
    with pytest.raises(HeadwayError, match="--strict and --left-out have no meaning"):
        list(model.predict_rows(path, strict=True))


def test_a_file_that_is_no_list_of_left_out_rows_is_not_replaced(tmp_path: Path):
    path = tmp_path / "data.csv"
    path.write_text("text,label\n" + "fine,a\nbad,b\nworse,\n" * 4)
    before = path.read_bytes()
    with pytest.raises(HeadwayError, match="not a list of left-out rows"):
        check_data(TextClassification(), path, left_out=str(path))
    assert path.read_bytes() == before
    for _ in range(2):  # an earlier list is replaced
        check_data(TextClassification(), path, left_out=str(tmp_path / "list.csv"))
    assert (tmp_path / "list.csv").read_text().startswith("place,reason")
