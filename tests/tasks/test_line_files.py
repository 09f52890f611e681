"""Text files with one text per line, with or without labels."""

from data_files import assert_error, reading, write
from headway.tasks.data.read import read_table


def test_each_line_is_a_text_and_blank_lines_are_skipped(tmp_path):
    table = read_table(write(tmp_path, "a.txt", "one, two\n\n  three \r\n   \nfour\n"))
    assert (table.kind, table.columns) == ("lines", ("text",))
    assert [row["text"] for row in table.rows] == ["one, two", "  three ", "four"]
    assert table.places == [1, 3, 5]


def test_a_text_file_with_tabs_is_a_tsv(tmp_path):
    table = read_table(write(tmp_path, "a.txt", "good film\t1\nbad film\t0\n"))
    assert (table.kind, table.columns) == ("TSV", ("0", "1"))


def test_coarse_and_fine_labels_are_separated_from_the_text(tmp_path):
    table = read_table(write(tmp_path, "a.txt", "DESC:manner How did it start ?\n\nNUM:date When : now ?\n"))
    assert table.kind == "label-prefixed lines"
    assert table.rows[0] == {"label": "DESC", "fine": "DESC:manner", "text": "How did it start ?"}
    assert table.rows[1] == {"label": "NUM", "fine": "NUM:date", "text": "When : now ?"}
    assert table.places == [1, 3]


def test_fasttext_labels_are_separated_from_the_text(tmp_path):
    table = read_table(write(tmp_path, "a.txt", "__label__a good\n__label__b __label__a __x__ y\n"))
    assert table.rows == [{"label": "a", "text": "good"}, {"label": "b;a", "text": "__x__ y"}]


def test_a_line_without_a_label_is_an_error(tmp_path):
    lines = ["HUM:ind Who is it ?"] * 20 + ["no label here"]
    path = write(tmp_path, "a.txt", "\n".join(lines))
    assert_error(reading(path), f"{path}, line 21", "LABEL:fine", "no label here", "Put its label")


def test_a_note_says_that_lines_could_be_the_rows_of_a_table(tmp_path):
    for name in ("a.txt", "stdin"):
        table = read_table(write(tmp_path, name, "Ticket;Befund\nalles gut;Lob\nzu teuer;Preis\nsehr gut;Lob\n"))
        assert table.kind == "lines"
        assert table.notes == ("each line is a text; --delimiter semicolon reads columns",)
    assert read_table(write(tmp_path, "b.txt", "Well, yes\nNo\nOf course\nWhy, and when, and how?\n")).notes == ()
