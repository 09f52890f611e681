"""Predictions written as rows beside their inputs."""

import csv
import json
import re

import openpyxl
import pytest
from data_files import any_text, assert_error, fuzzing
from headway.tasks.data.output_options import OutputOptions
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
            writer.write({"text": 'say "hi", you'}, {"label": None, "spans": [{"é": 0.5}], "ok": True})
        assert read_table(path, header=True).rows == [
            {"text": 'say "hi", you', "label": "", "spans": '[{"é": 0.5}]', "ok": "true"}
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
    assert_error(lambda: RowWriter(tmp_path / "out.pdf"), "out.pdf", ".jsonl, .csv, .tsv or .xlsx")
    assert list(tmp_path.iterdir()) == []


# Tables


SEVERAL = {"labels": ["a", "c"], "scores": {"a": 0.98765, "b": 0.0004, "c": 0.5}}
FORMULAS = ["=1+1", "+SUM(A1)", "@x", "-cmd|' /C calc'!A0", "\t=1", "＝1+1"]
HARMLESS = ["-1.5", "+49 30", "a=b", "", "3 %", "-2,5 %", "1e-5"]


def write_all(path, rows, **options):
    with RowWriter(path, ("text",), options=OutputOptions(**options)) as writer:
        for text, prediction in rows:
            writer.write({"text": text}, prediction)


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_each_label_has_a_column_with_three_digits(tmp_path, suffix):
    one = {"label": "a", "score": 0.98765, "scores": {"a": 0.98765, "b": 0.01235}}
    write_all(tmp_path / f"one{suffix}", [("x", one)])
    assert read_table(tmp_path / f"one{suffix}", header=True).rows == [
        {"text": "x", "label": "a", "score": "0.988", "score_a": "0.988", "score_b": "0.012"}
    ]
    write_all(tmp_path / f"several{suffix}", [("x", SEVERAL)])
    assert read_table(tmp_path / f"several{suffix}", header=True).rows == [
        {"text": "x", "labels": "a;c", "score_a": "0.988", "score_b": "0.000", "score_c": "0.500"}
    ]
    write_all(tmp_path / f"number{suffix}", [("x", {"value": 0.000123456})])
    assert read_table(tmp_path / f"number{suffix}", header=True).rows[0]["value"] == "0.000123456"


def test_labels_with_a_semicolon_are_not_joined_by_semicolons(tmp_path):
    write_all(tmp_path / "out.csv", [("x", {"labels": ["a"], "scores": {"a": 0.5, "b;c": 0.1}})])
    assert read_table(tmp_path / "out.csv", header=True).rows[0]["labels"] == '["a"]'


def test_json_lines_keep_predictions_as_they_are(tmp_path):
    write_all(tmp_path / "out.jsonl", [("x", SEVERAL)])
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {"text": "x", **SEVERAL}


def test_a_csv_for_excel_has_a_mark_and_no_formula(tmp_path):
    rows = [(text, {"score": 0.5}) for text in (*FORMULAS, *HARMLESS)]
    write_all(tmp_path / "plain.csv", rows)
    write_all(tmp_path / "excel.csv", rows, for_excel=True)
    plain, excel = (tmp_path / name for name in ("plain.csv", "excel.csv"))
    assert not plain.read_bytes().startswith(b"\xef\xbb\xbf")
    assert excel.read_bytes().startswith(b"\xef\xbb\xbf")
    with plain.open(encoding="utf-8", newline="") as file:
        assert [row[0] for row in csv.reader(file)][1:] == [*FORMULAS, *HARMLESS]
    with excel.open(encoding="utf-8-sig", newline="") as file:
        found = [row[0] for row in csv.reader(file)][1:]
    assert found == [*(f"'{text}" for text in FORMULAS), *HARMLESS]


def test_a_csv_has_the_requested_separator(tmp_path):
    for separator in (";", "semicolon"):
        write_all(tmp_path / f"{separator}.csv", [("a;b,c", {"score": 0.25})], output_delimiter=separator)
        assert (tmp_path / f"{separator}.csv").read_text() == 'text;score\n"a;b,c";0.250\n'
    write_all(tmp_path / "excel.csv", [("a", {"score": 0.25})], output_delimiter=";", for_excel=True)
    assert (tmp_path / "excel.csv").read_text(encoding="utf-8-sig") == "text;score\na;0,250\n"
    assert_error(lambda: OutputOptions(output_delimiter="ab"), "--output-delimiter", "one character")


def test_a_workbook_has_numbers_and_texts_but_no_formulas(tmp_path):
    path = tmp_path / "out.xlsx"
    odd = "a\x01b\ud800\uffff\nc 🙂"
    with RowWriter(path, ("text", "id", "n")) as writer:
        for text, number in ((FORMULAS[0], 7), (odd, 1234567890123456789), ("{}", 1.5)):
            writer.write({"text": text, "id": number, "n": None}, SEVERAL)
    header, *rows = openpyxl.load_workbook(path).active.iter_rows()
    assert [cell.value for cell in header] == ["text", "id", "n", "labels", "score_a", "score_b", "score_c"]
    assert [cell.data_type for cell in rows[0]] == ["s", "n", "n", "s", "n", "n", "n"]
    assert [cell.value for cell in rows[0]] == ["=1+1", 7, None, "a;c", 0.988, 0, 0.5]
    assert rows[0][4].number_format == "0.000"
    assert [cell.value for cell in rows[1]][:2] == ["a␁b��\nc 🙂", "1234567890123456789"]
    assert rows[2][1].value == 1.5


def test_a_text_that_is_too_long_for_a_workbook_is_an_error(tmp_path):
    write_all(tmp_path / "out.xlsx", [("a" * 32_767, None)])
    assert_error(
        lambda: write_all(tmp_path / "long.xlsx", [("a", None), ("🙂" * 16_384, None)]), "row 2", "32,767", ".csv"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["out.xlsx"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("out.jsonl", {"for_excel": True}),
        ("out.conll", {"for_excel": True}),
        ("out.tsv", {"output_delimiter": ";"}),
        ("out.xlsx", {"output_delimiter": ";"}),
        ("out.conll", {"entity_rows": True}),
    ],
)
def test_an_option_without_a_meaning_is_refused(tmp_path, name, options):
    flag = f"--{next(iter(options)).replace('_', '-')}"
    assert_error(lambda: write_all(tmp_path / name, [], **options), name, f"{flag} has no meaning")


# Entities


WORDS = {
    "entities": [
        {"text": "Ada Lovelace", "label": "PER", "start": 0, "end": 12, "score": 0.98765},
        {"text": "Rome", "label": "LOC", "start": 23, "end": 27, "score": 0.5},
    ],
    "words": ["Ada", "Lovelace", "lived", "in", "Rome"],
    "tags": ["B-PER", "I-PER", "O", "O", "B-LOC"],
    "probabilities": [0.9] * 5,
}
NONE = {"entities": [], "words": ["#no", "a b"], "tags": ["O", "O"], "probabilities": [0.9, 0.9]}


def test_entities_are_written_as_conll(tmp_path):
    path = tmp_path / "out.conll"
    write_all(path, [("x", WORDS), ("y", NONE)])
    assert path.read_text() == "Ada\tB-PER\nLovelace\tI-PER\nlived\tO\nin\tO\nRome\tB-LOC\n\n#no\tO\na b\tO\n\n"
    rows = read_table(path).rows
    assert [list(row.values()) for row in rows] == [[WORDS["words"], WORDS["tags"]], [NONE["words"], NONE["tags"]]]
    broken = {**NONE, "words": ["a\nb", "c"]}
    assert_error(lambda: write_all(tmp_path / "no.conll", [("x", broken)]), "no.conll", "row 1", "line break")
    assert_error(lambda: write_all(tmp_path / "no.conll", [("x", SEVERAL)]), "no.conll", "named entities")


def test_entities_are_written_as_one_row_each(tmp_path):
    for suffix in (".csv", ".jsonl", ".xlsx"):
        write_all(tmp_path / f"out{suffix}", [("x", WORDS), ("y", NONE), ("z", WORDS)], entity_rows=True)
    rows = read_table(tmp_path / "out.csv", header=True).rows
    assert len(rows) == 4
    assert rows[0] == {
        "text": "x",
        "row": "1",
        "entity": "Ada Lovelace",
        "label": "PER",
        "start": "0",
        "end": "12",
        "score": "0.988",
    }
    assert (rows[3]["text"], rows[3]["row"], rows[3]["entity"]) == ("z", "3", "Rome")
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert (first["score"], first["start"]) == (0.98765, 0)
    assert openpyxl.load_workbook(tmp_path / "out.xlsx").active.max_row == 5
    assert openpyxl.load_workbook(tmp_path / "out.xlsx").active.freeze_panes == "A2"
    write_all(tmp_path / "none.csv", [("y", NONE)], entity_rows=True)
    assert (tmp_path / "none.csv").read_text() == "text,row,entity,label,start,end,score\n"
    assert_error(
        lambda: write_all(tmp_path / "no.csv", [("x", SEVERAL)], entity_rows=True), "--entity-rows", "named entities"
    )


def test_the_help_says_what_happens_to_formulas():
    from headway.core.options import options_of

    (help,) = (found.help for found in options_of(OutputOptions) if found.name == "for_excel")
    assert re.search("apostrophe before .* formulas", help)
    assert "Without it such texts are written unchanged" in help


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_table_without_rows_has_a_header(tmp_path, suffix):
    with RowWriter(tmp_path / f"out{suffix}", ("text", "label")):
        pass
    content = (tmp_path / f"out{suffix}").read_text(encoding="utf-8")
    assert content.split() in (["text,label"], ["text", "label"])
