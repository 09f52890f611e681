"""CoNLL-U files become sentences with their columns by name; parts of speech are classes, not entities."""

from pathlib import Path

import pytest
from data_files import assert_error, reading, write
from headway.core.errors import HeadwayError
from headway.core.training.training_config import TrainConfig
from headway.tasks import TokenClassification
from headway.tasks.base.check import check_data
from headway.tasks.data.read import read_table
from headway.tasks.tagging.predictions import EntitiesPrediction

FAST = TrainConfig(max_steps=40, batch_size=8, learning_rate=5e-3, precision="fp32", device="cpu", save_steps=1000)
SPANISH = """\
# newdoc id = letters
# sent_id = letters-1
# text = Vámonos al mar.
1-2	Vámonos	_	_	_	_	_	_	_	_
1	Vamos	ir	VERB	V	Mood=Imp|Number=Plur	0	root	0:root	_
2	nos	nosotros	PRON	P	_	1	obj	1:obj	_
3-4	al	_	_	_	_	_	_	_	_
3	a	a	ADP	E	_	5	case	5:case	_
4	el	el	DET	RD	Definite=Def	5	det	5:det	_
5	mar	mar	NOUN	S	Number=Sing	1	obl	1:obl	SpaceAfter=No
6	.	.	PUNCT	FS	_	1	punct	1:punct	_
"""
GAPPED = """\
# sent_id = letters-2
1	Sue	Sue	PROPN	S	Number=Sing	2	nsubj	_	_
2	bakes	bake	VERB	V	_	0	root	_	_
3	apple	apple	NOUN	S	Number=Sing	4	compound	_	_
4	pies	pie	NOUN	S	Number=Plur	2	obj	_	SpaceAfter=No
5	,	,	PUNCT	FS	_	6	punct	_	_
6	Bill	Bill	PROPN	S	Number=Sing	2	conj	_	_
6.1	bakes	bake	VERB	V	_	_	_	2:conj	_
7	_	_	SYM	_	_	6	orphan	_	_
"""
BOTH = f"{SPANISH}\n{GAPPED}\n"


@pytest.mark.parametrize("name", ["a.conllu", "a.conll", "a.txt", "a"])
def test_the_columns_have_their_names_and_only_words_are_rows(tmp_path, name):
    table = read_table(write(tmp_path, name, BOTH))
    assert table.kind == "CoNLL-U"
    assert table.columns[:4] == ("id", "form", "lemma", "upos")
    first, second = table.rows
    assert first["form"] == ["Vamos", "nos", "a", "el", "mar", "."]
    assert first["head"] == ["0", "1", "5", "5", "1", "1"]
    assert first["feats"][0] == "Mood=Imp|Number=Plur"
    assert second["id"] == list("1234567")  # without the empty node 6.1
    assert second["form"][-1] == "_"
    assert [row["sent_id"] for row in table.rows] == ["letters-1", "letters-2"]


def test_the_text_is_that_of_the_comment_or_put_together_from_the_words(tmp_path):
    for content in (SPANISH, SPANISH.replace("# text", "# text_en")):
        assert read_table(write(tmp_path, "a.conllu", content)).rows[0]["text"] == "Vámonos al mar."
    assert read_table(write(tmp_path, "a.conllu", GAPPED)).rows[0]["text"] == "Sue bakes apple pies, Bill _"


def test_a_sentence_of_empty_nodes_alone_is_no_row(tmp_path):
    empty = "0.1\tgo" + "\t_" * 8 + "\n"
    table = read_table(write(tmp_path, "a.conllu", f"{empty}\n{SPANISH}\n{empty}"))
    assert [row["sent_id"] for row in table.rows] == ["letters-1"]


def test_a_line_that_is_no_word_is_an_error_with_its_place(tmp_path):
    path = write(tmp_path, "a.conllu", BOTH.replace("2\tbakes", "two\tbakes"))
    assert_error(reading(path), f"{path}, line 15", '"two"', "number of its word")
    path = write(tmp_path, "b.conllu", BOTH.replace("\tSue\tSue", "\tSue"))
    assert_error(reading(path), f"{path}, line 14", "9 columns where 10")


def labels_of(path: Path, label: str | None = None) -> tuple[TokenClassification, list[str]]:
    table = read_table(path)
    columns = TokenClassification().columns(table, {"label": label}, need_label=True)
    task, notes = TokenClassification().infer_labels(table, columns)
    return task, [*columns.notes, *notes]


def test_parts_of_speech_are_the_default_and_the_note_names_the_other_columns(tmp_path):
    task, notes = labels_of(write(tmp_path, "a.conllu", BOTH))
    assert task.tags_every_word
    assert "NOUN" in task.labels
    assert 'text: column "form" (by name)' in notes
    assert 'label: column "upos" (--label xpos or feats or deprel reads another column)' in notes
    without = "\n".join(
        "\t".join([*c[:3], "_", *c[4:]]) if len(c := line.split("\t")) > 1 else line for line in BOTH.split("\n")
    )
    assert any('label: column "xpos"' in note for note in labels_of(write(tmp_path, "b.conllu", without))[1])


def test_tags_of_one_letter_are_classes_and_words_without_a_tag_are_skipped(tmp_path):
    """S and E are the nouns and prepositions of some Italian treebanks, and prefixes of entity tags elsewhere."""
    path = write(tmp_path, "a.conllu", BOTH)
    task, _ = labels_of(path, "xpos")
    assert task.scheme == "IO"
    assert task.labels == ("E", "FS", "P", "RD", "S", "V")
    table = read_table(path)
    columns = task.columns(table, {"label": "xpos"}, need_label=True)
    assert task.examples(table, columns)[1].ignored == (6,)
    warned = [
        finding.message for finding in check_data(TokenClassification(), path, columns={"label": "xpos"}).findings
    ]
    assert any("a word has no tag" in message for message in warned)


def test_no_morphological_features_are_a_class(tmp_path):
    path = write(tmp_path, "a.conllu", BOTH)
    task, _ = labels_of(path, "feats")
    assert "_" in task.labels
    assert task.tags_every_word
    table = read_table(path)
    (_, example) = task.examples(table, task.columns(table, {"label": "feats"}, need_label=True))
    assert (example.gold or ())[1:3] == ("_: bakes", "Number=Sing: apple")
    assert (example.gold or ())[-2:] == ("Number=Sing: Bill", "_: _")


def test_equal_neighbours_are_two_words_and_not_one_entity(tmp_path):
    path = write(tmp_path, "a.conllu", BOTH)
    task, _ = labels_of(path)
    table = read_table(path)
    (_, example) = task.examples(table, task.columns(table, {}, need_label=True))
    assert (example.gold or ())[2:4] == ("NOUN: apple", "NOUN: pies")


def test_rows_with_words_and_parts_of_speech_are_read_like_the_file():
    rows = [{"tokens": ["Sue", "bakes"], "lemmas": ["Sue", "bake"], "upos": ["PROPN", "VERB"], "head": ["2", "0"]}] * 9
    columns = TokenClassification().columns(read_table(rows), {}, need_label=True)
    assert (columns.texts["text"], columns.label) == ("tokens", "upos")


def test_heads_are_refused_as_tags(tmp_path):
    with pytest.raises(HeadwayError, match=r"numbers of words, which are not tags.*upos.*--structure"):
        labels_of(write(tmp_path, "a.conllu", BOTH), "head")


def test_a_tagger_is_trained_evaluated_and_used_on_the_columns_it_was_trained_on(bert_folder, tmp_path):
    path = write(tmp_path, "a.conllu", BOTH * 12)
    model = TokenClassification().on(bert_folder)
    model.fit(path, columns={"label": "xpos"}, output=tmp_path / "model", eval_fraction=0, config=FAST)
    found = model.evaluate(path)
    assert list(found.metrics)[:3] == ["accuracy", "f1", "f1_weighted"]
    assert sum(row["words"] for row in found.per_label) == 12 * (6 + 6)  # all but the word without a tag
    *_, (_, predicted) = model.predict_rows(path)
    assert isinstance(predicted, EntitiesPrediction)
    assert predicted.words == ("Sue", "bakes", "apple", "pies", ",", "Bill", "_")
    assert len(predicted.entities) == 7
