"""CSV and TSV files: delimiters, quotes, headers, and the errors of malformed rows."""

import csv
import io

import pytest
from data_files import any_text, assert_error, fuzzing, reading, write
from headway.tasks import TASKS
from headway.tasks.data.read import read_table, stream_rows
from hypothesis import assume, example, given
from hypothesis import strategies as st


@fuzzing
@given(rows=st.lists(st.tuples(any_text, any_text, any_text), min_size=1, max_size=8), bom=st.booleans())
def test_a_csv_written_by_python_is_read_back_unchanged(tmp_path, rows, bom):
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([("text", "label", "note"), *rows])
    path = write(tmp_path, "a.csv", buffer.getvalue().encode("utf-8-sig" if bom else "utf-8"))
    table = read_table(path)
    assert table.columns == ("text", "label", "note")
    assert [tuple(row.values()) for row in table.rows] == rows


@fuzzing
@given(
    rows=st.lists(
        st.lists(any_text.map(lambda s: s.translate(dict.fromkeys(map(ord, "\t\r\n")))), min_size=2, max_size=2)
    ),
    crlf=st.booleans(),
)
@example(rows=[['"', 'a"b'], ["", ""], [" x ", "\u2028"]], crlf=True)
def test_a_tsv_is_read_back_unchanged_with_its_quotes(tmp_path, rows, crlf):
    assume(rows)
    lines = ["\t".join(row) + ("\r\n" if crlf else "\n") for row in [["text", "label"], *rows]]
    table = read_table(write(tmp_path, "a.tsv", "".join(lines)))
    assert [list(row.values()) for row in table.rows] == rows
    assert table.places == list(range(2, len(rows) + 2))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_of_a_csv_is_inferred_from_its_rows(tmp_path, delimiter):
    rows = [("text", "label", "n"), ("well, well; so it is", "a", "1"), ("plain", "b", "2"), ("x", "", "3")]
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter).writerows(rows)
    table = read_table(write(tmp_path, "a.csv", buffer.getvalue()))
    assert table.columns == rows[0]
    assert [tuple(row.values()) for row in table.rows] == rows[1:]


def test_commas_inside_texts_are_not_taken_for_the_delimiter(tmp_path):
    table = read_table(write(tmp_path, "a.csv", "Hello, world;1\nBye, all;0\n"))
    assert [tuple(row.values()) for row in table.rows] == [("Hello, world", "1"), ("Bye, all", "0")]


def test_a_csv_with_one_column_is_not_split(tmp_path):
    table = read_table(write(tmp_path, "a.csv", 'text\ngood\n"well, yes"\nI came; I saw\n'))
    assert [row["text"] for row in table.rows] == ["good", "well, yes", "I came; I saw"]


def test_the_place_of_a_multiline_record_is_its_first_line(tmp_path):
    table = read_table(write(tmp_path, "a.csv", 'text,label\r\n"one\r\ntwo ""2""\n\nthree",a\r\n\r\nfour,b\r\n'))
    assert [row["text"] for row in table.rows] == ['one\r\ntwo "2"\n\nthree', "four"]
    assert table.places == [2, 7]
    assert table.where(1) == f"{tmp_path / 'a.csv'}, line 7"


def test_blank_lines_of_a_table_are_skipped(tmp_path):
    for name, sign in (("a.csv", ","), ("a.tsv", "\t")):
        table = read_table(write(tmp_path, name, f" \ntext{sign}label\n\na{sign}1\n   \nb{sign}0\n\n"))
        assert [row["text"] for row in table.rows] == ["a", "b"]
        assert table.places == [4, 6]


def test_a_single_cr_ends_a_line_of_a_csv(tmp_path):
    table = read_table(write(tmp_path, "a.csv", "text,label\rone,1\rtwo,0\r"))
    assert [row["text"] for row in table.rows] == ["one", "two"]
    assert table.places == [2, 3]


def test_quotes_are_ordinary_characters_in_a_tsv(tmp_path):
    table = read_table(write(tmp_path, "a.tsv", 'text\tlabel\n"half a quote\t1\nsaid "yes"\t0\n"all"\t1\n'))
    assert [row["text"] for row in table.rows] == ['"half a quote', 'said "yes"', '"all"']


def test_a_field_longer_than_the_limit_of_the_csv_module_is_read(tmp_path):
    long = "word " * 60_000
    for row in (f"{long},1\n", f'"{long}",1\n'):
        table = read_table(write(tmp_path, "a.csv", f"text,label\nshort,0\n{row}"))
        assert table.rows[1] == {"text": long, "label": "1"}


def test_a_first_record_longer_than_the_sample_is_read(tmp_path):
    long = "word " * 300_000
    table = read_table(write(tmp_path, "a.csv", f'"{long}\n{long}",1\nshort,0\n'))
    assert [len(row["0"]) for row in table.rows] == [2 * len(long) + 1, 5]
    assert table.places == [1, 3]


def test_rows_beyond_the_sample_are_read_and_checked(tmp_path):
    lines = ["text,label", *(f'"row\n{number}",{number % 2}' for number in range(3000))]
    path = write(tmp_path, "a.csv", "\n".join(lines))
    table = read_table(path)
    assert len(table) == 3000
    assert table.places[-1] == 2 + 2 * 2999
    path.write_text("\n".join([*lines, "a,b,c"]))
    assert_error(reading(path), f"{path}, line 6002", "3 fields")
    assert len(read_table(path, limit=10)) == 10


# Headers


@pytest.mark.parametrize(
    ("rows", "header"),
    [
        (["text,label", "good,1"], True),
        (["Label,Sentence 1", "1,good"], True),
        ([",text,label", "0,good,1", "1,bad,0"], True),
        (["id,tweet_body,stance", *(f"{n},some words {n},{'ab'[n % 2]}" for n in range(6))], True),
        (["utterance_raw,n_stars", "it is good,4", "it is bad,1"], True),
        (["0,1", "good film,pos", "bad film,neg"], True),
        (["good film,1", "bad film,0"], False),
        (["good film,pos", "bad film,neg"], False),
        (["good,pos", "bad,neg", "better,pos", "worse,neg", "best,pos"], False),
        (["What is it?,question", "It is.,statement", "Is it?,question"], False),
        (["4,27", "title,3", "name,2"], False),
        (["review,", "fine,3"], True),
        (["It was good.,", "fine,3", "bad,2"], False),
        (["Go.,Va !", "Hi.,Salut !", "Run!,Cours !"], False),
    ],
)
def test_a_header_is_distinguished_from_data(tmp_path, rows, header):
    table = read_table(write(tmp_path, "a.csv", "\n".join(rows)))
    assert table.header is header
    assert len(table) == len(rows) - header
    if not header:
        assert table.columns == tuple(str(number) for number in range(rows[0].count(",") + 1))


def test_the_header_argument_overrides_the_inference(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\ngood,1\n")
    assert read_table(path, header=False).rows[0] == {"0": "text", "1": "label"}
    path = write(tmp_path, "b.csv", "good,pos\nbad,neg\n")
    assert read_table(path, header=True).rows == [{"good": "bad", "pos": "neg"}]


def test_an_unnamed_column_is_named_by_its_number(tmp_path):
    assert read_table(write(tmp_path, "a.csv", " text ,label,\na,b,c\n")).columns == ("text", "label", "2")


def test_a_table_with_only_a_header_is_an_error(tmp_path):
    for name, content in (("a.csv", "text,label\n"), ("a.tsv", "text\tlabel\n\n")):
        path = write(tmp_path, name, content)
        assert_error(reading(path), path, "line 1", "only a header (text, label)", "Add rows")
        assert_error(lambda path=path: stream_rows(path), "only a header")
    path = write(tmp_path, "b.csv", "x,y\n")
    assert_error(reading(path, header=True), "only a header")
    for content in ("[]", '{"data": []}', '{"a": []}'):
        assert_error(reading(write(tmp_path, "a.json", content)), "a.json", "empty")


def test_a_repeated_name_in_the_header_is_an_error(tmp_path):
    path = write(tmp_path, "a.csv", "text,label,text\na,b,c\n")
    assert_error(reading(path), f"{path}, line 1", '"text" twice (columns 0 and 2', "Rename")


def test_the_separator_line_of_excel_is_not_a_row(tmp_path):
    for line in ("sep=;", "SEP=;", '"sep=;"'):
        table = read_table(write(tmp_path, "a.csv", f"{line}\ntext;label\nwell, yes;1\nno;0\n"))
        assert table.rows == [{"text": "well, yes", "label": "1"}, {"text": "no", "label": "0"}]
        assert table.places == [3, 4]
        assert f"separator: semicolon, as the line {line} says" in table.notes


def test_a_given_separator_is_used_for_any_text_file(tmp_path):
    for name in ("a.csv", "a.txt", "a"):
        path = write(tmp_path, name, "text#label\na, b#1\nc, d#0\n")
        assert read_table(path, delimiter="#").rows == [{"text": "a, b", "label": "1"}, {"text": "c, d", "label": "0"}]
    path = write(tmp_path, "a.csv", "text\tlabel\na,b\t1\n")
    assert read_table(path, delimiter="tab").rows == [{"text": "a,b", "label": "1"}]
    assert_error(reading(path, delimiter="::"), "--delimiter '::'", "one character", "semicolon")


def test_columns_that_are_empty_to_the_end_are_left_out(tmp_path):
    for rows in ("a,1,,\nb,0,,\n", "a,1\nb,0\n"):
        table = read_table(write(tmp_path, "a.csv", f"text,label,,\n{rows}"))
        assert table.rows == [{"text": "a", "label": "1"}, {"text": "b", "label": "0"}]
    table = read_table(write(tmp_path, "a.csv", "text,label\na,1,,\nb,0,,\n"))
    assert table.rows == [{"text": "a", "label": "1"}, {"text": "b", "label": "0"}]
    assert "2 empty columns at the end of the table left out" in table.notes
    assert read_table(write(tmp_path, "a.csv", "text,label\na,\nb,\n")).columns == ("text", "label")
    rows = "a,1,,\n" * 3000
    path = write(tmp_path, "a.csv", f"text,label,,\n{rows}b,0,,lost\n")
    assert_error(reading(path), f"{path}, line 3002", "4 fields where 2")


def test_a_note_says_whether_the_first_row_is_read_as_a_header(tmp_path):
    table = read_table(write(tmp_path, "a.csv", "spam,win a prize now\nham,see you later then\n"))
    assert "header: none found, so the first row is data (spam, win a prize now); --header" in table.notes[0]
    table = read_table(write(tmp_path, "a.csv", "v1,v2\n" + "spam,win a prize now\nham,see you then\n" * 4))
    assert table.notes == ("header: the first row (v1, v2); --no-header reads it as data",)
    assert read_table(write(tmp_path, "a.csv", "text,label\na,b\n")).notes == ()
    assert read_table(write(tmp_path, "a.csv", "a,b\nc,d\n"), header=False).notes == ()


def test_the_names_of_every_tasks_fields_are_a_header_even_in_a_table_of_two_rows(tmp_path):
    fields = [field for task in TASKS.values() for field in task.inputs]
    for name in {name for field in fields for name in (field.name, *field.aliases)} | {"Kategorie", "étiquette"}:
        table = read_table(write(tmp_path, "a.csv", f"{name},what\na first text,a second text\n"))
        assert table.columns == (name, "what")
        assert table.notes == ()


def test_a_single_word_above_sentences_is_a_header(tmp_path):
    sentences = ["what did the sea say?", "nothing, it just waved", "knock knock, who is there?", "a short one"]
    table = read_table(write(tmp_path, "a.csv", "\n".join(["joke", *(f'"{line}"' for line in sentences)])))
    assert [row["joke"] for row in table.rows] == sentences
    assert "header: the first row (joke)" in table.notes[0]


def test_a_header_below_many_blank_lines_is_found(tmp_path):
    for header in (None, True):
        table = read_table(write(tmp_path, "a.csv", "\n" * 1500 + "text;label\na;1\nb;0\n"), header=header)
        assert table.rows == [{"text": "a", "label": "1"}, {"text": "b", "label": "0"}]
        assert table.places == [1502, 1503]


def test_tab_separated_text_of_excel_may_have_line_breaks_in_quotes(tmp_path):
    content = 'text\tlabel\n"one\ntwo ""2"""\ta\n"three\n\nfour"\tb\n'
    table = read_table(write(tmp_path, "a.txt", content.encode("utf-16")))
    assert [row["text"] for row in table.rows] == ['one\ntwo "2"', "three\n\nfour"]
    assert any("quotes" in note for note in table.notes)


def test_a_file_without_a_suffix_is_a_csv_if_it_begins_with_known_column_names(tmp_path):
    assert read_table(write(tmp_path, "stdin", "text,label\nyes,1\nno,0\n")).kind == "CSV"
    assert read_table(write(tmp_path, "stdin", "Well, yes\nWell, no\n")).kind == "lines"


# Malformed rows


def test_the_error_of_a_row_with_too_many_fields_names_the_likely_cause(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\ngood,1\nwell, well,0\n")
    assert_error(
        reading(path), f"{path}, line 3", "3 fields where 2", "(text, label)", "well, well,0", "comma inside a text"
    )
    path = write(tmp_path, "a.tsv", "text\tlabel\ngood\t1\nso\tso\t0\n")
    assert_error(reading(path), f"{path}, line 3", "3 fields where 2", "a TAB inside a text")
    path = write(tmp_path, "b.tsv", "so\tso\t0\n" + "good film\t1\n" * 5)
    assert_error(reading(path), f"{path}, line 1", "3 fields where 2")


def test_the_error_of_a_row_with_too_few_fields_names_the_likely_cause(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\ngood\nfilm,1\n")
    assert_error(reading(path), f"{path}, line 2", "1 field where 2", "line break inside a text")
    path = write(tmp_path, "a.tsv", "text\tlabel\ngood\nfilm\t1\n")
    assert_error(reading(path), f"{path}, line 2", "1 field where 2", "line break", "missing TAB")


def test_the_error_of_an_unclosed_quote_names_the_line_where_it_opens(tmp_path):
    path = write(tmp_path, "a.csv", 'text,label\nfine,1\n"open,0\nmore,1\nmore,0\n')
    assert_error(reading(path), f"{path}, line 3", "never closed", "line 5", "Close it")
    path = write(tmp_path, "a.csv", 'text,label\n"open,0\nmore,1\n"fine",0\n')
    assert_error(reading(path), f"{path}, line 2", "not closed before line 4", ".tsv")
    path = write(tmp_path, "a.csv", 'text,label\n"Hello" he said,0\n')
    assert_error(reading(path), f"{path}, line 2", "follows the closing quote", "twice")
    path = write(tmp_path, "b.csv", "text,label\n" + "fine,1\n" * 3000 + '"open,0\n')
    assert_error(reading(path), f"{path}, line 3002", "never closed")
