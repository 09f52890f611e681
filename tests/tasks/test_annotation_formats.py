"""The exports of brat, WebAnno and spaCy become texts with spans, or words with tags."""

import json
import zlib

import pytest
import spacy
import srsly
from data_files import assert_error, reading, write
from headway.tasks.base.check import check_data
from headway.tasks.data.read import read_table
from headway.tasks.tagging.tagging import TokenClassification

TEXT = "Ada 🙂 met Bo in New York."
ENTITIES = ["PER: Ada", "PER: Bo", "LOC: New York"]


def entities(source, **chosen):
    """The entities of each row, as training reads them."""
    table = read_table(source)
    task = TokenClassification()
    columns = task.columns(table, chosen, need_label=True)
    task, _ = task.infer_labels(table, columns)
    return [list(example.gold) for example in task.examples(table, columns)]


# brat


def brat_folder(folder, texts):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (text, annotations) in texts.items():
        write(folder, f"{name}.txt", text)
        if annotations is not None:
            write(folder, f"{name}.ann", annotations)
    return folder


def test_a_brat_folder_is_a_row_per_text(tmp_path):
    ann = "T1\tPER 0 3\tAda\nT2\tPER 10 12\tBo\nR1\tmet Arg1:T1 Arg2:T2\nT3\tLOC 16 24\tNew York\n#1\tNote T1\tsic\n"
    brat_folder(tmp_path / "part", {"b": ("Nothing here", "")})
    table = read_table(brat_folder(tmp_path, {"a": (TEXT, ann), "c": ("Not yet", None)}))
    assert (table.kind, table.columns) == ("brat", ("file", "text", "spans"))
    assert [row["file"] for row in table.rows] == ["a.txt", "c.txt", "part/b.txt"]
    assert [row["spans"] is None for row in table.rows] == [False, True, False]
    assert any("not annotated: 1 text" in note and "c.txt" in note for note in table.notes)
    (tmp_path / "c.txt").unlink()
    assert entities(tmp_path) == [ENTITIES, []]


def test_brat_offsets_count_a_line_break_as_the_file_or_as_one_character(tmp_path):
    for folder, text, start in (("lf", "Hi\nBo", 3), ("crlf", "Hi\r\nBo", 4), ("as-one", "Hi\r\nBo", 3)):
        files = {"a": (text, f"T1\tPER {start} {start + 2}\tBo\n")}
        assert entities(brat_folder(tmp_path / folder, files)) == [["PER: Bo"]]


def test_a_brat_entity_in_fragments_is_read_as_one_and_reported(tmp_path):
    folder = brat_folder(tmp_path, {"a": ("New and old York", "T1\tLOC 0 3;12 16\tNew York\n")})
    assert entities(folder) == [["LOC: New and old York"]]
    assert any("1 span in fragments" in note for note in read_table(folder).notes)


def test_errors_of_brat_files_name_the_file(tmp_path):
    folder = brat_folder(tmp_path, {"a": (TEXT, "T1\tPER 0 3\tAda\nT2\tPER ten 12\tBo\n")})
    assert_error(reading(folder), folder / "a.ann", "line 2", "T2 PER ten 12")
    write(folder, "a.ann", "T1\tPER 0 3\tAda\n")
    write(folder, "b.ann", "")
    assert_error(reading(folder), folder / "b.ann", "there is no text for it")


# WebAnno and INCEpTION

HEADER = (
    "#FORMAT=WebAnno TSV 3.3\n#T_SP=webanno.custom.Pos|tag\n#T_SP=de.tudarmstadt.type.NamedEntity|identifier|value\n"
)


def webanno(tokens, header=HEADER, text=TEXT):
    """A document of one sentence; tokens have the start, the token and its columns."""
    lines = [
        f"1-{i}\t{start}-{start + len(token.encode('utf-16-le')) // 2}\t{token}\t{rest}\t\n"
        for i, (start, token, rest) in enumerate(tokens, 1)
    ]
    return f"{header}\n\n#Text={text}\n{''.join(lines)}\n"


TOKENS = [
    (0, "Ada", "N\t*\tPER"),
    (4, "🙂", "X\t_\t_"),
    (7, "met", "V\t_\t_"),
    (11, "Bo", "N\t*\tPER"),
    (14, "in", "P\t_\t_"),
    (17, "New", "N\t*[1]\tLOC[1]"),
    (21, "York", "N\t*[1]\tLOC[1]"),
    (25, ".", "X\t_\t_"),
]


@pytest.mark.parametrize("name", ["a.tsv", "a.txt", "a.conll"])
def test_a_webanno_sentence_is_a_text_with_spans(tmp_path, name):
    table = read_table(write(tmp_path, name, webanno(TOKENS)))
    assert (table.kind, table.columns) == ("WebAnno TSV", ("text", "spans", "Pos.tag"))
    assert table.rows[0]["text"] == TEXT
    assert entities(tmp_path / name) == [ENTITIES]
    assert "the spans are those of NamedEntity.value; there are also Pos.tag (--label Pos.tag)" in table.notes
    assert entities(tmp_path / name, label="Pos.tag")[0][:2] == ["N: Ada", "X: 🙂"]


def test_webanno_annotations_may_be_stacked_escaped_and_parts_of_tokens(tmp_path):
    header = "#FORMAT=WebAnno TSV 3.2\n#T_SP=my.Span|kind\n"
    tokens = [(0, "New", "A[1]|B[2]"), (4, "York", "A[1]|B\\_C[2]"), (9, "x", "_")]
    content = webanno(tokens, header, "New York x").replace("1-3\t", "1-2.1\t4-6\tYo\tPART\t\n1-3\t")
    (row,) = read_table(write(tmp_path, "a.tsv", content)).rows
    found = [(span["text"], span["label"]) for span in row["spans"]]
    assert found == [("New York", "A"), ("New", "B"), ("York", "B_C"), ("Yo", "PART")]


def test_other_layers_of_webanno_are_skipped(tmp_path):
    header = HEADER + "#T_CH=my.Link|referenceType|referenceRelation\n#T_RL=my.Dep|kind|my.Pos\n#T_SP=my.Last|kind\n"
    tokens = [(start, token, f"{rest}\t_\t_\t_\t_\t{'L' if start == 0 else '_'}") for start, token, rest in TOKENS]
    (row,) = read_table(write(tmp_path, "a.tsv", webanno(tokens, header))).rows
    assert [span["text"] for span in row["Last.kind"]] == ["Ada"]


def test_a_webanno_layer_without_features_gives_its_name(tmp_path):
    tokens = [(0, "Ada", "*"), (4, "met", "_"), (8, "Bo", "*[3]"), (11, "Li", "*[3]")]
    content = webanno(tokens, "#FORMAT=WebAnno TSV 3.3\n#T_SP=my.Person|\n", "Ada met Bo Li")
    assert entities(write(tmp_path, "a.tsv", content)) == [["Person: Ada", "Person: Bo Li"]]


def test_a_webanno_line_that_does_not_fit_is_named(tmp_path):
    path = write(tmp_path, "a.tsv", webanno([(0, "Ada", "N")]))
    assert_error(reading(path), f"{path}, line 7", "5 columns where the layers need 6")
    path = write(tmp_path, "a.tsv", webanno([(0, "Eve", "N\t*\tPER")]))
    assert_error(reading(path), f"{path}, line 7", '"Eve" is not in the text')


# spaCy


def test_the_pairs_of_spacy_are_texts_with_spans(tmp_path):
    pairs = [[TEXT, {"entities": [[0, 3, "PER"], [10, 12, "PER"], [16, 24, "LOC"]]}], ["None", {"entities": []}]]
    assert entities(write(tmp_path, "a.json", json.dumps(pairs))) == [ENTITIES, []]
    exported = {"classes": ["PER", "LOC"], "annotations": [*pairs, None]}
    assert entities(write(tmp_path, "b.json", json.dumps(exported))) == [ENTITIES, []]


def test_the_categories_of_spacy_are_labels(tmp_path):
    pairs = [["a", {"cats": {"GOOD": 1.0, "BAD": 0.0}}], ["b", {"cats": {"GOOD": 0, "BAD": 1}}]]
    table = read_table(write(tmp_path, "a.json", json.dumps(pairs)))
    assert table.rows == [{"text": "a", "label": "GOOD"}, {"text": "b", "label": "BAD"}]
    pairs.append(["c", {"cats": {"GOOD": 1, "BAD": 1}, "entities": []}])
    table = read_table(write(tmp_path, "a.json", json.dumps(pairs)))
    assert table.rows[2] == {"text": "c", "spans": [], "labels": ["GOOD", "BAD"]}
    path = write(tmp_path, "a.json", json.dumps([["a", {"cats": ["GOOD"]}]]))
    assert_error(reading(path), f"{path}, record 1", "cats")


def test_the_training_documents_of_spacy_are_sentences_of_tags(tmp_path):
    tags = ["U-PER", "-", "O", "U-PER", "O", "B-LOC", "L-LOC", "O"]
    tokens = [{"orth": word, "tag": "X", "ner": tag} for (_, word, _), tag in zip(TOKENS, tags, strict=True)]
    document = [{"id": 0, "paragraphs": [{"raw": TEXT, "sentences": [{"tokens": tokens}, {"tokens": tokens[:1]}]}]}]
    path = write(tmp_path, "a.json", json.dumps(document))
    assert entities(path) == [ENTITIES, ["PER: Ada"]]
    table = read_table(path)
    assert table.rows[0]["ner_tags"][1] == "-100"  # not annotated, which is not O
    assert table.rows[1] == {"tokens": ["Ada"], "ner_tags": ["U-PER"], "pos": ["X"]}
    document[0]["paragraphs"][0]["sentences"][1] = {"tokens": 3}
    path = write(tmp_path, "b.json", json.dumps(document))
    assert_error(reading(path), f"{path}, record 1, paragraph 1, sentence 2", "tokens")


def test_every_format_is_checked_without_errors(tmp_path):
    path = write(tmp_path, "a.tsv", webanno(TOKENS))
    assert not check_data(TokenClassification(), path).errors


def test_a_docbin_is_texts_with_spans_and_labels(tmp_path):
    nlp = spacy.blank("en")
    docs = [nlp(TEXT), nlp("Nothing"), nlp("Not yet")]
    spans = [docs[0].char_span(start, end, label) for start, end, label in ((0, 3, "PER"), (16, 24, "LOC"))]
    docs[0].set_ents(spans)
    docs[1].set_ents([])
    docs[0].cats = {"GOOD": 1.0, "BAD": 0.0}
    spacy.tokens.DocBin(docs=docs, store_user_data=True).to_disk(tmp_path / "a.spacy")
    table = read_table(tmp_path / "a.spacy")
    assert [row["text"] for row in table.rows] == [TEXT, "Nothing", "Not yet"]
    assert [(one["start"], one["end"], one["label"]) for one in table.rows[0]["spans"]] == [
        (0, 3, "PER"),
        (16, 24, "LOC"),
    ]
    assert [row["spans"] for row in table.rows[1:]] == [[], None]
    assert [row["label"] for row in table.rows] == ["GOOD", None, None]
    content = (tmp_path / "a.spacy").read_bytes()
    path = write(tmp_path, "b.spacy", content[: len(content) // 2])
    assert_error(reading(path), path, "not a DocBin that spaCy can read")


# Spans by type, and spans of words


def test_inclusive_ends_are_recognized_by_the_text_of_the_span(tmp_path):
    by_type = {"PER": {"Ada": [[0, 2]], "Bo": [[10, 11]]}, "LOC": {"New York": [[16, 23]]}}
    rows = [{"text": TEXT, "label": by_type}, {"text": "None", "label": {}}]
    path = write(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert entities(path) == [ENTITIES, []]
    report = check_data(TokenClassification(), path)
    assert any("the end of a span is its last character" in finding.message for finding in report.findings)
    exclusive = {"PER": {"Ada": [[0, 3]]}}
    path = write(tmp_path, "b.jsonl", json.dumps({"text": TEXT, "label": exclusive}))
    assert entities(path) == [["PER: Ada"]]
    assert not any("last character" in one.message for one in check_data(TokenClassification(), path).findings)
    for wrong in ({"PER": [[0, 2]]}, {"PER": {"Ada": [0, 2]}}, {"PER": {"Eve": [[0, 2]]}}):
        path = write(tmp_path, "c.jsonl", json.dumps({"text": TEXT, "label": wrong}))
        assert_error(lambda: entities(path), f"{path}, line 1", "Correct it")  # noqa: B023


WORDS = ["Ada", "met", "Bo", "in", "New", "York"]
SPERT = [("LOC", 4, 6), ("PER", 0, 1)]


@pytest.mark.parametrize(
    ("row", "end"),
    [
        ({"tokenized_text": WORDS, "ner": [[0, 0, "PER"], [2, 2, "PER"], [4, 5, "LOC"]]}, "last word is included"),
        (
            {
                "tokens": WORDS,
                "entities": [{"type": "LOC", "start": 4, "end": 6}, {"type": "PER", "start": 0, "end": 1}],
            },
            "end is the word after",
        ),
    ],
    ids=["GLiNER", "SpERT"],
)
def test_spans_of_words_are_read(tmp_path, row, end):
    words, spans = row
    rows = [row, {words: ["Nothing"], spans: []}]
    path = write(tmp_path, "a.json", json.dumps(rows))
    found = entities(path)
    assert found[0][0] == "PER: Ada"
    assert found[0][-1] == "LOC: New York"
    assert found[1] == []
    report = check_data(TokenClassification(), path)
    assert any(note.startswith("the spans are numbers of words") and end in note for note in report.notes)
    bad = json.dumps([*rows, {words: ["Ada"], spans: [[0, 7, "PER"]]}])
    path = write(tmp_path, "b.json", bad)
    assert_error(lambda: entities(path), f"{path}, record 3", "is not among the 1 words")


# One word per row

SENTENCES = [[("Ada", "B-PER"), ("sat", "O")], [("Bo", "B-PER"), (",", "O"), ("Ada", "B-PER")]]


@pytest.mark.parametrize("name", ["Sentence #", "sentence_id", "sent_id"])
@pytest.mark.parametrize("fill", [True, False])
def test_the_rows_of_words_are_joined_to_sentences(tmp_path, name, fill):
    lines = [f"{name};Word;POS;Tag"]
    for number, sentence in enumerate(SENTENCES):
        for i, (word, tag) in enumerate(sentence):
            given = f"Sentence: {number}" if fill or i == 0 else ""
            lines.append(f"{given};{word};X;{tag}")
    path = write(tmp_path, "a.csv", "\n".join(lines))
    assert entities(path) == [["PER: Ada"], ["PER: Bo", "PER: Ada"]]
    table = read_table(path)
    assert table.places == [2, 4]
    assert any(f'joined by column "{name}" (--no-join-words' in note for note in table.notes)
    assert len(read_table(path, join_words=False)) == 5


def test_rows_of_words_may_also_be_python_objects():
    rows = [{"sentence": i, "word": word, "tag": tag} for i, one in enumerate(SENTENCES) for word, tag in one]
    assert entities(rows) == [["PER: Ada"], ["PER: Bo", "PER: Ada"]]


def test_tables_of_texts_are_not_joined(tmp_path):
    path = write(tmp_path, "a.csv", "sentence,word,label\nThe cat sat,cat,1\nThe dog ran,dog,0\nIt sat,sat,1\n")
    assert len(read_table(path)) == 3
    path = write(tmp_path, "b.csv", "sentence_id,word,label\n1,cat,1\n2,dog,0\n3,sat,1\n")
    assert len(read_table(path)) == 3
    path = write(tmp_path, "c.csv", "text,label\ncat,1\ndog,0\n")
    assert_error(reading(path, join_words=True), "--join-words needs a column")


def test_a_docbin_with_impossible_entities_is_refused(tmp_path):
    doc = spacy.blank("en")("Ada met Bo")
    doc.set_ents([doc.char_span(0, 3, "PER")])
    stored = srsly.msgpack_loads(zlib.decompress(spacy.tokens.DocBin(docs=[doc]).to_bytes()))
    tokens = bytearray(stored["tokens"])
    column = sorted(stored["attrs"]).index(spacy.attrs.ENT_IOB) if "attrs" in stored else 0
    tokens[8 * column] = 1  # the first token continues an entity
    stored["tokens"] = bytes(tokens)
    path = write(tmp_path, "a.spacy", zlib.compress(srsly.msgpack_dumps(stored)))
    assert_error(reading(path), path, "not a DocBin that spaCy can read")
