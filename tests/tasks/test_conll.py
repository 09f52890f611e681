"""CoNLL files become sentences of words and tags."""

import pytest
from data_files import assert_error, reading, write
from headway.tasks.data.read import read_table


def test_a_sentence_is_a_row_of_words_and_tags(tmp_path):
    content = "-DOCSTART- -X- O\n\nAda NNP B-PER\nsleeps VBZ O\n   \n\t\nParis NNP B-LOC\n"
    table = read_table(write(tmp_path, "a.conll", content))
    assert table.columns == ("tokens", "column_1", "ner_tags")
    assert table.rows == [
        {"tokens": ["Ada", "sleeps"], "column_1": ["NNP", "VBZ"], "ner_tags": ["B-PER", "O"]},
        {"tokens": ["Paris"], "column_1": ["NNP"], "ner_tags": ["B-LOC"]},
    ]
    assert table.places == [3, 7]


@pytest.mark.parametrize("name", ["a.txt", "a.tsv", "a.bio", "a"])
def test_entity_tags_identify_conll_whatever_the_file_name(tmp_path, name):
    table = read_table(write(tmp_path, name, 'New York\tB-LOC\n"\tO\n\nHi\tO\n'))
    assert table.kind == "CoNLL"
    assert [row["tokens"] for row in table.rows] == [["New York", '"'], ["Hi"]]


def test_blank_lines_between_sentences_identify_conll_with_part_of_speech_tags(tmp_path):
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


def test_comments_are_skipped(tmp_path):
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


def test_the_word_number_sign_is_not_a_comment(tmp_path):
    content = "He PRP I-NP O\npaid VBD I-VP O\n# # I-NP O\n5 CD I-NP O\n\n# NNP B-NP I-ORG\n"
    table = read_table(write(tmp_path, "a.conll", content))
    assert [row["tokens"] for row in table.rows] == [["He", "paid", "#", "5"], ["#"]]
    pos = read_table(write(tmp_path, "b.conll", "a DT\n# NN\ncat NN\n\n# #\n"))
    assert [row["ner_tags"] for row in pos.rows] == [["DT", "NN", "NN"], ["#"]]
    rare = "".join(f"word{i} NN\n" for i in range(1200)) + "# SYM\n"  # a tag that comes after the sample
    assert read_table(write(tmp_path, "d.conll", rare)).rows[0]["tokens"][-2:] == ["word1199", "#"]
    path = write(tmp_path, "c.conll", "He PRP I-NP O\n# I-NP O\n")
    assert_error(reading(path), f"{path}, line 2", "3 columns where 4", "# I-NP O")


def test_unicode_spaces_do_not_separate_columns(tmp_path):
    table = read_table(write(tmp_path, "a.conll", "10\u00a0000 B-NUM\n\u3000 O\nnew\u2009york  B-LOC\r\n"))
    assert table.rows == [{"tokens": ["10\u00a0000", "\u3000", "new\u2009york"], "ner_tags": ["B-NUM", "O", "B-LOC"]}]


def test_a_tsv_with_a_header_and_blank_lines_is_not_conll(tmp_path):
    rows = [("这部电影很好", "1"), ("太糟糕了", "0"), ("不错", "1"), ("无聊", "0"), ("好看", "1"), ("难看", "0")]
    lines = [f"{text}\t{label}" for text, label in rows]
    content = "\n".join(["text\tlabel", *lines[:3], "", *lines[3:]])
    table = read_table(write(tmp_path, "a.tsv", content))
    assert table.kind == "TSV"
    assert [tuple(row.values()) for row in table.rows] == rows
    tagged = read_table(write(tmp_path, "b.tsv", content.replace("text\tlabel", "token\tlabel")))
    assert (tagged.kind, len(tagged)) == ("CoNLL", 2)


def test_a_line_with_a_missing_tag_is_an_error(tmp_path):
    path = write(tmp_path, "a.conll", "Ada B-PER\nsleeps\n")
    assert_error(reading(path), f"{path}, line 2", "1 column where 2", "sleeps", "blank line")


def test_a_missing_tag_is_named_whatever_the_file_name(tmp_path):
    for separator in " ", "\t":
        lines = ["Ada B-PER", "sat O", "in O", "Rome B-LOC", ". O", ""] * 4
        lines[13] = "in"
        content = "\n".join(line.replace(" ", separator) for line in lines)
        path = write(tmp_path, "a.txt", content)
        assert_error(reading(path), f"{path}, line 14: 1 column where 2", "a tag is missing")


def test_a_line_without_the_separator_of_the_file_is_a_comment_whatever_its_words(tmp_path):
    word = "1\tRain\train\tNOUN\tX\t_\t0\tdep\t_\t_\n"
    for comment in "# text = It rained on us all day X", "# text = Back to the USA", "#text = a b c d e f g h", "#":
        table = read_table(write(tmp_path, "a.conllu", f"{comment}\n{word}\n{comment}\n{word}"))
        assert [row["form"] for row in table.rows] == [["Rain"], ["Rain"]]
        assert table.columns[3] == "upos"
    germeval = "#\tn-tv.de vom 26.02.2005 [2005-02-26]\n1\tAda\tB-PER\tO\n2\tsat\tO\tO\n3\t.\tO\tO\n"
    table = read_table(write(tmp_path, "b.tsv", f"{germeval}\n{germeval}"))
    assert [row["tokens"] for row in table.rows] == [["Ada", "sat", "."]] * 2


@pytest.mark.parametrize("before", ["", "doc1 0 "])
@pytest.mark.parametrize("start", [0, 1])
def test_a_running_number_is_not_the_word_and_this_is_noted(tmp_path, before, start):
    words = ["Ada NNP B-PER", "sat VBD O", "down RP O"]
    sentence = "".join(f"{before}{number} {line}\n" for number, line in enumerate(words, start))
    path = write(tmp_path, "a.conll", f"{sentence}\n{sentence}")
    table = read_table(path)
    assert [row["tokens"] for row in table.rows] == [["Ada", "sat", "down"]] * 2
    assert table.rows[0]["ner_tags"] == ["B-PER", "O", "O"]
    counter = len(before.split())
    assert len(table.notes) == 1
    assert f"{['first', '', 'third'][counter]} column counts the words" in table.notes[0]
    assert f"--text column_{counter}" in table.notes[0]


@pytest.mark.parametrize("before", [[], ["doc1"]])
def test_a_running_number_before_words_without_tags_is_not_the_word(tmp_path, before):
    sentences = (["Ada", "sat", "down"], ["Bo", "ran"])
    lines = ["\n".join("\t".join([*before, str(i), word]) for i, word in enumerate(one, 1)) for one in sentences]
    table = read_table(write(tmp_path, "a.conll", "\n\n".join(lines) + "\n"))
    assert [row["tokens"] for row in table.rows] == [["Ada", "sat", "down"], ["Bo", "ran"]]
    assert "ner_tags" not in table.columns
    assert "counts the words" in table.notes[0]


def test_tagged_numbers_are_words_even_where_they_count(tmp_path):
    table = read_table(write(tmp_path, "a.conll", "1\tO\n2\tO\n3\tB-X\n\n1\tO\n2\tO\n"))
    assert table.rows[0] == {"tokens": ["1", "2", "3"], "ner_tags": ["O", "O", "B-X"]}


def test_words_that_are_numbers_are_not_a_running_number(tmp_path):
    counted = "1 CD O\n2 CD O\n3 CD O\n\n"
    table = read_table(write(tmp_path, "a.conll", f"{counted}Ada NNP B-PER\nsat VBD O\n"))
    assert table.rows[0]["tokens"] == ["1", "2", "3"]
    assert not table.notes


def test_a_word_that_is_a_separator_is_named_with_the_reason(tmp_path):
    lines = ["Ada\tB-PER", "sat\tO", ".\tO", "", "Bo\tB-PER"]
    for word, says in (("\n", "may be a line break, which ends the sentence"), ("\t", "a TAB"), ("", "is empty")):
        path = write(tmp_path, "a.conll", "\n".join([*lines, f"{word}\tO", "ran\tO", ""]))
        assert_error(reading(path), f"{path}, line {7 if word == chr(10) else 6}", "the word is empty", says)
