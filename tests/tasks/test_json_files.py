"""JSON lines, JSON documents, and the layouts of SQuAD and Label Studio."""

import json

import pytest
from data_files import assert_error, fuzzing, reading, write
from headway.tasks.base.check import check_data
from headway.tasks.classification.classification import TextClassification
from headway.tasks.data.read import read_table, stream_rows
from headway.tasks.tagging.tagging import TokenClassification
from hypothesis import assume, given
from hypothesis import strategies as st

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


json_rows = st.lists(st.dictionaries(st.text(max_size=5), json_values, max_size=4), min_size=1, max_size=6)


@fuzzing
@given(rows=json_rows, ascii_only=st.booleans())
def test_json_lines_are_read_back_unchanged_with_none_for_missing_columns(tmp_path, rows, ascii_only):
    lines = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)
    table = read_table(write(tmp_path, "a.jsonl", lines))
    columns = dict.fromkeys(name for row in rows for name in row)
    assert list(table.columns) == list(columns)
    assert table.rows == [columns | row for row in rows]
    assert table.places == list(range(1, len(rows) + 1))


@fuzzing
@given(rows=json_rows)
def test_a_json_array_a_data_object_and_rows_in_memory_are_read_like_json_lines(tmp_path, rows):
    assume(not any("paragraphs" in row or "data" in row for row in rows))
    expected = read_table(write(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))).rows
    assert read_table(write(tmp_path, "a.json", json.dumps(rows))).rows == expected
    assert read_table(write(tmp_path, "b.json", json.dumps({"version": "1", "data": rows}, indent=1))).rows == expected
    assert read_table(rows).rows == expected


def test_numbers_stay_numbers_and_nan_becomes_none(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"a": 1, "b": 0.5, "c": NaN, "d": [NaN, true], "e": null}\n')
    assert read_table(path).rows == [{"a": 1, "b": 0.5, "c": None, "d": [None, True], "e": None}]
    path = write(tmp_path, "a.csv", "text,score\nnan,\n")
    assert read_table(path).rows == [{"text": "nan", "score": ""}]


def test_json_with_one_list_per_column_is_a_table(tmp_path):
    columns = {"question": ["a", "b"], "answers": [{"text": []}, {"text": ["x"]}]}
    table = read_table(write(tmp_path, "a.json", json.dumps(columns)))
    assert table.rows == [{"question": "a", "answers": {"text": []}}, {"question": "b", "answers": {"text": ["x"]}}]
    assert read_table(columns).rows == table.rows


def test_json_is_recognized_whatever_the_file_name(tmp_path):
    lines = '{"text": "a"}\n\n{"text": "b"}\n'
    for name in ("a.json", "a.txt", "a"):
        table = read_table(write(tmp_path, name, lines))
        assert (table.kind, table.places) == ("JSON lines", [1, 3])
    assert read_table(write(tmp_path, "b.json", '{"text": "a"}')).rows == [{"text": "a"}]


def test_a_column_of_later_rows_is_none_in_earlier_rows(tmp_path):
    lines = [json.dumps({"text": str(number)}) for number in range(1500)] + ['{"text": "x", "late": 1}']
    path = write(tmp_path, "a.jsonl", "\n".join(lines))
    assert stream_rows(path).columns == ("text",)
    table = read_table(path)
    assert table.columns == ("text", "late")
    assert (table.rows[0], table.rows[-1]) == ({"text": "0", "late": None}, {"text": "x", "late": 1})
    write(tmp_path, "a.jsonl", "\n".join([*lines, '{"text": "y", "later": 2}']))
    table = read_table(path)
    assert table.columns == ("text", "late", "later")
    assert table.rows[-1] == {"text": "y", "late": None, "later": 2}


def test_lines_of_doccano_and_prodigy_are_read_unchanged(tmp_path):
    rows = [
        {
            "text": "Ada",
            "label": [[0, 3, "PER"]],
            "spans": [{"start": 0, "end": 3, "label": "PER"}],
            "answer": "accept",
        }
    ]
    assert read_table(write(tmp_path, "a.jsonl", json.dumps(rows[0]))).rows == rows


# SQuAD and Label Studio


SQUAD = {
    "version": "v2.0",
    "data": [
        {
            "title": "Rivers",
            "paragraphs": [
                {
                    "context": "The Elbe is long.",
                    "qas": [
                        {"id": "1", "question": "What is long?", "answers": [{"text": "Elbe", "answer_start": 4}]},
                        {
                            "id": "2",
                            "question": "What is short?",
                            "is_impossible": True,
                            "answers": [],
                            "plausible_answers": [{"text": "Elbe", "answer_start": 4}],
                        },
                        {"id": "3", "question": "Which?"},
                    ],
                }
            ],
        }
    ],
}


def test_squad_articles_become_one_row_per_question(tmp_path):
    table = read_table(write(tmp_path, "a.json", json.dumps(SQUAD)))
    assert table.kind == "SQuAD JSON"
    assert table.columns == ("id", "title", "context", "question", "answers")
    assert [row["answers"] for row in table.rows] == [
        {"text": ["Elbe"], "answer_start": [4]},
        {"text": [], "answer_start": []},
        None,
    ]
    assert table.where(2).endswith("record 3")


def test_a_squad_question_without_its_text_is_an_error(tmp_path):
    broken = json.loads(json.dumps(SQUAD))
    del broken["data"][0]["paragraphs"][0]["qas"][1]["question"]
    path = write(tmp_path, "a.json", json.dumps(broken))
    assert_error(reading(path), path, "article 1", "Rivers", "'question' is missing", "Each paragraph")


def region(start, end, label, text):
    return {"type": "labels", "value": {"start": start, "end": end, "labels": [label], "text": text}}


def test_label_studio_regions_become_spans(tmp_path):
    tasks = [
        {
            "id": 7,
            "data": {"text": "Ada lived in London", "source": "x"},
            "annotations": [
                {"was_cancelled": True, "result": [region(0, 1, "NO", "A")]},
                {"result": [region(0, 3, "PER", "Ada"), region(13, 19, "LOC", "London")]},
            ],
        },
        {"id": 8, "data": {"text": "Nothing"}, "annotations": [{"result": []}]},
        {"id": 9, "data": {"text": "Not yet"}, "annotations": []},
    ]
    table = read_table(write(tmp_path, "a.json", json.dumps(tasks)))
    assert [row["text"] for row in table.rows] == ["Ada lived in London", "Nothing", "Not yet"]
    first, nothing, undone = (row["spans"] for row in table.rows)
    assert [(span["start"], span["end"], span["label"]) for span in first] == [(0, 3, "PER"), (13, 19, "LOC")]
    assert (nothing, undone) == ([], None)
    assert table.rows[0]["source"] == "x"


@pytest.mark.parametrize(
    ("choices", "column", "expected"),
    [([["a"], ["b"], []], "label", ["a", "b", None]), ([["a"], ["b", "a"], []], "labels", [["a"], ["b", "a"], None])],
)
def test_label_studio_choices_become_labels(tmp_path, choices, column, expected):
    tasks = [
        {"data": {"text": "t"}, "annotations": [{"result": [{"value": {"choices": one}}]}] if one else []}
        for one in choices
    ]
    table = read_table(write(tmp_path, "a.json", json.dumps(tasks)))
    assert table.columns == ("text", column)
    assert [row[column] for row in table.rows] == expected


# Malformed JSON


def test_the_error_of_an_invalid_json_line_names_line_and_column(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": "a"}\n{"text": "b",}\n')
    expected = 0
    try:
        json.loads('{"text": "b",}')
    except json.JSONDecodeError as error:
        expected = error.colno
    assert_error(
        reading(path), f"{path}, line 2, column {expected}", "invalid JSON", '{"text": "b",}', "Correct or delete it"
    )
    path = write(tmp_path, "b.jsonl", '{"text": "a"}\n' * 2000 + '{"text"\n')
    stream = stream_rows(path)
    assert_error(lambda: list(stream), f"{path}, line 2001, column")
    assert_error(reading(write(tmp_path, "c.jsonl", "[" * 100_000)), "c.jsonl, line 1", "invalid JSON")
    assert_error(reading(write(tmp_path, "d.jsonl", '{"n": ' + "1" * 5000 + "}")), "d.jsonl, line 1", "invalid JSON")


def test_a_json_line_that_is_not_an_object_is_an_error(tmp_path):
    for line, what in (('["a", 1]', "a list"), ('"a"', "a text"), ("3", "a number"), ("null", "null")):
        path = write(tmp_path, "a.jsonl", '{"text": "a"}\n' + line)
        assert_error(reading(path), f"{path}, line 2", what, 'Write {"text"')
    path = write(tmp_path, "a.json", '[{"text": "a"}, "b"]')
    assert_error(reading(path), f"{path}, record 2", "a text", 'Write {"text"')


def test_the_error_of_an_invalid_json_document_names_line_and_column(tmp_path):
    path = write(tmp_path, "a.json", '[\n {"text": "a"},\n {"text" "b"}\n]')
    assert_error(reading(path), f"{path}, line 3, column 10", "invalid JSON", "Correct it")
    for content in ("3", '{"a": {"b": 1}}', '{"train": [{"a": 1}], "test": [{"a": 2}]}', "{}"):
        path = write(tmp_path, "b.json", content)
        assert_error(reading(path), path, "not a table", "Write an array of objects")
    assert_error(reading(write(tmp_path, "c.json", '{"a": [1, 2], "b": [1]}')), "c.json", "a: 2, b: 1", "Fill")


def test_half_a_surrogate_pair_is_an_error(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": "\\ud83d\\ude42"}\n{"text": "cut \\ud83d"}\n')
    assert_error(reading(path), f"{path}, line 2", '"text"', "surrogate", "Remove it")


def annotation(*regions, cancelled=False):
    return {"result": list(regions), "was_cancelled": cancelled}


ADA, ROME = region(0, 3, "PER", "Ada"), region(7, 11, "LOC", "Rome")
SEVERAL = [
    {"data": {"text": "Ada in Rome"}, "annotations": [annotation(ADA), annotation(ADA, ROME)]},
    {"data": {"text": "Ada in Rome"}, "annotations": [annotation(ROME, ADA), annotation(ADA, ROME)]},
    {"data": {"text": "Ada in Rome"}, "annotations": [annotation(ADA, cancelled=True), annotation(ROME)]},
]


@pytest.mark.parametrize(
    ("chosen", "labels", "places"),
    [
        (None, ["PER", "LOC PER", "LOC"], [1, 2, 3]),
        ("first", ["PER", "LOC PER", "LOC"], [1, 2, 3]),
        ("last", ["PER LOC", "PER LOC", "LOC"], [1, 2, 3]),
        ("agreeing", [None, "LOC PER", "LOC"], [1, 2, 3]),
        ("each", ["PER", "PER LOC", "LOC PER", "PER LOC", "LOC"], [1, 1, 2, 2, 3]),
    ],
)
def test_several_annotations_of_a_text_are_reported_and_chosen(tmp_path, chosen, labels, places):
    table = read_table(write(tmp_path, "a.json", json.dumps(SEVERAL)), annotations=chosen)
    spans = [row["spans"] for row in table.rows]
    assert [one and " ".join(span["label"] for span in one) for one in spans] == labels
    assert table.places == places
    (note,) = table.notes
    assert note.startswith("2 of 3 tasks have several annotations")
    assert f"records 1 and 2): {'tasks' if chosen == 'agreeing' else ''}" in note
    assert "--annotations last" in note or chosen == "last"


def test_the_option_for_several_annotations_is_refused_for_other_files(tmp_path):
    path = write(tmp_path, "a.json", '[{"text": "a"}]')
    assert_error(reading(path, annotations="last"), "--annotations is for an export of Label Studio")
    assert_error(reading(path, annotations="second"), "must be one of first, last, agreeing, each")


def test_cancelled_and_disagreeing_annotations_are_left_out_and_counted(tmp_path):
    cancelled = {"data": {"text": "Ada"}, "annotations": [annotation(ADA, cancelled=True)]}
    undone = {"data": {"text": "Bo"}, "annotations": []}
    path = write(tmp_path, "a.json", json.dumps([*SEVERAL, cancelled, undone]))
    found = check_data(TokenClassification(), path, annotations="agreeing").findings
    messages = [one.message for one in found if one.kind == "left out"]
    assert len(messages) == 3
    reasons = ("differently", "cancelled", "without a label")
    for message, number, reason in zip(messages, (1, 4, 5), reasons, strict=True):
        assert reason in message
        assert message.endswith(f"record {number}.")


@pytest.mark.parametrize(
    "annotations",
    [[3], [None], [{"result": 3}], [{"result": [{"value": {"choices": "x"}}]}], [annotation(region(0, 1, 7, "A"))]],
)
def test_an_annotation_of_another_type_is_an_error_that_names_the_task(tmp_path, annotations):
    tasks = [{"data": {"text": "Ada"}, "annotations": []}, {"data": {"text": "Ada"}, "annotations": annotations}]
    path = write(tmp_path, "a.json", json.dumps(tasks))
    assert_error(reading(path), f"{path}, record 2")


def test_deeply_nested_json_is_an_error(tmp_path):
    deep = "[" * 200 + "]" * 200
    for name, content in (("a.json", f'[{{"text": {deep}}}]'), ("a.jsonl", f'{{"text": {deep}}}\n')):
        path = write(tmp_path, name, content)
        assert_error(reading(path), path, "nested more than 100 deep")


def test_numbers_that_no_float_holds_are_labels_or_errors(tmp_path):
    for value in ("1" + "0" * 400, "Infinity", "-Infinity", "1e300"):
        lines = "".join(f'{{"text": "a {i}", "label": {value if i % 2 else i}}}\n' for i in range(8))
        report = check_data(TextClassification(), write(tmp_path, "a.jsonl", lines))
        assert report.examples or report.errors
