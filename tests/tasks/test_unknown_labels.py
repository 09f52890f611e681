"""Evaluation on rows with labels that the model does not know, and the metrics of tags that every word has."""

import json
from pathlib import Path
from typing import Any

import pytest
from data_files import assert_error
from headway.core.training.training_config import TrainConfig
from headway.tasks import TextClassification, TokenClassification
from headway.tasks.base.check import check_data
from headway.tasks.base.predictor import Predictor
from headway.ui.cli import main
from sklearn.metrics import f1_score

FAST = TrainConfig(max_steps=40, batch_size=8, learning_rate=5e-3, precision="fp32", device="cpu", save_steps=1000)
PETS = [{"text": f"the {pet} sat {i}", "label": pet} for i in range(12) for pet in ("cat", "dog")]
STRANGE = [{"text": f"the fox jumps {i}", "label": "fox"} for i in range(6)]
TAGS = {"the": "DET", "cat": "NOUN", "dog": "NOUN", "sat": "VERB", "jumps": "VERB", "quick": "ADJ", "my": "PRON"}


@pytest.fixture(scope="module")
def pets(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Predictor, Path]:
    output = tmp_path_factory.mktemp("pets") / "model"
    model = TextClassification().on(bert_folder)
    model.fit(PETS, output=output, eval_fraction=0, config=FAST)
    return model, output


def test_rows_with_unknown_labels_count_as_wrong(pets: tuple[Predictor, Path]):
    model, _ = pets
    assert model.evaluate(PETS).metrics["accuracy"] == 1
    found = model.evaluate(STRANGE + PETS)
    assert found.metrics["accuracy"] == pytest.approx(24 / 30)
    assert found.per_label[-1] == {"label": "fox", "precision": 0.0, "recall": 0.0, "f1": 0.0, "examples": 6}
    assert any(
        "6 of 30 rows have labels that the model does not know ('fox' 6): counted as wrong" in n for n in found.notes
    )
    assert found.metrics["loss"] == pytest.approx(model.evaluate(PETS).metrics["loss"], abs=1e-6)
    gold = [one.label for one in found.examples]
    assert found.metrics["f1"] == pytest.approx(
        f1_score(gold, [one.label for one in found.predictions], average="macro")
    )


def test_rows_with_unknown_labels_can_be_left_out_or_refused(pets: tuple[Predictor, Path]):
    model, _ = pets
    left = model.evaluate(STRANGE + PETS, unknown_labels="skip")
    assert left.metrics == model.evaluate(PETS).metrics
    assert (len(left.examples), len(left.per_label)) == (24, 2)
    assert any("6 of 30 rows" in note and "left out" in note for note in left.notes)
    assert_error(lambda: model.evaluate(STRANGE + PETS, unknown_labels="error"), "'fox'", "known labels")
    assert_error(lambda: model.evaluate(STRANGE, unknown_labels="skip"), "no row is left")
    assert_error(
        lambda: model.evaluate(PETS, unknown_labels="ignore"), "--unknown-labels ignore", "wrong, skip, error"
    )
    assert model.evaluate(STRANGE).metrics["accuracy"] == 0


def test_the_command_line_takes_unknown_labels(
    pets: tuple[Predictor, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    data = tmp_path / "data.csv"
    data.write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in STRANGE + PETS), "utf-8")
    command = ["evaluate", str(pets[1]), "--data", str(data), "--json"]
    for options, examples in (([], 30), (["--unknown-labels", "skip"], 24)):
        assert main([*command, *options]) == 0
        assert json.loads(capsys.readouterr().out)["examples"] == examples
    assert main([*command, "--unknown-labels", "error"]) == 2


def test_an_unknown_one_of_several_labels_is_a_miss(bert_folder: Path, tmp_path: Path):
    rows = [{**row, "label": [row["label"], "pet"]} for row in PETS]
    model = TextClassification().on(bert_folder)
    model.fit(rows, output=tmp_path / "out", eval_fraction=0, config=FAST)
    assert model.evaluate(rows).metrics["f1"] == 1
    strange = [{**row, "label": [*row["label"], "furry"]} for row in rows]
    found = model.evaluate(strange)
    assert (found.metrics["precision"], found.metrics["recall"]) == (1, pytest.approx(2 / 3))
    assert found.per_label[-1]["label"] == "furry"
    mixed = model.evaluate(strange[:5] + rows[5:])
    assert mixed.metrics["recall"] == pytest.approx(48 / 53)
    assert mixed.metrics["loss"] == pytest.approx(model.evaluate(rows[5:]).metrics["loss"])


def tagged(count: int, **more: str) -> list[dict[str, Any]]:
    words = [["the", "cat", "sat"], ["my", "dog", "jumps"], ["the", "quick", "dog", "sat"]]
    tags = {**TAGS, **more}
    return [{"tokens": words[i % 3], "tags": [tags[word] for word in words[i % 3]]} for i in range(count)]


@pytest.fixture(scope="module")
def tagger(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    model = TokenClassification().on(bert_folder)
    model.fit(tagged(30), output=tmp_path_factory.mktemp("tagger") / "model", eval_fraction=0, config=FAST)
    return model


def test_where_every_word_has_a_tag_accuracy_leads_and_entities_are_left_out(tagger: Predictor):
    found = tagger.evaluate(tagged(30, sat="NOUN"))  # 20 of 100 words are tagged otherwise
    assert list(found.metrics) == ["accuracy", "f1", "f1_weighted", "loss"]
    assert found.metrics["accuracy"] == pytest.approx(0.8)
    pairs = [
        pair
        for one, example in zip(found.predictions, found.examples, strict=True)
        for pair in zip(["NOUN" if word == "sat" else TAGS[word] for word in example.words], one.tags, strict=True)
    ]
    gold, predicted = zip(*pairs, strict=True)
    assert found.metrics["f1"] == pytest.approx(f1_score(gold, predicted, average="macro"))
    assert found.metrics["f1_weighted"] == pytest.approx(f1_score(gold, predicted, average="weighted"))
    by_tag = {row["label"]: row for row in found.per_label}
    assert by_tag["NOUN"]["words"] == 50
    assert by_tag["VERB"] == {
        "label": "VERB",
        "precision": pytest.approx(1 / 3),
        "recall": 1.0,
        "f1": 0.5,
        "words": 10,
    }


def test_an_unknown_tag_or_entity_type_counts_as_wrong(tagger: Predictor, bert_folder: Path, tmp_path: Path):
    assert tagger.evaluate(tagged(30, jumps="AUX")).metrics["accuracy"] == pytest.approx(0.9)
    assert len(tagger.evaluate(tagged(30, jumps="AUX"), unknown_labels="skip").examples) == 20
    names = [{"tokens": ["Ada", "lived", "in", "London"], "tags": ["B-PER", "O", "O", "B-LOC"]}] * 24
    model = TokenClassification().on(bert_folder)
    model.fit(names, output=tmp_path / "out", eval_fraction=0, config=FAST)
    assert model.evaluate(names).metrics["f1"] == 1
    found = model.evaluate([{**row, "tags": ["B-PER", "O", "O", "B-CITY"]} for row in names])
    assert (found.metrics["precision"], found.metrics["recall"]) == (0.5, 0.5)
    assert {row["label"]: row["entities"] for row in found.per_label} == {"LOC": 0, "PER": 24, "CITY": 24}


def csv_of(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows), "utf-8")
    return path


def test_rows_of_evaluation_data_with_labels_that_training_data_lacks_are_left_out_and_counted(
    bert_folder: Path, tmp_path: Path
):
    data, other = csv_of(tmp_path / "a.csv", PETS), csv_of(tmp_path / "b.csv", PETS + STRANGE)
    model = TextClassification().on(bert_folder)
    listed = tmp_path / "left_out.csv"
    prepared, *_, trained = model.train(data, other, output=tmp_path / "out", config=FAST, left_out=str(listed))
    assert any(
        "6 of 30 rows have labels that the training data does not have ('fox' 6): left out" in note
        for note in prepared.notes
    )
    assert (prepared.eval_examples, trained.metrics["accuracy"]) == (24, 1)
    reason = "with a label that the training data does not have"
    assert listed.read_text("utf-8").count(reason) == 6
    assert (tmp_path / "out" / "left_out.csv").read_text("utf-8").count(reason) == 6
    assert_error(lambda: model.fit(PETS, STRANGE, config=FAST), "no row is left", "'fox' 6")
    assert_error(lambda: model.fit(data, eval_data=other, strict=True, config=FAST), "'fox'", "b.csv, lines 26")


def test_the_check_counts_labels_of_evaluation_data_that_training_data_lacks(bert_folder: Path, tmp_path: Path):
    data, other = csv_of(tmp_path / "a.csv", PETS), csv_of(tmp_path / "b.csv", PETS + STRANGE)
    report = check_data(TextClassification(), data, other, model=bert_folder)
    found = [one for one in report.findings if "a label that the training data does not have" in one.message]
    assert [(one.level, len(one.places)) for one in found] == [("note", 6)]
    assert report.errors == ()
    assert check_data(TextClassification(), data, other, strict=True).errors


def test_an_unknown_tag_in_evaluation_data_leaves_its_row_out(bert_folder: Path):
    model = TokenClassification().on(bert_folder)
    trained = model.fit(tagged(30), eval_data=tagged(30, jumps="AUX"), config=FAST)
    assert trained.eval_examples == 20


def test_tags_that_every_word_has_are_counted_as_words(bert_folder: Path):
    prepared = next(iter(TokenClassification().on(bert_folder).train(tagged(3), config=FAST)))
    assert "5 tags, one on each of 10 words: NOUN 3, VERB 3, DET 2, PRON 1, ADJ 1" in prepared.notes
