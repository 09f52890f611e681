"""What is checked before a file is read: its path, compression, encoding and content."""

import gzip
import lzma
import os
import random

import pytest
from data_files import assert_error, fuzzing, reading, write
from headway.core.errors import HeadwayError
from headway.tasks.data.read import read_table, stream_rows
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(("ending", "module"), [(".gz", gzip), (".xz", lzma)])
def test_a_compressed_file_is_read_like_the_file_itself(tmp_path, ending, module):
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


def test_a_truncated_compressed_file_is_an_error(tmp_path):
    whole = gzip.compress(b"text,label\n" + random.Random(0).randbytes(2000).hex().encode() + b",b\n")
    path = write(tmp_path, "a.csv.gz", whole[:200])
    assert_error(reading(path), path, "corrupt or truncated", "again")
    path = write(tmp_path, "a.csv.xz", lzma.compress(b"text,label\na,b\n")[:-20])
    assert_error(reading(path), path, "corrupt or truncated")


def test_a_byte_order_mark_is_not_part_of_the_first_column_name(tmp_path):
    for name, content in (("a.csv", "text,label\na,b\n"), ("a.tsv", "text\tlabel\na\tb\n"), ("a.txt", "text\na\n")):
        assert read_table(write(tmp_path, name, b"\xef\xbb\xbf" + content.encode())).columns[0] == "text"
    assert read_table(write(tmp_path, "a.jsonl", b'\xef\xbb\xbf{"text": "a"}')).rows == [{"text": "a"}]


def test_the_error_of_a_missing_file_suggests_a_similar_name(tmp_path):
    write(tmp_path, "train.tsv", "a\tb\n")
    assert_error(reading(tmp_path / "train.csv"), tmp_path / "train.csv", "no such file", tmp_path / "train.tsv")
    assert_error(reading(tmp_path / "nowhere" / "a.csv"), "no folder", tmp_path / "nowhere")
    assert_error(reading(str(tmp_path / "imdb")), "no such file", "hub:")


@pytest.mark.posix
def test_a_pipe_is_an_error(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert_error(reading(tmp_path / "pipe"), tmp_path / "pipe", "not a regular file", "Save the data")


def test_the_error_of_a_folder_lists_its_content(tmp_path):
    write(tmp_path, "train.csv", "text,label\na,b\n")
    assert_error(reading(tmp_path), tmp_path, "folder", "train.csv")
    (tmp_path / "none").mkdir()
    assert_error(reading(tmp_path / "none"), "The folder is empty", "Give a file")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "a.json", "a.jsonl", "a.conll"])
@pytest.mark.parametrize("content", [b"", b"\n \n\t\n", b"\xef\xbb\xbf", b"\n" * 20000])
def test_an_empty_file_is_an_error(tmp_path, name, content):
    path = write(tmp_path, name, content)
    assert_error(reading(path), path, "empty", "Give a file")


@pytest.mark.parametrize(
    ("head", "what", "fix"),
    [
        (b"PK\x03\x04\x14\x00", "zip archive", "save the sheet as .xlsx"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "Excel", "Save it as .xlsx or CSV"),
        (b"\x89PNG\r\n\x1a\n", "PNG image", "Give a file"),
        (b"%PDF-1.7\n", "PDF", "CSV"),
        (b"text,label\na,\x00\n", "line 2: a NUL byte", "UTF-8"),
    ],
)
def test_the_error_of_a_binary_file_says_what_it_is(tmp_path, head, what, fix):
    for name in ("a.csv", "a.txt", "a.json"):
        path = write(tmp_path, name, head)
        assert_error(reading(path), path, what, fix)


def test_a_nul_byte_far_into_the_file_is_an_error(tmp_path):
    path = write(tmp_path, "a.txt", b"a line of text\n" * 5000 + b"x\0y\n")
    assert_error(reading(path), f"{path}, line 5001", "NUL")


def test_a_damaged_line_of_a_utf8_file_is_an_error_that_names_the_byte(tmp_path):
    lines = [f"caf\u00e9 {number},1\n".encode() for number in range(20)]
    path = write(tmp_path, "a.csv", b"text,label\n" + b"".join(lines) + b"caf\xe9,0\n")
    assert_error(reading(path), f"{path}, line 22", "not UTF-8", "0xE9 at byte 4", "--encoding cp1252")


FRAGMENTS = [
    *(b"text,label", b"a,b", b"a\tb", b"\t", b"\n", b"\n\n", b"\r", b" ", b'"', b",", b";"),
    *(b"O", b"B-X", b"1", b"0.5"),
    *(b"{", b"}", b"[", b"]", b'{"text": "a"}', b'"data"', b'"paragraphs"', b'"qas"', b"[{"),
    *(b":", b"NaN", b"\\ud83d"),
    *(b"__label__a ", b"NUM:date ", b"-DOCSTART-", b"\xef\xbb\xbf", b"\xff", b"\x00", b"\x1f\x8b"),
    *(b"PAR1", b"\xc3\xa9"),
]  # fmt: skip
SUFFIXES = st.sampled_from([".csv", ".tsv", ".txt", ".json", ".jsonl", ".conll", ".parquet", ".csv.gz", ".csv.xz", ""])


@settings(fuzzing, max_examples=400)
@given(
    content=st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=3), max_size=25).map(b"".join), suffix=SUFFIXES
)
def test_any_content_is_read_or_rejected_with_a_message_of_one_line(tmp_path, content, suffix):
    path = write(tmp_path, f"a{suffix}", content)
    error_message, table = None, None
    try:
        table = read_table(path)
    except HeadwayError as error:
        error_message = str(error)
    if table is None:
        assert error_message is not None
        assert str(path) in error_message
        assert "\n" not in error_message
    else:
        assert table.rows
        assert all(tuple(row) == table.columns for row in table.rows)
        assert list(stream_rows(path)) == list(table)
