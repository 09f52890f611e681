"""Tags for words outside of entities that are not written O are recognized, reported and can be named."""

import pytest
from data_files import write
from headway.core.errors import HeadwayError
from headway.tasks.base.check import check_data
from headway.tasks.data.read import read_table
from headway.tasks.tagging.outside_tags import infer_outside_tags
from headway.tasks.tagging.tagging import TokenClassification


@pytest.mark.parametrize("mark", ["_", "-", "0", "B-O", "I-O", "none", "OTHER", "o"])
@pytest.mark.parametrize("with_o", [True, False])
def test_a_mark_beside_tags_with_prefixes_is_outside(mark, with_o):
    tags = ["B-PER", "I-PER", mark, mark] + ["O"] * with_o
    assert infer_outside_tags(tags) == {mark}


@pytest.mark.parametrize(
    ("tags", "outside"),
    [
        (["PER", "0", "LOC", "0", "0"], {"0"}),
        (["PER", "0", "LOC", "O", "O"], {"0"}),
        (["PER", "_", "LOC", "_", "_"], {"_"}),
        (["NOUN", "VERB", "NOUN", "-", "DET", "NOUN"], set()),  # a part of speech
        (["0", "1", "2", "0"], set()),  # numbers of tags
        (["B-PER", "0", "1"], set()),
        (["O", "B-PER", "B-LOC"], set()),
        (["OTHER", "PER", "O"], set()),  # a type
        (["B-O", "I-O", "O"], set()),  # the only type
        (["_", "_"], set()),
    ],
)
def test_what_may_be_a_type_or_a_number_is_not_outside(tags, outside):
    assert infer_outside_tags(tags) == outside


def test_tags_with_given_names_are_not_outside():
    assert infer_outside_tags(["B-PER", "0", "_"], ["_", "B-PER"]) == frozenset()


def _infer(path, task=None):
    task = task or TokenClassification()
    table = read_table(path)
    columns = task.columns(table, {}, need_label=True)
    learnt, notes = task.infer_labels(table, columns)
    return learnt, notes, learnt.examples(table, columns)


def test_a_zero_is_read_as_o_and_reported_with_its_place(tmp_path):
    path = write(tmp_path, "a.conll", "Ada\tPER\nsat\t0\n\nRome\tLOC\nis\t0\nold\t0\n")
    task, notes, examples = _infer(path)
    assert task.labels == ("O", "LOC", "PER")
    assert [example.labels for example in examples] == [("PER",), ("LOC",)]
    (note,) = [note for note in notes if "--outside-tag" in note]
    assert note.startswith('"0" (zero) is read as O, outside of entities: 3 words')
    assert f"{path}, line 1, word 2 ('sat')" in note


def test_the_outside_tag_can_be_named(tmp_path):
    path = write(tmp_path, "a.conll", "Ada\tB-PER\nsat\tX\n.\t_\n")
    with pytest.raises(HeadwayError, match='the tag "X" has no prefix'):
        _infer(path)
    content = "Ada\tB-PER\nsat\tnix\n.\tnix\n"
    task, notes, _ = _infer(write(tmp_path, "b.conll", content), TokenClassification(outside_tag="nix"))
    assert task.labels == ("O", "B-PER", "I-PER")
    assert any(note.startswith('"nix" is read as O') for note in notes)
    with pytest.raises(HeadwayError, match="--outside-tag nixx: no word"):
        _infer(tmp_path / "b.conll", TokenClassification(outside_tag="nixx"))
    assert task.reset().outside_tag == "nix"


def test_a_wrong_tag_is_one_finding_with_all_its_places(tmp_path):
    path = write(tmp_path, "a.conll", "Ada\tB-PER\nsat\tO\n.\tX\n\nBo\tB-PER\nran\tX\n\nHi\tO\n")
    errors = [finding for finding in check_data(TokenClassification(), path).errors if '"X"' in finding.message]
    assert len(errors) == 1
    assert errors[0].places == (f"{path}, line 1", f"{path}, line 5")


def test_the_only_column_of_entity_tags_is_the_label_whatever_its_name(tmp_path):
    rest = "NOUN\t_\t_\t0\troot\t_"
    content = f"1\tAda\tada\t{rest}\tB-PER\n2\tsat\tsit\t{rest}\t_\n\n" * 2
    task, notes, _ = _infer(write(tmp_path, "a.conllu", content))
    assert task.types == ("PER",)
    assert 'label: column "misc" (its values are B- and I- tags)' in (
        TokenClassification().columns(read_table(tmp_path / "a.conllu"), {}, need_label=True).notes
    )
    assert any(note.startswith('"_" is read as O') for note in notes)


def test_a_second_column_of_entity_tags_is_reported(tmp_path):
    table = read_table(write(tmp_path, "a.conll", "Ada B-NP B-PER\nsat O O\n\nHi O O\n"))
    columns = TokenClassification().columns(table, {}, need_label=True)
    assert columns.label == "ner_tags"
    assert any('"column_1" too (--label column_1' in note for note in columns.notes)


def test_iob1_is_recognized_and_explained(tmp_path):
    path = write(tmp_path, "a.conll", "Ada\tI-PER\nBo\tB-PER\nsat\tO\n\nRome\tI-LOC\n")
    task, notes, examples = _infer(path)
    assert task.scheme == "IOB1"
    assert any(note.startswith("IOB1: an entity begins with I-") for note in notes)
    assert examples[0].gold == ("PER: Ada", "PER: Bo")
