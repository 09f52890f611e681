"""A corrected copy of labelled data differs from the file in the corrected labels only."""

import gzip
import json
import lzma
import re
import zipfile
from pathlib import Path
from typing import Any

import datasets
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_files import assert_error
from headway.tasks import TextClassification, TokenClassification, read_table
from headway.tasks.base.label_checks import Correction
from headway.tasks.evaluation.corrections import read_corrections, write_corrected
from headway.tasks.tagging.label_checks import correct_spans
from headway.tasks.tagging.tag_schemes import WordSpan

ONE = TextClassification(problem_type="single_label_classification")
SEVERAL = TextClassification(problem_type="multi_label_classification")
NUMBERS = TextClassification(problem_type="regression")


def corrected(path: Path, content: bytes, *corrections: Correction, task: Any = ONE, **options: Any) -> bytes:
    """The bytes of the corrected copy of a file with this content."""
    path.write_bytes(content)
    found = write_corrected(path, corrections, path.with_name(f"copy{path.suffix}"), task=task, **options)
    assert path.read_bytes() == content
    assert found.changed == len({one.place for one in corrections})
    return found.path.read_bytes()


# Text formats: every other byte stays.

CSV = (
    '\ufeff"text";label;"more"\r\n"a ""quoted"" text,\r\nof two lines";good;" x"\r\n\r\nb; "good";y\r\n'
    'c;"bad";z\r\nd;good;"w"'
)
TSV = 'text\tlabel\n"a\tgood\nb\tbad\r\nc\tgood\n'


def test_a_csv_keeps_separators_quotes_line_breaks_and_the_byte_order_mark(tmp_path: Path):
    found = corrected(
        tmp_path / "data.csv", CSV.encode(), Correction(2, "good", "bad"), Correction(6, "bad", "good"),
        Correction(7, "good", 'not; "good"'),
    )  # fmt: skip
    expected = CSV.replace('lines";good', 'lines";bad').replace('c;"bad"', 'c;"good"')
    assert found.decode() == expected.replace("d;good", 'd;"not; ""good"""')


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_a_tsv_keeps_its_encoding(tmp_path: Path, codec: str):
    mark = {"utf-16-le": b"\xff\xfe"}.get(codec, b"")
    found = corrected(tmp_path / "data.tsv", mark + TSV.encode(codec), Correction(3, "bad", "good"))
    assert found == mark + TSV.replace("bad", "good").encode(codec)


def test_a_label_that_the_encoding_does_not_have_is_refused(tmp_path: Path):
    content = "text,label\nfür,gut\nnie,schlecht\n".encode("cp1252")
    path = tmp_path / "data.csv"
    kept = corrected(path, content, Correction(2, "gut", "schlecht"), encoding="cp1252")
    assert kept == content.replace(b"gut", b"schlecht")
    with pytest.raises(Exception, match="does not exist in the encoding"):
        corrected(path, content, Correction(2, "gut", "日"), encoding="cp1252", overwrite=True)
    assert (tmp_path / "copy.csv").read_bytes() == kept


@pytest.mark.parametrize(("suffix", "module"), [(".gz", gzip), (".xz", lzma)])
def test_a_compressed_file_is_compressed_again(tmp_path: Path, suffix: str, module: Any):
    content = b"text,label\na,good\nb,bad\n"
    found = corrected(tmp_path / f"data.csv{suffix}", module.compress(content), Correction(3, "bad", "good"))
    assert module.decompress(found) == content.replace(b"bad", b"good")


def test_json_lines_keep_spaces_order_and_escapes(tmp_path: Path):
    content = '{"label" : "good", "n": 1.50, "text": "\\u00e4"}\n\n{"text":"b","label":"bad","more":{"label":"bad"}}'
    found = corrected(
        tmp_path / "data.jsonl", content.encode(), Correction(1, "good", "bäd"), Correction(3, "bad", "good")
    )
    assert found.decode() == content.replace('"good",', '"bäd",').replace(
        '"label":"bad","more"', '"label":"good","more"'
    )


def test_class_numbers_in_json_stay_numbers_and_an_array_is_corrected(tmp_path: Path):
    content = b'[ {"text": "a", "label": 0},\n  {"text": "b", "label": 1} ]\n'
    found = corrected(tmp_path / "data.json", content, Correction(2, "1", "0"))
    assert found == content.replace(b"1}", b"0}")
    columns = b'{"text": ["a", "b"], "label": ["x", "y"]}'
    with pytest.raises(Exception, match=r"another layout.*\.jsonl"):
        corrected(tmp_path / "data.json", columns, Correction(2, "y", "x"), overwrite=True)


# Other formats.


def test_a_workbook_keeps_everything_but_the_cell(tmp_path: Path):
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (["text", "label", "n"], ["a < b", "good", 1], ["c", "bad & ugly", 2]):
        sheet.append(row)
    sheet["B3"].font = openpyxl.styles.Font(bold=True)
    sheet["D2"] = "=1+1"
    book.save(tmp_path / "data.xlsx")
    content = (tmp_path / "data.xlsx").read_bytes()
    corrected(
        tmp_path / "data.xlsx", content, Correction(3, "bad & ugly", "good"), Correction(2, "good", "bad & ugly")
    )
    cells = openpyxl.load_workbook(tmp_path / "copy.xlsx").active
    assert cells is not None
    assert [cells[name].value for name in ("B2", "B3", "C3", "D2")] == ["bad & ugly", "good", 2, "=1+1"]
    assert cells["B3"].font.bold
    before, after = zipfile.ZipFile(tmp_path / "data.xlsx"), zipfile.ZipFile(tmp_path / "copy.xlsx")
    assert [name for name in before.namelist() if before.read(name) != after.read(name)] == [
        "xl/worksheets/sheet1.xml"
    ]


def test_a_label_that_a_formula_computes_is_refused(tmp_path: Path):
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (["text", "label"], ["a", "good"], ["b", "bad"]):
        sheet.append(row)
    book.save(tmp_path / "plain.xlsx")
    with zipfile.ZipFile(tmp_path / "plain.xlsx") as before, zipfile.ZipFile(tmp_path / "data.xlsx", "w") as after:
        for name in before.namelist():
            data = before.read(name)
            if name.endswith("sheet1.xml"):
                formula = b'<c r="B3" t="str"><f>LOWER("BAD")</f><v>bad</v></c>'
                data = re.sub(rb'<c r="B3".*?</c>', formula, data)
            after.writestr(name, data)
    content = (tmp_path / "data.xlsx").read_bytes()
    with pytest.raises(Exception, match="B3 is computed by a formula"):
        corrected(tmp_path / "data.xlsx", content, Correction(3, "bad", "good"))


def test_parquet_keeps_types_class_names_and_compression(tmp_path: Path):
    path = tmp_path / "data.parquet"
    labels = pa.array(["good", "bad", "good"]).dictionary_encode()
    pq.write_table(pa.table({"text": ["a", "b", "c"], "label": labels, "n": [1, 2, 3]}), path, compression="zstd")
    corrected(path, path.read_bytes(), Correction(2, "bad", "good"))
    found = pq.ParquetFile(tmp_path / "copy.parquet")
    assert found.read().to_pydict() == {"text": ["a", "b", "c"], "label": ["good"] * 3, "n": [1, 2, 3]}
    assert found.schema_arrow == pq.ParquetFile(path).schema_arrow
    assert found.metadata.row_group(0).column(0).compression == "ZSTD"
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "so"])})
    datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features).to_parquet(path)
    write_corrected(path, [Correction(2, "so", "no")], tmp_path / "copy.parquet", overwrite=True)
    assert [row["label"] for row in read_table(tmp_path / "copy.parquet").rows] == ["no", "no"]
    assert_error(lambda: write_corrected(path, [Correction(2, "so", "new")], tmp_path / "b.parquet"), '"label"', "new")


# Several labels, numbers, words.


@pytest.mark.parametrize(
    ("before", "after"),
    [("a;b", "b;c"), ('["a", "b"]', '["b", "c"]'), ("['a', 'b']", "['b', 'c']")],
)
def test_several_labels_keep_their_notation(tmp_path: Path, before: str, after: str):
    rows = [
        {"text": "x", "label": before},
        {"text": "y", "label": before},
        {"text": "z", "label": before.replace("a", "c")},
    ]
    path = tmp_path / "data.jsonl"
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    changes = Correction(2, "yes", "no", "a"), Correction(2, "no", "yes", "c")
    corrected(path, content, *changes, task=SEVERAL)
    assert [row["label"] for row in read_table(tmp_path / "copy.jsonl").rows] == [before, after, rows[2]["label"]]


def test_lists_of_labels_and_columns_of_labels_are_corrected(tmp_path: Path):
    content = b'{"text": "x", "label": ["a"]}\n{"text": "y", "label": ["b", "a"]}\n'
    found = corrected(tmp_path / "data.jsonl", content, Correction(2, "yes", "no", "b"), task=SEVERAL)
    assert found == content.replace(b'["b", "a"]', b'["a"]')
    content = b"text,good,fast\nx,1,0\ny,0,1\nz,1,1\n"
    changes = Correction(2, "no", "yes", "fast"), Correction(2, "yes", "no", "good")
    options = {"task": SEVERAL, "columns": {"label": ("good", "fast")}}
    assert corrected(tmp_path / "data.csv", content, *changes, **options) == content.replace(b"x,1,0", b"x,0,1")


def test_a_number_keeps_its_decimal_comma(tmp_path: Path):
    content = b"text;label\na;1,5\nb;22,5\nc;2,5\n"
    found = corrected(tmp_path / "data.csv", content, Correction(3, "22.5", "2.25"), task=NUMBERS)
    assert found == content.replace(b"22,5", b"2,25")


CONLL = "# id 1\nAda  B-PER\nLove\tB-PER\nsaw O\nNew B-LOC\nYork O\n\n-DOCSTART- O\n\nEve O\nran O\n"


def test_tags_of_words_are_corrected_in_conll(tmp_path: Path):
    changes = (
        Correction(2, "O", "LOC", "York", 4),
        Correction(2, "PER", "O", "Ada", 0),
        Correction(10, "O", "PER", "Eve", 0),
    )
    found = corrected(tmp_path / "data.conll", CONLL.encode(), *changes, task=TokenClassification()).decode()
    expected = CONLL.replace("Ada  B-PER", "Ada  O").replace("York O", "York I-LOC").replace("Eve O", "Eve B-PER")
    assert found == expected


def test_the_tag_after_a_corrected_word_begins_an_entity():
    spans = [WordSpan(0, 4, "PER")]
    assert correct_spans(spans, {1: "O"}) == [WordSpan(0, 1, "PER"), WordSpan(2, 4, "PER")]
    assert correct_spans(spans, {1: "LOC", 2: "LOC"}) == [
        WordSpan(0, 1, "PER"), WordSpan(1, 3, "LOC"), WordSpan(3, 4, "PER"),
    ]  # fmt: skip
    apart = [WordSpan(0, 1, "PER"), WordSpan(1, 2, "PER"), WordSpan(3, 4, "PER")]
    assert correct_spans(apart, {2: "PER"}) == [WordSpan(0, 1, "PER"), WordSpan(1, 4, "PER")]


# What cannot be done is refused, and nothing is written.

ROWS = b"text,label\na,good\nb,bad\n"


@pytest.mark.parametrize(
    ("correction", "words"),
    [
        (Correction(9, "good", "bad"), ("line 9", "no labelled row")),
        (Correction(2, "bad", "good"), ("line 2", '"good"', '"bad"', "Search again")),
    ],
)
def test_corrections_of_other_data_are_refused(tmp_path: Path, correction: Correction, words: tuple[str, ...]):
    path = tmp_path / "data.csv"
    path.write_bytes(ROWS)
    assert_error(lambda: write_corrected(path, [correction], tmp_path / "copy.csv", task=ONE), *words)
    assert [one.name for one in tmp_path.iterdir()] == ["data.csv"]


def test_the_data_itself_another_format_and_no_or_two_corrections_are_refused(tmp_path: Path):
    path, one = tmp_path / "data.csv", Correction(2, "good", "bad")
    path.write_bytes(ROWS)
    (tmp_path / "link.csv").symlink_to(path)
    for output, corrections, words in (
        (path, [one], "replace the data itself"),
        (tmp_path / "link.csv", [one], "replace the data itself"),
        (tmp_path / "copy.jsonl", [one], 'ends in ".csv"'),
        (tmp_path / "copy.csv", [], "Accept at least one"),
        (tmp_path / "copy.csv", [one, one], "two corrections"),
    ):
        assert_error(lambda: write_corrected(path, corrections, output, task=ONE, overwrite=True), words)  # noqa: B023
    assert path.read_bytes() == ROWS
    assert not (tmp_path / "copy.csv").exists()


def test_a_correction_after_which_the_file_would_be_read_differently_is_refused(tmp_path: Path):
    path = tmp_path / "data.txt"
    path.write_bytes(b"__label__good a text\n__label__bad b text\n" * 3)
    assert_error(
        lambda: write_corrected(path, [Correction(1, "good", "bad")], tmp_path / "copy.txt"), "cannot be corrected"
    )


def test_a_new_label_is_said(tmp_path: Path):
    path = tmp_path / "data.csv"
    path.write_bytes(ROWS)
    found = write_corrected(path, [Correction(2, "good", "godo")], tmp_path / "copy.csv", task=ONE)
    assert any('"godo" is a new label' in note for note in found.notes)


# The file of suspects.


def test_suspects_are_read_as_corrections(tmp_path: Path):
    path = tmp_path / "suspects.csv"
    path.write_text("place,item,word,given,likely,accept\n12,York,4,O,LOC,yes\n3,,,good,bad,no\n4,,,good,bad,\n")
    assert read_corrections(path) == [Correction(12, "O", "LOC", "York", 4)]
    path.write_text("place,given,likely\n3,good,bad\n")
    assert read_corrections(path) == [Correction(3, "good", "bad")]
    path.write_text("place,given,likely,accept\n3,good,bad,perhaps\n")
    assert_error(lambda: read_corrections(path), "line 2", "perhaps", "yes or no")
    path.write_text("place,given,likely\nx,good,bad\n")
    assert_error(lambda: read_corrections(path), "line 2", "place")
    path.write_text("text,label\na,good\n")
    assert_error(lambda: read_corrections(path), '"place"')
