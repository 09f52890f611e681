"""Excel workbooks: the sheet, the header, the types of cells, and damaged files."""

import datetime
import random
import zipfile

import pytest
from data_files import assert_error, reading
from headway.core.errors import HeadwayError
from headway.tasks.data.read import read_table
from openpyxl import Workbook

ROWS = [("text", "label"), ("a good film", "pos"), ("a bad film", "neg"), ("a fine film", "pos")]


def workbook(path, **sheets):
    book = Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_the_rows_of_a_sheet_are_read_with_their_types(tmp_path):
    day = datetime.date(2024, 5, 17)
    path = workbook(tmp_path / "a.xlsx", Data=[("text", "n", "day"), ("one\nline", 4.5, day), (None, 3, None)])
    table = read_table(path)
    assert table.columns == ("text", "n", "day")
    assert table.rows[0] == {"text": "one\nline", "n": 4.5, "day": "2024-05-17T00:00:00"}
    assert table.rows[1] == {"text": None, "n": 3, "day": None}
    assert (table.kind, table.where(0)) == ('Excel, sheet "Data"', f"{path}, row 2")


def test_the_content_and_not_the_name_says_that_a_file_is_a_workbook(tmp_path):
    path = workbook(tmp_path / "a.xlsx", Data=ROWS)
    renamed = path.rename(tmp_path / "a.csv")
    assert len(read_table(renamed)) == 3


def test_the_only_sheet_with_rows_is_read_and_others_are_named(tmp_path):
    path = workbook(tmp_path / "a.xlsx", Cover=[], Data=ROWS)
    assert read_table(path).notes == ('sheet: "Data", the only visible one with rows (--sheet overrules)',)
    path = workbook(tmp_path / "b.xlsx", First=ROWS, Second=[("text", "label"), ("other", "x"), ("more", "y")])
    assert_error(reading(path), path, 'several sheets have rows: "First", "Second"', "--sheet")
    for sheet in ("Second", "second", "2"):
        assert read_table(path, sheet=sheet).rows[0] == {"text": "other", "label": "x"}
    assert_error(reading(path, sheet="Third"), path, "no sheet 'Third'", '"First", "Second"')
    assert_error(reading(path, sheet="3"), path, "no sheet '3'")
    path = workbook(tmp_path / "c.xlsx", Cover=[], Empty=[(None, " ")])
    assert_error(reading(path), path, "empty", "--sheet")


def test_blank_rows_a_title_and_empty_columns_around_a_table_are_left_out(tmp_path):
    rows = [("Report of May",), (), *[(*row, None, None) for row in ROWS], (), ("last film", "neg", None, None)]
    table = read_table(workbook(tmp_path / "a.xlsx", Data=rows))
    assert [tuple(row.values()) for row in table.rows] == [*ROWS[1:], ("last film", "neg")]
    assert table.columns == ("text", "label")
    assert table.places == [4, 5, 6, 8]
    assert "1 row with a single cell above the table left out (Report of May)" in table.notes


def test_a_sheet_without_a_header_is_numbered_and_the_note_says_so(tmp_path):
    path = workbook(tmp_path / "a.xlsx", Data=[("a good film", 1), ("a bad film", 0)])
    table = read_table(path)
    assert table.rows[0] == {"0": "a good film", "1": 1}
    assert "--header" in table.notes[0]
    assert read_table(path, header=True).rows == [{"a good film": "a bad film", "1": 0}]


def test_rows_beyond_the_sample_are_read_and_a_cell_beyond_the_columns_is_an_error(tmp_path):
    rows = [*ROWS, *[("one more", "pos")] * 1500]
    assert len(read_table(workbook(tmp_path / "a.xlsx", Data=rows))) == 1503
    path = workbook(tmp_path / "b.xlsx", Data=[*rows, ("text", "pos", "lost")])
    assert_error(reading(path), f"{path}, row 1505", "beyond the last column (label)")


def test_options_that_mean_nothing_for_a_workbook_are_refused(tmp_path):
    path = workbook(tmp_path / "a.xlsx", Data=ROWS)
    for name, value in (("encoding", "utf-8"), ("delimiter", ";")):
        assert_error(reading(path, **{name: value}), path, f"--{name} has no meaning for Excel")
    (tmp_path / "a.csv").write_text("text,label\na,b\n")
    assert_error(reading(tmp_path / "a.csv", sheet="Data"), "--sheet has no meaning for CSV")


def test_an_archive_that_expands_too_far_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("headway.tasks.data.reading.limits.MIN_EXPANDED_BYTES", 1 << 20)
    path = workbook(tmp_path / "a.xlsx", Data=ROWS)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet2.xml", b" " * (20 << 20))
    assert_error(reading(path), path, "expand to more than")


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_workbook_is_an_error_of_one_line(tmp_path, seed):
    draw = random.Random(seed)
    whole = workbook(tmp_path / "whole.xlsx", Data=ROWS)
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(path, "w") as damaged:
        names = archive.namelist()
        broken = draw.choice(names)
        for name in names:
            content = bytearray(archive.read(name))
            if name == broken:
                kind = draw.randrange(4)
                if kind == 0:
                    continue
                if kind == 1:
                    del content[draw.randrange(len(content)) :]
                else:
                    for _ in range(kind * 3):
                        content[draw.randrange(len(content))] = draw.randrange(256)
            damaged.writestr(name, bytes(content))
    if seed % 5 == 0:
        path.write_bytes(path.read_bytes()[: draw.randrange(10, 4000)])
    message = None
    try:
        rows = read_table(path).rows
    except HeadwayError as error:
        rows, message = [], str(error)
    assert bool(rows) != bool(message)
    assert message is None or (str(path) in message and "\n" not in message)


def test_merged_cells_have_their_value_in_each_row_that_they_cover(tmp_path):
    book = Workbook()
    sheet = book.active
    sheet.append(("Report of May",))
    sheet.merge_cells("A1:B1")
    for row in (("text", "label"), *((f"note {i}", "ab"[i // 3]) for i in range(6)), ("last", "c")):
        sheet.append(row)
    sheet.merge_cells("B3:B5")
    sheet.merge_cells("B6:B8")
    book.save(tmp_path / "a.xlsx")
    table = read_table(tmp_path / "a.xlsx")
    assert [row["label"] for row in table.rows] == [*"aaabbbc"]
    assert "merged cells: each row that they cover has their value" in table.notes


def test_formulas_without_a_stored_value_and_errors_are_named(tmp_path):
    rows = [("text", "label"), ('="a"&"b"', "x"), ("fine", "#N/A"), ("good", "y"), ("well", "x")]
    table = read_table(workbook(tmp_path / "a.xlsx", Data=rows))
    assert [tuple(row.values()) for row in table.rows] == [(None, "x"), ("fine", None), *rows[3:]]
    assert any(note.startswith("1 formula without a stored value") and "save it" in note for note in table.notes)
    assert "errors such as #N/A (row 3) are read as empty cells" in table.notes


def test_text_that_is_named_like_a_workbook_is_read_as_a_table(tmp_path):
    for name in ("a.xls", "b.xlsx"):
        (tmp_path / name).write_text("text,label\n" + "a good film,pos\na bad film,neg\n" * 3)
        assert read_table(tmp_path / name).columns == ("text", "label")
