"""The encoding of a file: detected and shown, marked by a byte-order mark, or given; and the limits on its size."""

import gzip
import json
import lzma

import pytest
from data_files import assert_error, reading, write
from headway.tasks.data.read import read_table

GERMAN = "Bewertung;Urteil\nDas Gerät ist schön – „sehr gut“;gut\nÄrger mit der Lieferung, 20 € zurück;schlecht\n"
FRENCH = "text;label\nUn café très agréable;bon\nUn service déplorable à éviter;mauvais\n"
RUSSIAN = "text;label\nОчень хороший товар;да\nПлохая доставка;нет\n"
GREEK = "text;label\nΠολύ καλό προϊόν;ναι\nΚακή εξυπηρέτηση;όχι\n"
CHINESE = "text,label\n这个产品非常好，我很喜欢,好\n物流太慢了，不推荐,差\n"
TRADITIONAL = "text,label\n這個產品非常好，我很喜歡,好\n物流太慢了，不推薦,差\n"
JAPANESE = "text,label\nとても良い商品です,良い\n配送が遅かったです,悪い\n"
KOREAN = "text,label\n정말 좋은 제품입니다,좋음\n배송이 너무 늦어요,나쁨\n"
POLISH = "text;label\nŻółta łódź płynie świetnie;dobry\nZażółć gęślą jaźń;zły\n"


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        *[(GERMAN, name) for name in ("cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "mac_roman")],
        *[(FRENCH, name) for name in ("latin-1", "cp1252")],
        *[(RUSSIAN, name) for name in ("cp1251", "koi8_r")],
        *[(CHINESE, "gb18030"), (TRADITIONAL, "big5"), (JAPANESE, "cp932"), (JAPANESE, "euc_jp"), (KOREAN, "cp949")],
        *[(GREEK, "cp1253"), (POLISH, "cp1250"), (GERMAN, "utf-8"), (GERMAN, "utf-8-sig")],
    ],
)
def test_a_file_in_a_usual_encoding_is_read_as_in_utf8(tmp_path, content, encoding):
    plain = read_table(write(tmp_path, "plain.csv", content))
    table = read_table(write(tmp_path, "a.csv", content.encode(encoding)))
    assert (table.columns, table.rows, table.places) == (plain.columns, plain.rows, plain.places)
    shown = [note for note in table.notes if note.startswith("encoding: ")]
    assert len(shown) == (0 if encoding.startswith("utf-8") else 1)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "a.jsonl", "a.json", "a.conll"])
@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_every_text_format_is_read_in_another_encoding(tmp_path, name, encoding):
    text = "schöne Grüße aus München"
    content = {
        "a.csv": f"text,label\n{text},1\n",
        "a.tsv": f"text\tlabel\n{text}\t1\n",
        "a.txt": f"{text}\n",
        "a.jsonl": json.dumps({"text": text}, ensure_ascii=False) + "\n",
        "a.json": json.dumps([{"text": text}], ensure_ascii=False),
        "a.conll": "".join(f"{word}\tO\n" for word in text.split()),
    }[name]
    table = read_table(write(tmp_path, name, content.encode(encoding)))
    cell = table.rows[0].get("text", table.rows[0].get("tokens"))
    assert (" ".join(cell) if isinstance(cell, list) else cell) == text
    assert any(note.startswith("encoding: ") for note in table.notes)


def test_a_note_shows_a_word_in_both_encodings_if_two_are_plausible(tmp_path):
    table = read_table(write(tmp_path, "a.csv", "text,label\nEl niño comió mañana,bien\n".encode("cp1252")))
    assert table.notes[0] == 'encoding: Windows-1252 (detected: "niño"; in cp1250: "nińo"; --encoding overrules)'


def test_the_given_encoding_is_used_without_detection(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\nEl niño,bien\n".encode("cp1252"))
    table = read_table(path, encoding="cp1250")
    assert table.rows[0]["text"] == "El nińo"
    assert table.notes == ()
    path = write(tmp_path, "b.csv", "text,label\nEl niño,bien\n".encode("utf-8-sig"))
    assert read_table(path, encoding="utf-8").columns == ("text", "label")


def test_an_unknown_encoding_is_an_error_that_lists_usual_ones(tmp_path):
    path = write(tmp_path, "a.csv", "text,label\na,b\n")
    for name in ("windows", "rot13", "\0"):
        assert_error(reading(path, encoding=name), f"--encoding {name}", "cp1252", "gb18030")


def test_a_line_that_is_not_in_the_given_encoding_is_an_error(tmp_path):
    path = write(tmp_path, "a.csv", b"text,label\ncaf\xe9,1\n")
    assert_error(
        reading(path, encoding="utf-8"), f"{path}, line 2", "not UTF-8", "0xE9 at byte 4", "--encoding cp1252"
    )
    path = write(tmp_path, "b.csv", "text,label\ncafé,1\n".encode("utf-16") + b"\x00\xd8")
    assert_error(reading(path), f"{path}, line 3", "not UTF-16")


def test_a_line_too_long_for_the_memory_is_an_error_wherever_it_is_read(tmp_path):
    size = 70 << 20
    for name, module in (("a.csv", None), ("a.txt", None), ("a.csv.gz", gzip), ("a.jsonl.xz", lzma)):
        content = b"text,label\n" + b"a" * size
        path = write(tmp_path, name, module.compress(content) if module else content)
        assert_error(reading(path), path, "line 2", "more than 64 MiB")


def test_a_file_that_expands_to_far_more_than_text_does_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("headway.tasks.data.reading.limits.MIN_EXPANDED_BYTES", 1 << 20)
    line = b"a text that repeats without end,label\n"
    path = write(tmp_path, "a.csv", gzip.compress(line * ((4 << 20) // len(line)), 9))
    assert_error(reading(path), path, "compressed bytes expand to more than", "Decompress the file first")


def test_a_field_and_a_header_have_limits(tmp_path):
    path = write(tmp_path, "a.csv", 'text,label\n"' + "a line of a text\n" * (1 << 20) + '",1\n')
    assert_error(reading(path), f"{path}, line 2", "more than 16 million characters")
    path = write(tmp_path, "b.csv", ",".join(f"c{i}" for i in range(20_000)) + "\n" + "1," * 19_999 + "1\n")
    assert_error(reading(path), f"{path}, line 1", "20,000 columns", "--delimiter")


def test_a_sign_inside_a_word_is_no_plausible_reading_and_several_others_are_shown(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\n" + "".join(f"żółw idzie {i},{'ab'[i % 2]}\n" for i in range(20)).encode("cp1250"))
    table = read_table(path)
    assert table.rows[0]["text"] == "żółw idzie 0"
    path.write_bytes(b"text,label\n" + "".join(f"güzel şey {i},{'ab'[i % 2]}\n" for i in range(20)).encode("cp1254"))
    (note,) = read_table(path).notes
    assert 'in cp1254: "şey"' in note or 'detected: "şey"' in note
