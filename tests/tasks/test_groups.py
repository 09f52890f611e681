"""Equal texts and groups of rows stay on one side of the split into training and evaluation data."""

import random
from pathlib import Path
from typing import Any

import pytest
from data_files import assert_error
from headway.core.training.training_config import TrainConfig
from headway.tasks import FillMask, TextClassification, TokenClassification
from headway.tasks.base.results import Prepared
from headway.tasks.base.training_data import DataSource, read_labelled
from headway.tasks.data.groups import text_key

WORDS = ("cat", "dog", "fox", "mat", "program", "money", "card", "parcel")


def rows(count: int = 200, distinct: int = 60) -> list[dict[str, Any]]:
    """Rows whose texts repeat, in other case and spacing, by few authors."""
    chance = random.Random(0)
    texts = [f"the {chance.choice(WORDS)} and the {chance.choice(WORDS)} {i}" for i in range(distinct)]
    variants = [str, str.upper, str.title, lambda text: f" {text.replace(' ', '  ')}"]
    chosen = [chance.choice(texts) for _ in range(count)]
    return [
        {
            "text": chance.choice(variants)(text),
            "label": "ab"[len(text) % 2],
            "author": f"author {chance.randrange(30)}",
        }
        for text in chosen
    ]


def split(data: Any, **options: Any) -> tuple[list[Any], list[Any], list[str]]:
    """The examples for training and evaluation, and the notes."""
    found = read_labelled(DataSource(data, **options), TextClassification(), None)
    return found.train[1], found.evaluation[1] if found.evaluation else [], found.notes


@pytest.mark.parametrize("seed", range(3))
def test_equal_texts_are_on_one_side_of_the_split(seed: int):
    train, held_out, notes = split(rows(), seed=seed)
    assert 12 <= len(held_out) <= 28
    assert not {text_key(one) for one in train} & {text_key(one) for one in held_out}
    assert any("equal texts stay together" in note for note in notes)


def test_rows_of_one_group_are_on_one_side_of_the_split():
    data = rows(300, 300)
    train, held_out, notes = split(data, columns={"group": "author"})
    authors = [{data[one.row]["author"] for one in side} for side in (train, held_out)]
    assert not authors[0] & authors[1]
    assert len(authors[1]) > 1
    assert any('rows with the same "author" stay together' in note for note in notes)


def test_held_out_rows_with_the_texts_of_another_group_are_left_out_and_counted():
    data = [
        {"text": "thanks" if i % 10 == 9 else f"text {i}", "label": "ab"[i % 2], "author": i // 10} for i in range(300)
    ]
    train, held_out, notes = split(data, columns={"group": "author"})
    assert {text_key(one) for one in train} & {("thanks",)}
    assert not {text_key(one) for one in train} & {text_key(one) for one in held_out}
    assert (len(train), len(held_out)) == (270, 27)
    assert any("27 rows are held out" in note and "3 more are left out" in note for note in notes)


def test_rows_without_a_group_are_split_like_others():
    data = [{**row, "author": "one" if i < 5 else ""} for i, row in enumerate(rows(100, 1000))]
    _, held_out, _ = split(data, columns={"group": "author"})
    assert 8 <= len(held_out) <= 12


def test_the_column_of_groups_is_not_taken_for_a_text_or_a_label():
    data = [{"text": f"text {i}", "kind": f"a long text of words {i % 3}"} for i in range(30)]
    assert_error(lambda: split(data, columns={"group": "kind"}), "label")
    assert_error(lambda: split(data, columns={"group": "text", "text": "text"}), "--group", "--text")
    assert_error(lambda: split(data, columns={"group": "autor"}), "--group", "autor")


def test_if_all_rows_are_one_group_nothing_is_held_out_and_the_note_says_why():
    _, held_out, notes = split([{**row, "author": "one"} for row in rows()], columns={"group": "author"})
    assert held_out == []
    assert any('rows with the same "author" stay together, so no rows' in note for note in notes)


def test_groups_without_a_split_are_refused():
    assert_error(lambda: split(rows(), evaluation=rows(), columns={"group": "author"}), "--group", "--eval-data")
    assert_error(lambda: split(rows(), eval_fraction=0, columns={"group": "author"}), "--eval-fraction 0")


def test_groups_are_refused_where_whole_documents_are_held_out(bert_folder: Path, tmp_path: Path):
    model = FillMask().on(bert_folder)
    texts = [{"text": f"the cat {i}", "author": "a"} for i in range(30)]
    assert_error(
        lambda: model.fit(texts, output=tmp_path / "out", columns={"group": "author"}), "--group", "documents"
    )


def test_repeated_rows_are_reported_without_a_leak_that_the_split_would_make(bert_folder: Path, tmp_path: Path):
    config = TrainConfig(max_steps=1, device="cpu", precision="fp32")
    events = TextClassification().on(bert_folder).train(rows(), output=tmp_path / "out", config=config)
    prepared = next(event for event in events if isinstance(event, Prepared))
    assert "leak" not in {finding.kind for finding in prepared.report.findings}


def test_equal_sentences_with_tags_are_on_one_side():
    chance = random.Random(1)
    data = [
        {"tokens": ["the", chance.choice(WORDS), "in", "London"], "tags": ["O", "O", "O", "B-LOC"]} for _ in range(60)
    ]
    found = read_labelled(DataSource(data), TokenClassification(), None)
    assert found.evaluation is not None
    assert not {text_key(one) for one in found.train[1]} & {text_key(one) for one in found.evaluation[1]}
