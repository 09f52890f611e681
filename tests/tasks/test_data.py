"""People's files, as they are written and as they go wrong."""

import csv
import datetime
import gzip
import io
import json
import lzma
import os
import random
import subprocess
import sys
import tracemalloc
from collections import Counter
from decimal import Decimal

import pytest
from headway.core.errors import HeadwayError
from headway.tasks.data.read import fingerprint, read_table, stream_rows
from headway.tasks.data.rows import Table
from headway.tasks.data.split import split_rows
from headway.tasks.data.write import RowWriter
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

relaxed = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
# What a text file can hold: all of Unicode but NUL, with the traps of line breaking drawn often.
anything = st.text(
    st.characters(codec="utf-8", exclude_characters="\0")
    | st.sampled_from("\r\n\t\",; '\x0b\x0c\x1c\x85\u2028\ufeff|🙂"),
    max_size=20,
)


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def message(call, *parts):
    """The error of a call: one line that holds every part."""
    with pytest.raises(HeadwayError) as caught:
        call()
    text = str(caught.value)
    for part in parts:
        assert str(part) in text
    assert "\n" not in text
    return text


def reading(path, **options):
    return lambda: read_table(path, **options)


# Round trips


@relaxed
@given(rows=st.lists(st.tuples(anything, anything, anything), min_size=1, max_size=8), bom=st.booleans())
def test_a_csv_that_python_writes_is_read_back_equal(tmp_path, rows, bom):
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([("text", "label", "note"), *rows])
    path = write(tmp_path, "a.csv", buffer.getvalue().encode("utf-8-sig" if bom else "utf-8"))
    table = read_table(path)
    assert table.columns == ("text", "label", "note")
    assert [tuple(row.values()) for row in table.rows] == rows


@relaxed
@given(
    rows=st.lists(
        st.lists(anything.map(lambda s: s.translate(dict.fromkeys(map(ord, "\t\r\n")))), min_size=2, max_size=2)
    ),
    crlf=st.booleans(),
)
@example(rows=[['"', 'a"b'], ["", ""], [" x ", "\u2028"]], crlf=True)
def test_a_tsv_is_read_back_equal_quotes_and_all(tmp_path, rows, crlf):
    assume(rows)
    lines = ["\t".join(row) + ("\r\n" if crlf else "\n") for row in [["text", "label"], *rows]]
    table = read_table(write(tmp_path, "a.tsv", "".join(lines)))
    assert [list(row.values()) for row in table.rows] == rows
    assert table.places == list(range(2, len(rows) + 2))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
json_rows = st.lists(st.dictionaries(st.text(max_size=5), json_values, max_size=4), min_size=1, max_size=6)


@relaxed
@given(rows=json_rows, ascii_only=st.booleans())
def test_json_lines_are_read_back_equal_with_none_where_a_row_lacks_a_column(tmp_path, rows, ascii_only):
    lines = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)
    table = read_table(write(tmp_path, "a.jsonl", lines))
    columns = dict.fromkeys(name for row in rows for name in row)
    assert list(table.columns) == list(columns)
    assert table.rows == [columns | row for row in rows]
    assert table.places == list(range(1, len(rows) + 1))


@relaxed
@given(rows=json_rows)
def test_a_json_array_a_data_object_and_rows_in_memory_read_like_json_lines(tmp_path, rows):
    assume(not any("paragraphs" in row or "data" in row for row in rows))
    expected = read_table(write(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))).rows
    assert read_table(write(tmp_path, "a.json", json.dumps(rows))).rows == expected
    assert read_table(write(tmp_path, "b.json", json.dumps({"version": "1", "data": rows}, indent=1))).rows == expected
    assert read_table(rows).rows == expected


@relaxed
@given(rows=st.lists(st.tuples(anything, anything), min_size=1, max_size=6))
def test_what_the_writer_writes_is_read_back_equal(tmp_path, rows):
    for ending in (".csv", ".jsonl"):
        path = tmp_path / f"out{ending}"
        with RowWriter(path, ("text", "note"), overwrite=True) as writer:
            for text, note in rows:
                writer.write({"text": text, "note": note}, {"label": "x"})
        assert [tuple(row.values()) for row in read_table(path).rows] == [(*row, "x") for row in rows]


# Tables


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_of_a_csv_is_told_from_its_rows(tmp_path, delimiter):
    rows = [("text", "label", "n"), ("well, well; so it is", "a", "1"), ("plain", "b", "2"), ("x", "", "3")]
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter).writerows(rows)
    table = read_table(write(tmp_path, "a.csv", buffer.getvalue()))
    assert table.columns == rows[0]
    assert [tuple(row.values()) for row in table.rows] == rows[1:]


def test_commas_in_texts_do_not_pass_for_the_delimiter(tmp_path):
    table = read_table(write(tmp_path, "a.csv", "Hello, world;1\nBye, all;0\n"))
    assert [tuple(row.values()) for row in table.rows] == [("Hello, world", "1"), ("Bye, all", "0")]


def test_a_csv_of_one_column_keeps_its_rows(tmp_path):
    table = read_table(write(tmp_path, "a.csv", 'text\ngood\n"well, yes"\nI came; I saw\n'))
    assert [row["text"] for row in table.rows] == ["good", "well, yes", "I came; I saw"]


def test_a_record_over_several_lines_is_named_by_its_first(tmp_path):
    table = read_table(write(tmp_path, "a.csv", 'text,label\r\n"one\r\ntwo ""2""\n\nthree",a\r\n\r\nfour,b\r\n'))
    assert [row["text"] for row in table.rows] == ['one\r\ntwo "2"\n\nthree', "four"]
    assert table.places == [2, 7]
    assert table.where(1) == f"{tmp_path / 'a.csv'}, line 7"


def test_blank_lines_of_a_table_are_no_rows(tmp_path):
    for name, sign in (("a.csv", ","), ("a.tsv", "\t")):
        table = read_table(write(tmp_path, name, f"\ntext{sign}label\n\na{sign}1\n   \nb{sign}0\n\n"))
        assert [row["text"] for row in table.rows] == ["a", "b"]
        assert table.places == [4, 6]


def test_lines_that_end_as_on_old_macs_are_lines(tmp_path):
    table = read_table(write(tmp_path, "a.csv", "text,label\rone,1\rtwo,0\r"))
    assert [row["text"] for row in table.rows] == ["one", "two"]
    assert table.places == [2, 3]


def test_quotes_are_letters_in_a_tsv(tmp_path):
    table = read_table(write(tmp_path, "a.tsv", 'text\tlabel\n"half a quote\t1\nsaid "yes"\t0\n"all"\t1\n'))
    assert [row["text"] for row in table.rows] == ['"half a quote', 'said "yes"', '"all"']


def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path):
    for name, content in (("a.csv", "text,label\na,b\n"), ("a.tsv", "text\tlabel\na\tb\n"), ("a.txt", "text\na\n")):
        assert read_table(write(tmp_path, name, b"\xef\xbb\xbf" + content.encode())).columns[0] == "text"
    assert read_table(write(tmp_path, "a.jsonl", b'\xef\xbb\xbf{"text": "a"}')).rows == [{"text": "a"}]


def test_a_field_longer_than_the_csv_modules_limit_is_read(tmp_path):
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
    message(reading(path), f"{path}, line 6002", "3 fields")
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
def test_a_header_is_told_from_data(tmp_path, rows, header):
    table = read_table(write(tmp_path, "a.csv", "\n".join(rows)))
    assert table.header is header
    assert len(table) == len(rows) - header
    if not header:
        assert table.columns == tuple(str(number) for number in range(rows[0].count(",") + 1))


def test_a_person_can_say_whether_there_is_a_header(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\ngood,1\n")
    assert read_table(path, header=False).rows[0] == {"0": "text", "1": "label"}
    path = write(tmp_path, "b.csv", "good,pos\nbad,neg\n")
    assert read_table(path, header=True).rows == [{"good": "bad", "pos": "neg"}]


def test_an_unnamed_column_is_called_by_its_number(tmp_path):
    assert read_table(write(tmp_path, "a.csv", " text ,label,\na,b,c\n")).columns == ("text", "label", "2")


# One text a line, with or without labels


def test_plain_lines_are_texts_and_blank_ones_are_skipped(tmp_path):
    table = read_table(write(tmp_path, "a.txt", "one, two\n\n  three \r\n   \nfour\n"))
    assert (table.kind, table.columns) == ("lines", ("text",))
    assert [row["text"] for row in table.rows] == ["one, two", "  three ", "four"]
    assert table.places == [1, 3, 5]


def test_a_text_file_that_is_a_table_by_tabs_is_a_tsv(tmp_path):
    table = read_table(write(tmp_path, "a.txt", "good film\t1\nbad film\t0\n"))
    assert (table.kind, table.columns) == ("TSV", ("0", "1"))


def test_coarse_and_fine_labels_before_a_text_are_split_off(tmp_path):
    table = read_table(write(tmp_path, "a.txt", "DESC:manner How did it start ?\n\nNUM:date When : now ?\n"))
    assert table.kind == "label-prefixed lines"
    assert table.rows[0] == {"label": "DESC", "fine": "DESC:manner", "text": "How did it start ?"}
    assert table.rows[1] == {"label": "NUM", "fine": "NUM:date", "text": "When : now ?"}
    assert table.places == [1, 3]


def test_fasttext_labels_are_split_off_and_several_joined(tmp_path):
    table = read_table(write(tmp_path, "a.txt", "__label__a good\n__label__b __label__a __x__ y\n"))
    assert table.rows == [{"label": "a", "text": "good"}, {"label": "b;a", "text": "__x__ y"}]


def test_a_line_without_its_label_is_refused(tmp_path):
    lines = ["HUM:ind Who is it ?"] * 20 + ["no label here"]
    path = write(tmp_path, "a.txt", "\n".join(lines))
    message(reading(path), f"{path}, line 21", "LABEL:fine", "no label here", "Put its label")


# CoNLL


def test_conll_sentences_are_rows_of_words_and_tags(tmp_path):
    content = "-DOCSTART- -X- O\n\nAda NNP B-PER\nsleeps VBZ O\n   \n\t\nParis NNP B-LOC\n"
    table = read_table(write(tmp_path, "a.conll", content))
    assert table.columns == ("tokens", "column_1", "ner_tags")
    assert table.rows == [
        {"tokens": ["Ada", "sleeps"], "column_1": ["NNP", "VBZ"], "ner_tags": ["B-PER", "O"]},
        {"tokens": ["Paris"], "column_1": ["NNP"], "ner_tags": ["B-LOC"]},
    ]
    assert table.places == [3, 7]


@pytest.mark.parametrize("name", ["a.txt", "a.tsv", "a.bio", "a"])
def test_conll_is_known_by_its_tags_whatever_its_name(tmp_path, name):
    table = read_table(write(tmp_path, name, 'New York\tB-LOC\n"\tO\n\nHi\tO\n'))
    assert table.kind == "CoNLL"
    assert [row["tokens"] for row in table.rows] == [["New York", '"'], ["Hi"]]


def test_part_of_speech_files_are_conll_by_their_blank_lines(tmp_path):
    table = read_table(write(tmp_path, "a.txt", "The DET\ncat NOUN\nsleeps VERB\n\nIt PRON\nruns VERB\n"))
    assert [row["ner_tags"] for row in table.rows] == [["DET", "NOUN", "VERB"], ["PRON", "VERB"]]


def test_double_spaced_lines_of_two_words_are_not_conll(tmp_path):
    assert read_table(write(tmp_path, "a.txt", "\n\n".join(["good film", "bad film"] * 4))).kind == "lines"


def test_words_alone_are_tokens_without_tags(tmp_path):
    table = read_table(write(tmp_path, "a.conll", "Ada\nsleeps\n\nHi\n"))
    assert table.rows == [{"tokens": ["Ada", "sleeps"]}, {"tokens": ["Hi"]}]


def test_a_conll_header_is_skipped(tmp_path):
    table = read_table(write(tmp_path, "a.conll", "token\ttag\nAda\tB-PER\n"))
    assert table.rows == [{"tokens": ["Ada"], "ner_tags": ["B-PER"]}]


def test_comments_among_conll_lines_are_no_words(tmp_path):
    for domain in (" domain=en", "\tdomain=en"):  # MultiCoNER
        content = f"# id 4d9b{domain}\nAda _ _ B-PER\nsat _ _ O\n\n\n# id 7c1f{domain}\n# _ _ O\nParis _ _ B-LOC\n"
        for name in ("a.conll", "a.txt"):
            table = read_table(write(tmp_path, name, content))
            assert table.kind == "CoNLL"
            assert [row["tokens"] for row in table.rows] == [["Ada", "sat"], ["#", "Paris"]]
            assert table.rows[1]["ner_tags"] == ["O", "B-LOC"]
            assert table.places == [2, 7]
    content = "# sent_id = 1\n# text = vitamin O\nvitamin\tO\nO\tB-X\n\n# sent_id = 2\n#\tO\n# 1\tB-X\n"
    table = read_table(write(tmp_path, "a.conll", content))
    assert [row["tokens"] for row in table.rows] == [["vitamin", "O"], ["#", "# 1"]]
    table = read_table(write(tmp_path, "a.conll", "# list 1\nAda\n#\n\n# list 2\nHi\n"))
    assert table.rows == [{"tokens": ["Ada", "#"]}, {"tokens": ["Hi"]}]


def test_the_word_that_is_a_number_sign_stays_with_its_tags(tmp_path):
    content = "He PRP I-NP O\npaid VBD I-VP O\n# # I-NP O\n5 CD I-NP O\n\n# NNP B-NP I-ORG\n"
    table = read_table(write(tmp_path, "a.conll", content))
    assert [row["tokens"] for row in table.rows] == [["He", "paid", "#", "5"], ["#"]]
    pos = read_table(write(tmp_path, "b.conll", "a DT\n# NN\ncat NN\n\n# #\n"))
    assert [row["ner_tags"] for row in pos.rows] == [["DT", "NN", "NN"], ["#"]]
    rare = "".join(f"word{i} NN\n" for i in range(1200)) + "# SYM\n"  # a tag that comes after the sample
    assert read_table(write(tmp_path, "d.conll", rare)).rows[0]["tokens"][-2:] == ["word1199", "#"]
    path = write(tmp_path, "c.conll", "He PRP I-NP O\n# I-NP O\n")
    message(reading(path), f"{path}, line 2", "3 columns where 4", "# I-NP O")


def test_the_columns_of_conll_u_have_their_names(tmp_path):
    rest = "_\t_\t0\troot\t_\t"
    words = ["1-2\tzum" + "\t_" * 8, f"1\tzu\tzu\tADP\t{rest}_", f"2\tdem\tder\tDET\t{rest}_"]
    words += [f"2.1\tes\tes\tPRON\t{rest}_", f"3\tHaus\tHaus\tNOUN\t{rest}SpaceAfter=No"]
    content = "# sent_id = 1\n# text = zum Haus\n" + "\n".join(words) + "\n\n"
    for name in ("a.conllu", "a.conll"):
        table = read_table(write(tmp_path, name, 3 * content))
        assert (table.kind, len(table)) == ("CoNLL", 3)
        assert table.rows[2]["tokens"] == ["zu", "dem", "Haus"]
        assert table.rows[2]["upos"] == ["ADP", "DET", "NOUN"]
        assert "ner_tags" not in table.columns


def test_spaces_of_other_kinds_stay_in_conll_words(tmp_path):
    table = read_table(write(tmp_path, "a.conll", "10\u00a0000 B-NUM\n\u3000 O\nnew\u2009york  B-LOC\r\n"))
    assert table.rows == [{"tokens": ["10\u00a0000", "\u3000", "new\u2009york"], "ner_tags": ["B-NUM", "O", "B-LOC"]}]


def test_a_tsv_with_a_header_is_a_table_whatever_blank_lines_are_in_it(tmp_path):
    rows = [("这部电影很好", "1"), ("太糟糕了", "0"), ("不错", "1"), ("无聊", "0"), ("好看", "1"), ("难看", "0")]
    lines = [f"{text}\t{label}" for text, label in rows]
    content = "\n".join(["text\tlabel", *lines[:3], "", *lines[3:]])
    table = read_table(write(tmp_path, "a.tsv", content))
    assert table.kind == "TSV"
    assert [tuple(row.values()) for row in table.rows] == rows
    tagged = read_table(write(tmp_path, "b.tsv", content.replace("text\tlabel", "token\tlabel")))
    assert (tagged.kind, len(tagged)) == ("CoNLL", 2)


def test_a_conll_line_with_a_missing_tag_is_refused(tmp_path):
    path = write(tmp_path, "a.conll", "Ada B-PER\nsleeps\n")
    message(reading(path), f"{path}, line 2", "1 columns where 2", "sleeps", "blank line")


# JSON


def test_numbers_stay_numbers_and_nan_becomes_none(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"a": 1, "b": 0.5, "c": NaN, "d": [NaN, true], "e": null}\n')
    assert read_table(path).rows == [{"a": 1, "b": 0.5, "c": None, "d": [None, True], "e": None}]
    path = write(tmp_path, "a.csv", "text,score\nnan,\n")
    assert read_table(path).rows == [{"text": "nan", "score": ""}]


def test_json_by_column_is_a_table(tmp_path):
    columns = {"question": ["a", "b"], "answers": [{"text": []}, {"text": ["x"]}]}
    table = read_table(write(tmp_path, "a.json", json.dumps(columns)))
    assert table.rows == [{"question": "a", "answers": {"text": []}}, {"question": "b", "answers": {"text": ["x"]}}]
    assert read_table(columns).rows == table.rows


def test_a_json_file_may_hold_lines_and_a_text_file_json(tmp_path):
    lines = '{"text": "a"}\n\n{"text": "b"}\n'
    for name in ("a.json", "a.txt", "a"):
        table = read_table(write(tmp_path, name, lines))
        assert (table.kind, table.places) == ("JSON lines", [1, 3])
    assert read_table(write(tmp_path, "b.json", '{"text": "a"}')).rows == [{"text": "a"}]


def test_a_column_that_appears_late_is_none_before(tmp_path):
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


def test_squad_articles_are_flattened_to_questions(tmp_path):
    table = read_table(write(tmp_path, "a.json", json.dumps(SQUAD)))
    assert table.kind == "SQuAD JSON"
    assert table.columns == ("id", "title", "context", "question", "answers")
    assert [row["answers"] for row in table.rows] == [
        {"text": ["Elbe"], "answer_start": [4]},
        {"text": [], "answer_start": []},
        None,
    ]
    assert table.where(2).endswith("record 3")


def test_a_squad_question_without_its_text_is_refused(tmp_path):
    broken = json.loads(json.dumps(SQUAD))
    del broken["data"][0]["paragraphs"][0]["qas"][1]["question"]
    path = write(tmp_path, "a.json", json.dumps(broken))
    message(reading(path), path, "article 1", "Rivers", "'question' is missing", "Each paragraph")


def region(start, end, label, text):
    return {"type": "labels", "value": {"start": start, "end": end, "labels": [label], "text": text}}


def test_a_label_studio_export_gives_texts_and_spans(tmp_path):
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
def test_label_studio_choices_are_labels(tmp_path, choices, column, expected):
    tasks = [
        {"data": {"text": "t"}, "annotations": [{"result": [{"value": {"choices": one}}]}] if one else []}
        for one in choices
    ]
    table = read_table(write(tmp_path, "a.json", json.dumps(tasks)))
    assert table.columns == ("text", column)
    assert [row[column] for row in table.rows] == expected


def test_doccano_and_prodigy_lines_pass_through(tmp_path):
    rows = [
        {
            "text": "Ada",
            "label": [[0, 3, "PER"]],
            "spans": [{"start": 0, "end": 3, "label": "PER"}],
            "answer": "accept",
        }
    ]
    assert read_table(write(tmp_path, "a.jsonl", json.dumps(rows[0]))).rows == rows


# Compressed files


@pytest.mark.parametrize(("ending", "module"), [(".gz", gzip), (".xz", lzma)])
def test_compressed_files_read_like_plain_ones(tmp_path, ending, module):
    for name, content in {
        "a.csv": "text,label\na,b\n",
        "a.tsv": "text\tlabel\na\tb\n",
        "a.jsonl": '{"text": "a"}\n',
        "a.json": '[{"text": "a"}]',
        "a.txt": "one line\n",
        "a.conll": "Ada O\n",
    }.items():
        plain = read_table(write(tmp_path, name, content))
        packed = read_table(write(tmp_path, name + ending, module.compress(content.encode())))
        assert (packed.kind, packed.columns, packed.rows) == (plain.kind, plain.columns, plain.rows)


def test_a_broken_archive_is_refused(tmp_path):
    whole = gzip.compress(b"text,label\n" + random.Random(0).randbytes(2000).hex().encode() + b",b\n")
    path = write(tmp_path, "a.csv.gz", whole[:200])
    message(reading(path), path, "broken or cut short", "again")
    path = write(tmp_path, "a.csv.xz", lzma.compress(b"text,label\na,b\n")[:-20])
    message(reading(path), path, "broken or cut short")


# Objects in memory


def test_rows_given_are_copied_and_left_as_they_are():
    import numpy as np

    rows = [{"text": "a", "n": np.int64(3), "x": float("nan"), "v": np.array([1.5, float("nan")]), 5: ("p", "q")}]
    table = read_table(rows)
    assert table.rows == [{"text": "a", "n": 3, "x": None, "v": [1.5, None], "5": ["p", "q"]}]
    assert type(table.rows[0]["n"]) is int
    assert (table.source, table.kind, table.where(0)) == ("the rows given", "rows", "the rows given, row 1")
    assert rows[0][5] == ("p", "q")


def test_a_data_frame_is_a_table():
    import pandas as pd

    frame = pd.DataFrame(
        {
            "text": ["a", None, "c"],
            "n": pd.array([1, None, 3], dtype="Int64"),
            "when": [pd.Timestamp("2024-01-02"), pd.NaT, pd.NaT],
            "x": [0.5, float("nan"), 2],
        }
    )
    assert read_table(frame).rows == [
        {"text": "a", "n": 1, "when": "2024-01-02T00:00:00", "x": 0.5},
        {"text": None, "n": None, "when": None, "x": None},
        {"text": "c", "n": 3, "when": None, "x": 2.0},
    ]
    message(lambda: read_table(pd.DataFrame([[1, 2]], columns=["a", "a"])), '"a" twice')
    message(lambda: read_table(pd.DataFrame({"a": []})), "no rows")


def test_dates_and_decimals_become_plain():
    row = {"day": datetime.date(2024, 1, 2), "price": Decimal("1.5"), "bad": Decimal("NaN")}
    assert read_table([row]).rows == [{"day": "2024-01-02", "price": 1.5, "bad": None}]


def test_a_table_is_its_own_source_and_can_be_limited():
    table = read_table([{"text": str(number)} for number in range(5)])
    assert read_table(table) is table
    assert read_table(table, limit=2).rows == table.rows[:2]
    assert list(stream_rows(table)) == list(table)
    assert read_table(stream_rows(table)) == table


def test_what_is_no_table_is_refused():
    message(lambda: read_table([{"text": "a"}, "b"]), "the rows given, row 2", "str", "dict")
    message(lambda: read_table({"a": ["x"], "b": []}), "a: 1, b: 0", "Fill")
    message(lambda: read_table([]), "Give at least one")
    message(lambda: read_table(7), "int is no table", "Give a file name")


# The datasets library


@pytest.fixture
def labelled_set():
    import datasets

    names = datasets.ClassLabel(names=["neg", "pos"])
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": names,
            "tags": datasets.List(datasets.ClassLabel(names=["O", "B-X"])),
            "deep": {"one": names},
        }
    )
    rows = {"text": ["a", "b"], "label": [1, -1], "tags": [[0, 1], []], "deep": [{"one": 0}, {"one": 1}]}
    return datasets.Dataset.from_dict(rows, features=features)


NAMED = [
    {"text": "a", "label": "pos", "tags": ["O", "B-X"], "deep": {"one": "neg"}},
    {"text": "b", "label": None, "tags": [], "deep": {"one": "pos"}},
]


def test_class_ids_of_a_data_set_become_names(labelled_set):
    table = read_table(labelled_set)
    assert table.rows == NAMED
    assert read_table(labelled_set.to_iterable_dataset()).rows == NAMED


def test_a_data_set_saved_to_disk_is_read(tmp_path, labelled_set):
    import datasets

    labelled_set.save_to_disk(str(tmp_path / "one"))
    assert read_table(tmp_path / "one").rows == NAMED
    datasets.DatasetDict({"train": labelled_set, "test": labelled_set}).save_to_disk(str(tmp_path / "two"))
    table = read_table(tmp_path / "two")
    assert table.rows == NAMED
    assert table.source == str(tmp_path / "two" / "train")
    datasets.DatasetDict({"a": labelled_set, "b": labelled_set}).save_to_disk(str(tmp_path / "three"))
    message(reading(tmp_path / "three"), "several splits", tmp_path / "three" / "b")
    message(lambda: read_table(datasets.DatasetDict({"a": labelled_set})), "one split")


def test_parquet_is_read_with_the_class_names_that_datasets_wrote(tmp_path, labelled_set):
    path = tmp_path / "a.parquet"
    labelled_set.to_parquet(str(path))
    table = read_table(path)
    assert (table.kind, table.rows) == ("Parquet", NAMED)
    assert table.where(1) == f"{path}, record 2"


def test_plain_and_broken_parquet(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [str(n) for n in range(2500)], "x": [float("nan")] * 2500}), str(path))
    table = read_table(path)
    assert len(table) == 2500
    assert table.rows[2499] == {"text": "2499", "x": None}
    whole = path.read_bytes()
    message(reading(write(tmp_path, "b.parquet", whole[:500])), "b.parquet", "not a whole Parquet file", "again")
    message(reading(write(tmp_path, "b.txt", whole)), "b.txt", "a Parquet file", ".parquet")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), str(path))
    message(reading(path), path, "empty")


def test_hub_names_are_taken_apart(tmp_path, monkeypatch):
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "reviews"
    folder.mkdir()
    for split in ("train", "test"):
        write(folder, f"{split}.jsonl", "".join(f'{{"text": "{split} {n}", "label": "{n}"}}\n' for n in range(5)))
    table = read_table(f"hub:{folder}")
    assert (table.source, table.rows[0]["text"]) == (f"hub:{folder}:train", "train 0")
    assert read_table(f"hub:{folder}:test").rows[4] == {"text": "test 4", "label": "4"}
    assert len(read_table(f"hub:{folder}:default:test[:2]")) == 2
    assert len(read_table(f"hub:{folder}:default")) == 5
    message(reading(f"hub:{folder}:nosplit"), "hub:", "nosplit", "hub:NAME:CONFIG:SPLIT")
    message(reading("hub:"), "Write hub:NAME")
    message(reading("hub:a:b:c:d"), "Write hub:NAME")


# What is wrong with a file


def test_a_missing_file_is_met_with_the_nearest_name(tmp_path):
    write(tmp_path, "train.tsv", "a\tb\n")
    message(reading(tmp_path / "train.csv"), tmp_path / "train.csv", "no such file", tmp_path / "train.tsv")
    message(reading(tmp_path / "nowhere" / "a.csv"), "no folder", tmp_path / "nowhere")
    message(reading(str(tmp_path / "imdb")), "no such file", "hub:")


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    message(reading(tmp_path / "pipe"), tmp_path / "pipe", "not a regular file", "Save the data")


def test_a_data_set_that_the_hub_does_not_give_is_refused(tmp_path, monkeypatch):
    from datasets import config

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", True)
    message(reading("hub:someone/nothing:train"), "hub:someone/nothing:train", "cannot be loaded", "Check the name")
    message(reading("hub:nothing"), "hub:nothing", "cannot be loaded")


def test_a_folder_without_a_data_set_is_refused_with_what_it_holds(tmp_path):
    write(tmp_path, "train.csv", "text,label\na,b\n")
    message(reading(tmp_path), tmp_path, "folder", "train.csv")
    (tmp_path / "none").mkdir()
    message(reading(tmp_path / "none"), "It is empty", "Give a file")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "a.json", "a.jsonl", "a.conll"])
@pytest.mark.parametrize("content", [b"", b"\n \n\t\n", b"\xef\xbb\xbf", b"\n" * 20000])
def test_an_empty_file_is_refused(tmp_path, name, content):
    path = write(tmp_path, name, content)
    message(reading(path), path, "empty", "Give a file")


def test_a_file_with_only_a_header_is_refused(tmp_path):
    for name, content in (("a.csv", "text,label\n"), ("a.tsv", "text\tlabel\n\n")):
        path = write(tmp_path, name, content)
        message(reading(path), path, "line 1", "only a header (text, label)", "Add rows")
        message(lambda path=path: stream_rows(path), "only a header")
    path = write(tmp_path, "b.csv", "x,y\n")
    message(reading(path, header=True), "only a header")
    for content in ("[]", '{"data": []}', '{"a": []}'):
        message(reading(write(tmp_path, "a.json", content)), "a.json", "empty")


@pytest.mark.parametrize(
    ("head", "what", "mend"),
    [
        (b"PK\x03\x04\x14\x00", "spreadsheet or zip", "Save the sheet as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "Excel", "Save it as CSV"),
        (b"\x89PNG\r\n\x1a\n", "PNG image", "Give a file"),
        (b"%PDF-1.7\n", "PDF", "CSV"),
        (b"\xff\xfet\x00e\x00", "UTF-16", "iconv -f UTF-16"),
        (b"text,label\na,\x00\n", "line 2: a NUL byte", "UTF-8"),
    ],
)
def test_a_binary_file_is_refused_by_what_it_is(tmp_path, head, what, mend):
    for name in ("a.csv", "a.txt", "a.json"):
        path = write(tmp_path, name, head)
        message(reading(path), path, what, mend)


def test_a_nul_byte_far_down_is_refused(tmp_path):
    path = write(tmp_path, "a.txt", b"a line of text\n" * 5000 + b"x\0y\n")
    message(reading(path), f"{path}, line 5001", "NUL")


def test_a_file_in_another_encoding_is_refused_with_the_way_to_convert_it(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\nfine,1\ncafé,0\n".encode("latin-1"))
    message(reading(path), f"{path}, line 3", "not UTF-8", "0xE9 at byte 4", "iconv -f WINDOWS-1252 -t UTF-8 a.csv")


def test_a_broken_json_line_is_named_with_its_column(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": "a"}\n{"text": "b",}\n')
    expected = 0
    try:
        json.loads('{"text": "b",}')
    except json.JSONDecodeError as error:
        expected = error.colno
    message(reading(path), f"{path}, line 2, column {expected}", "broken JSON", '{"text": "b",}', "take it out")
    path = write(tmp_path, "b.jsonl", '{"text": "a"}\n' * 2000 + '{"text"\n')
    stream = stream_rows(path)
    message(lambda: list(stream), f"{path}, line 2001, column")
    message(reading(write(tmp_path, "c.jsonl", "[" * 100_000)), "c.jsonl, line 1", "broken JSON")
    message(reading(write(tmp_path, "d.jsonl", '{"n": ' + "1" * 5000 + "}")), "d.jsonl, line 1", "broken JSON")


def test_a_json_line_that_is_no_object_is_refused(tmp_path):
    for line, what in (('["a", 1]', "a list"), ('"a"', "a text"), ("3", "a number"), ("null", "null")):
        path = write(tmp_path, "a.jsonl", '{"text": "a"}\n' + line)
        message(reading(path), f"{path}, line 2", what, 'Write {"text"')
    path = write(tmp_path, "a.json", '[{"text": "a"}, "b"]')
    message(reading(path), f"{path}, record 2", "a text", 'Write {"text"')


def test_a_broken_json_document_is_named_with_line_and_column(tmp_path):
    path = write(tmp_path, "a.json", '[\n {"text": "a"},\n {"text" "b"}\n]')
    message(reading(path), f"{path}, line 3, column 10", "broken JSON", "Mend it")
    for content in ("3", '{"a": {"b": 1}}', '{"train": [{"a": 1}], "test": [{"a": 2}]}', "{}"):
        path = write(tmp_path, "b.json", content)
        message(reading(path), path, "no table", "Write an array of objects")
    message(reading(write(tmp_path, "c.json", '{"a": [1, 2], "b": [1]}')), "c.json", "a: 2, b: 1", "Fill")


def test_half_a_surrogate_pair_is_refused(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": "\\ud83d\\ude42"}\n{"text": "cut \\ud83d"}\n')
    message(reading(path), f"{path}, line 2", '"text"', "surrogate", "Take it out")


def test_a_row_with_too_many_fields_is_refused_with_the_likely_cause(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\ngood,1\nwell, well,0\n")
    message(
        reading(path), f"{path}, line 3", "3 fields where 2", "(text, label)", "well, well,0", "comma inside a text"
    )
    path = write(tmp_path, "a.tsv", "text\tlabel\ngood\t1\nso\tso\t0\n")
    message(reading(path), f"{path}, line 3", "3 fields where 2", "stray TAB")
    path = write(tmp_path, "b.tsv", "so\tso\t0\n" + "good film\t1\n" * 5)
    message(reading(path), f"{path}, line 1", "3 fields where 2")


def test_a_row_with_too_few_fields_is_refused_with_the_likely_cause(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\ngood\nfilm,1\n")
    message(reading(path), f"{path}, line 2", "1 field where 2", "line break inside a text")
    path = write(tmp_path, "a.tsv", "text\tlabel\ngood\nfilm\t1\n")
    message(reading(path), f"{path}, line 2", "1 field where 2", "line break", "missing TAB")


def test_a_name_that_is_twice_in_the_header_is_refused(tmp_path):
    path = write(tmp_path, "a.csv", "text,label,text\na,b,c\n")
    message(reading(path), f"{path}, line 1", '"text" twice (columns 0 and 2', "Rename")


def test_a_quote_that_is_never_closed_is_refused_where_it_opens(tmp_path):
    path = write(tmp_path, "a.csv", 'text,label\nfine,1\n"open,0\nmore,1\nmore,0\n')
    message(reading(path), f"{path}, line 3", "never closed", "line 5", "Close it")
    path = write(tmp_path, "a.csv", 'text,label\n"open,0\nmore,1\n"fine",0\n')
    message(reading(path), f"{path}, line 2", "not closed before line 4", ".tsv")
    path = write(tmp_path, "a.csv", 'text,label\n"Hello" he said,0\n')
    message(reading(path), f"{path}, line 2", "follows the closing quote", "twice")
    path = write(tmp_path, "b.csv", "text,label\n" + "fine,1\n" * 3000 + '"open,0\n')
    message(reading(path), f"{path}, line 3002", "never closed")


pieces = st.sampled_from(
    [
        *(
            b"text,label",
            b"a,b",
            b"a\tb",
            b"\t",
            b"\n",
            b"\n\n",
            b"\r",
            b" ",
            b'"',
            b",",
            b";",
            b"O",
            b"B-X",
            b"1",
            b"0.5",
        ),
        *(
            b"{",
            b"}",
            b"[",
            b"]",
            b'{"text": "a"}',
            b'"data"',
            b'"paragraphs"',
            b'"qas"',
            b"[{",
            b":",
            b"NaN",
            b"\\ud83d",
        ),
        *(
            b"__label__a ",
            b"NUM:date ",
            b"-DOCSTART-",
            b"\xef\xbb\xbf",
            b"\xff",
            b"\x00",
            b"\x1f\x8b",
            b"PAR1",
            b"\xc3\xa9",
        ),
    ]
)
endings = st.sampled_from([".csv", ".tsv", ".txt", ".json", ".jsonl", ".conll", ".parquet", ".csv.gz", ".csv.xz", ""])


@settings(relaxed, max_examples=400)
@given(content=st.lists(pieces | st.binary(max_size=3), max_size=25).map(b"".join), ending=endings)
def test_whatever_a_file_holds_it_is_read_or_refused_in_one_line(tmp_path, content, ending):
    path = write(tmp_path, f"a{ending}", content)
    refused, table = None, None
    try:
        table = read_table(path)
    except HeadwayError as error:
        refused = str(error)
    if table is None:
        assert refused is not None
        assert str(path) in refused
        assert "\n" not in refused
    else:
        assert table.rows
        assert all(tuple(row) == table.columns for row in table.rows)
        assert list(stream_rows(path)) == list(table)


# Streaming


def test_a_stream_takes_constant_memory_and_can_be_read_again(tmp_path):
    path = tmp_path / "big.jsonl"
    with path.open("w") as file:
        for number in range(40_000):
            file.write(json.dumps({"text": f"{number} " * 40, "label": number % 2}) + "\n")
    stream = stream_rows(path)
    tracemalloc.start()
    count = sum(1 for _ in stream)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 40_000
    assert peak < path.stat().st_size / 10
    place, row = next(iter(stream))
    assert (stream.where(place), row["label"]) == (f"{path}, line 1", 0)


def test_reading_a_text_file_needs_no_library_for_tables(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\na,b\n")
    code = (
        "import sys; from headway.tasks.data.read import read_table; import headway.tasks.data.columns\n"
        f"assert len(read_table({str(path)!r})) == 1\n"
        "print([name for name in ('pandas', 'datasets', 'pyarrow') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


# Writing


def test_the_inputs_columns_come_back_beside_the_prediction(tmp_path):
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


def test_tables_hold_text_as_it_is_and_json_for_the_rest(tmp_path):
    for name in ("out.csv", "out.tsv"):
        path = tmp_path / name
        with RowWriter(path, ("text",)) as writer:
            writer.write({"text": 'say "hi", you'}, {"label": None, "scores": {"é": 0.5}, "ok": True})
        assert read_table(path, header=True).rows == [
            {"text": 'say "hi", you', "label": "", "scores": '{"é": 0.5}', "ok": "true"}
        ]


def test_a_file_is_there_only_when_it_is_whole(tmp_path):
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
    message(lambda: RowWriter(path).__enter__(), path, "already exists", "--overwrite")
    with RowWriter(path, overwrite=True) as writer:
        writer.write({"text": "b"})
    assert read_table(path).rows == [{"text": "b"}]


def test_what_a_table_cannot_hold_is_refused(tmp_path):
    def lines():
        with RowWriter(tmp_path / "out.tsv") as writer:
            writer.write({"text": "a\nb"})

    def columns():
        with RowWriter(tmp_path / "out.csv") as writer:
            writer.write({"text": "a"}, {"label": "x"})
            writer.write({"text": "a", "late": 1}, {"label": "x"})

    message(lines, "out.tsv", "row 1", "line break", ".jsonl")
    message(columns, "out.csv", "row 2", '"late"', ".jsonl")
    message(lambda: RowWriter(tmp_path / "out.xlsx"), "out.xlsx", ".jsonl, .csv or .tsv")
    assert list(tmp_path.iterdir()) == []


# Fingerprints and splits


def test_a_fingerprint_depends_on_the_content_alone(tmp_path):
    table = read_table(write(tmp_path, "a.csv", "text,label\né,1\nb,0\n"))
    same = [
        read_table(write(tmp_path, "b.tsv", "text\tlabel\r\né\t1\r\nb\t0\r\n")),
        read_table([{"text": "é", "label": "1"}, {"text": "b", "label": "0"}]),
        Table("elsewhere", "rows", table.columns, True, table.rows, [8, 9]),
    ]
    prints = {fingerprint(one) for one in (table, *same)}
    assert len(prints) == 1
    assert len(prints.pop()) == 16
    others = [
        read_table([{"text": "é", "label": "0"}, {"text": "b", "label": "1"}]),
        read_table([{"text": "b", "label": "0"}, {"text": "é", "label": "1"}]),
        read_table([{"text": "é", "label": 1}, {"text": "b", "label": 0}]),
        read_table([{"label": "1", "text": "é"}, {"label": "0", "text": "b"}]),
    ]
    assert len({fingerprint(one) for one in (table, *others)}) == 5


labels_given = st.lists(
    st.none() | st.integers(0, 4) | st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=60
)


@relaxed
@given(labels=labels_given, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 5))
def test_a_split_uses_every_row_once_and_leaves_every_class_in_train(labels, fraction, seed):
    train, held_out = split_rows(labels, fraction, seed)
    assert sorted(train + held_out) == list(range(len(labels)))
    assert train == sorted(train)
    assert held_out == sorted(held_out)
    assert train
    assert len(held_out) <= max(1, round(len(labels) * fraction))
    kept = {labels[row] for row in train}
    assert all(label in kept for label, times in Counter(labels).items() if times > 1 and label is not None)
    assert split_rows(labels, fraction, seed) == (train, held_out)


def test_a_split_keeps_the_shares_of_the_labels():
    labels = ["a"] * 700 + ["b"] * 200 + ["c"] * 100
    random.Random(1).shuffle(labels)
    train, held_out = split_rows(labels, 0.1, 3)
    assert Counter(labels[row] for row in held_out) == {"a": 70, "b": 20, "c": 10}
    assert len(train) == 900
    assert split_rows(labels, 0.1, 4)[1] != held_out


def test_a_label_seen_once_stays_in_train_unless_labels_are_measured_numbers():
    _, held_out = split_rows(["a"] * 9 + ["b"] * 10 + ["rare"], 0.5, 0)
    assert 19 not in held_out
    train, held_out = split_rows([number / 7 for number in range(100)], 0.2, 0)
    assert (len(train), len(held_out)) == (80, 20)
    assert max(held_out) > 60


@relaxed
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 12)), min_size=2, max_size=60),
    st.floats(0.01, 0.9),
    st.integers(0, 9),
)
def test_rows_of_a_group_stay_on_one_side_of_a_split(rows, fraction, seed):
    labels, groups = [label for label, _ in rows], [group or None for _, group in rows]
    train, held_out = split_rows(labels, fraction, seed, groups)
    assert sorted(train + held_out) == list(range(len(rows)))
    assert not {groups[row] for row in train} & {groups[row] for row in held_out} - {None}
    assert {labels[row] for row in train} >= {label for label in ("a", "b") if labels.count(label) > 1}
    assert split_rows(labels, fraction, seed, groups) == (train, held_out)


def test_a_split_of_groups_keeps_the_shares_of_the_labels():
    chance = random.Random(0)
    groups = [f"text {chance.randrange(400)}" for _ in range(4000)]
    labels = [chance.choice("aaab") for _ in groups]
    _, held_out = split_rows(labels, 0.1, 3, groups)
    counts, all_of = Counter(labels[row] for row in held_out), Counter(labels)
    assert {label: counts[label] / all_of[label] for label in "ab"} == pytest.approx({"a": 0.1, "b": 0.1}, abs=0.01)
    assert split_rows(labels, 0.1, 4, groups)[1] != held_out


def test_the_smallest_group_is_held_out_where_all_are_too_large_and_none_where_there_is_one():
    labels, groups = ["a", "b"] * 12, ["long"] * 14 + ["short"] * 10
    assert split_rows(labels, 0.05, 0, groups)[1] == list(range(14, 24))
    assert split_rows(labels, 0.05, 0, ["one"] * 24) == (list(range(24)), [])


def test_groups_of_one_are_split_as_without_groups():
    labels = ["a"] * 30 + ["b"] * 10
    assert split_rows(labels, 0.2, 5, list(range(40))) == split_rows(labels, 0.2, 5)


def test_one_row_cannot_be_split():
    message(lambda: split_rows(["a"], 0.5, 0), "One row", "--eval-data")
    with pytest.raises(ValueError, match="fraction"):
        split_rows(["a", "b"], 1.0, 0)
