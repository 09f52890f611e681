"""Published data sets are read with the documented number of rows and the right columns."""

from pathlib import Path

import pytest
from headway.core.errors import HeadwayError
from headway.tasks.data.column_inference import infer_columns
from headway.tasks.data.examples import Field
from headway.tasks.data.read import read_table, stream_rows

pytestmark = pytest.mark.realdata

CLASSIFY = (
    Field("text", "Text", aliases=("text", "sentence", "sentence1", "text_a", "review")),
    Field("pair", "Second text", aliases=("pair", "sentence2", "text_b"), required=False),
)
TAGGING = (Field("tokens", "Words"),)
ANSWERING = (Field("question", "Question"), Field("context", "Context"))

# file: kind, rows, whether it has a header, fields, the columns of the texts, the label
FILES = {
    "sst2/train.tsv": ("TSV", 6920, False, CLASSIFY, {"text": "0"}, "1"),
    "sst2/dev.tsv": ("TSV", 872, False, CLASSIFY, {"text": "0"}, "1"),
    "sst2/test.tsv": ("TSV", 1821, False, CLASSIFY, {"text": "0"}, "1"),
    "goemotions/train.tsv": ("TSV", 43410, False, CLASSIFY, {"text": "0"}, "1"),
    "goemotions/dev.tsv": ("TSV", 5426, False, CLASSIFY, {"text": "0"}, "1"),
    "goemotions/test.tsv": ("TSV", 5427, False, CLASSIFY, {"text": "0"}, "1"),
    "trec/train.txt": ("label-prefixed lines", 5452, False, CLASSIFY, {"text": "text"}, "label"),
    "trec/test.txt": ("label-prefixed lines", 500, False, CLASSIFY, {"text": "text"}, "label"),
    "movie_reviews/movie_reviews.jsonl": ("JSON lines", 2000, True, CLASSIFY, {"text": "text"}, "label"),
    "chnsenticorp/train.tsv": ("TSV", 9600, True, CLASSIFY, {"text": "text_a"}, "label"),
    "chnsenticorp/dev.tsv": ("TSV", 1200, True, CLASSIFY, {"text": "text_a"}, "label"),
    "chnsenticorp/test.tsv": ("TSV", 1200, True, CLASSIFY, {"text": "text_a"}, "label"),
    "mrpc/train.txt": ("TSV", 4076, True, CLASSIFY, {"text": "#1 String", "pair": "#2 String"}, "Quality"),
    "mrpc/test.txt": ("TSV", 1725, True, CLASSIFY, {"text": "#1 String", "pair": "#2 String"}, "Quality"),
    "stsb/train.csv": ("CSV", 5749, False, CLASSIFY, {"text": "0", "pair": "1"}, "2"),
    "stsb/dev.csv": ("CSV", 1500, False, CLASSIFY, {"text": "0", "pair": "1"}, "2"),
    "stsb/test.csv": ("CSV", 1379, False, CLASSIFY, {"text": "0", "pair": "1"}, "2"),
    "wnut17/train.conll": ("CoNLL", 3394, False, TAGGING, {"tokens": "tokens"}, "ner_tags"),
    "wnut17/dev.conll": ("CoNLL", 1009, False, TAGGING, {"tokens": "tokens"}, "ner_tags"),
    "wnut17/test.conll": ("CoNLL", 1287, False, TAGGING, {"tokens": "tokens"}, "ner_tags"),
    "weibo_ner/train.conll": ("CoNLL", 1350, False, TAGGING, {"tokens": "tokens"}, "ner_tags"),
    "weibo_ner/dev.conll": ("CoNLL", 270, False, TAGGING, {"tokens": "tokens"}, "ner_tags"),
    "weibo_ner/test.conll": ("CoNLL", 270, False, TAGGING, {"tokens": "tokens"}, "ner_tags"),
    "squad2/train.json": (
        "SQuAD JSON", 9426, True, ANSWERING, {"question": "question", "context": "context"}, "answers",
    ),
    "squad2/dev.json": (
        "SQuAD JSON", 2447, True, ANSWERING, {"question": "question", "context": "context"}, "answers",
    ),
}  # fmt: skip
OTHERS = {"eng_fra/eng-fra.txt", "goemotions/labels.txt", "wikitext2/valid.txt", "wikitext2/test.txt"}
LABELS = ("label", "quality", "ner_tags", "answers")


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_with_all_rows_and_the_right_columns(data_folder: Path, name: str):
    kind, count, header, fields, texts, label = FILES[name]
    table = read_table(data_folder / name)
    assert (table.kind, len(table), table.header) == (kind, count, header)
    found = infer_columns(table, fields, label_aliases=LABELS)
    assert (found.texts, found.label) == (texts, label)
    stream = stream_rows(data_folder / name)
    assert list(stream) == list(table)
    assert infer_columns(stream, fields, label_aliases=LABELS) == found
    assert infer_columns(table, fields, label_aliases=LABELS, need_label=False).texts == texts
    assert all(row[column] for row in table.rows for column in texts.values())


def test_every_file_of_the_data_folder_is_covered(data_folder: Path):
    found = {str(path.relative_to(data_folder)) for path in data_folder.glob("*/*")}
    assert found == {*FILES, *OTHERS}


def test_the_label_columns_have_the_documented_labels(data_folder: Path):
    def labels(name, column):
        return {row[column] for row in read_table(data_folder / name).rows}

    assert labels("sst2/train.tsv", "1") == {"0", "1"}
    assert labels("chnsenticorp/train.tsv", "label") == {"0", "1"}
    assert labels("mrpc/train.txt", "Quality") == {"0", "1"}
    assert labels("movie_reviews/movie_reviews.jsonl", "label") == {"pos", "neg"}
    assert labels("trec/train.txt", "label") == {"ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"}
    assert len(labels("trec/train.txt", "fine")) == 50
    ids = {one for cell in labels("goemotions/train.tsv", "1") for one in cell.split(",")}
    assert ids == {str(number) for number in range(28)}
    assert all(0 <= float(score) <= 5 for score in labels("stsb/train.csv", "2"))
    tags = {tag for row in read_table(data_folder / "wnut17/train.conll").rows for tag in row["ner_tags"]}
    assert len({tag[2:] for tag in tags if tag != "O"}) == 6


def test_squad_answers_are_at_their_offsets(data_folder: Path):
    unanswered = 0
    rows = read_table(data_folder / "squad2/dev.json").rows
    for row in rows:
        answers = row["answers"]
        unanswered += not answers["text"]
        for text, start in zip(answers["text"], answers["answer_start"], strict=True):
            assert row["context"][start : start + len(text)] == text
    assert 0.4 < unanswered / len(rows) < 0.6


def test_the_text_of_translation_pairs_must_be_chosen(data_folder: Path):
    table = read_table(data_folder / "eng_fra/eng-fra.txt")
    assert (table.kind, len(table), table.columns, table.header) == ("TSV", 5000, ("0", "1", "2"), False)
    with pytest.raises(HeadwayError, match="Give --text COLUMN"):
        infer_columns(table, CLASSIFY, need_label=False)
    assert infer_columns(table, CLASSIFY, chosen={"text": "0", "pair": "1"}, need_label=False).notes == ()


def test_plain_text_has_one_row_per_line(data_folder: Path):
    for name in ("wikitext2/valid.txt", "wikitext2/test.txt"):
        path = data_folder / name
        table = read_table(path)
        lines = path.read_text(encoding="utf-8").split("\n")
        assert [row["text"] for row in table.rows] == [line for line in lines if line.strip()]
        assert [lines[place - 1] for place in table.places] == [row["text"] for row in table.rows]
    labels = read_table(data_folder / "goemotions/labels.txt")
    assert (labels.rows[0]["text"], len(labels)) == ("admiration", 28)
