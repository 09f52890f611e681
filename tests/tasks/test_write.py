"""Predictions written as rows beside their inputs."""

import json

import pytest
from data_files import any_text, assert_error, fuzzing
from headway.tasks.data.read import read_table
from headway.tasks.data.write import RowWriter
from hypothesis import given
from hypothesis import strategies as st


@fuzzing
@given(rows=st.lists(st.tuples(any_text, any_text), min_size=1, max_size=6))
def test_written_rows_are_read_back_unchanged(tmp_path, rows):
    for ending in (".csv", ".jsonl"):
        path = tmp_path / f"out{ending}"
        with RowWriter(path, ("text", "note"), overwrite=True) as writer:
            for text, note in rows:
                writer.write({"text": text, "note": note}, {"label": "x"})
        assert [tuple(row.values()) for row in read_table(path).rows] == [(*row, "x") for row in rows]


def test_the_columns_of_the_input_precede_the_prediction(tmp_path):
    path = tmp_path / "out.jsonl"
    with RowWriter(path, ("text", "label", "predicted_score")) as writer:
        writer.write({"text": "é", "label": "a", "predicted_score": 1}, {"label": "b", "score": 0.5})
        writer.write({"text": "f", "score": None}, {"label": "b", "score": 0.25})
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert rows[0] == {"text": "é", "label": "a", "predicted_score": 1, "predicted_label": "b", "score": 0.5}
    assert rows[1] == {
        "text": "f",
        "label": None,
        "predicted_score": None,
        "score": None,
        "predicted_label": "b",
        "predicted_predicted_score": 0.25,
    }


def test_cells_of_a_table_are_text_or_json(tmp_path):
    for name in ("out.csv", "out.tsv"):
        path = tmp_path / name
        with RowWriter(path, ("text",)) as writer:
            writer.write({"text": 'say "hi", you'}, {"label": None, "scores": {"é": 0.5}, "ok": True})
        assert read_table(path, header=True).rows == [
            {"text": 'say "hi", you', "label": "", "scores": '{"é": 0.5}', "ok": "true"}
        ]


def test_an_interrupted_write_leaves_no_file(tmp_path):
    path = tmp_path / "out.jsonl"

    def fail():
        with RowWriter(path) as writer:
            writer.write({"text": "a"})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []
    with RowWriter(path) as writer:
        writer.write({"text": "a"})
        assert not path.exists()
    assert_error(lambda: RowWriter(path).__enter__(), path, "already exists", "--overwrite")
    with RowWriter(path, overwrite=True) as writer:
        writer.write({"text": "b"})
    assert read_table(path).rows == [{"text": "b"}]


def test_a_row_that_the_format_cannot_represent_is_an_error(tmp_path):
    def lines():
        with RowWriter(tmp_path / "out.tsv") as writer:
            writer.write({"text": "a\nb"})

    def columns():
        with RowWriter(tmp_path / "out.csv") as writer:
            writer.write({"text": "a"}, {"label": "x"})
            writer.write({"text": "a", "late": 1}, {"label": "x"})

    assert_error(lines, "out.tsv", "row 1", "line break", ".jsonl")
    assert_error(columns, "out.csv", "row 2", '"late"', ".jsonl")
    assert_error(lambda: RowWriter(tmp_path / "out.xlsx"), "out.xlsx", ".jsonl, .csv or .tsv")
    assert list(tmp_path.iterdir()) == []
