"""Training data is split into rows for training, for evaluation and for the test."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import assert_error, fuzzing
from headway.core.training.training_config import TrainConfig
from headway.tasks import FillMask, TextClassification
from headway.tasks.base.check import check_data
from headway.tasks.base.data_source import DataSource
from headway.tasks.base.results import Prepared, Trained
from headway.tasks.base.training_data import LabelledRows, read_labelled
from headway.tasks.data.groups import text_key
from headway.tasks.data.split import split_parts, split_rows
from hypothesis import given
from hypothesis import strategies as st

CONFIG = TrainConfig(max_steps=1, device="cpu", precision="fp32")


def rows(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"text": f"the cat {i}", "label": "abcd"[i % 20 % 4], **more} for i in range(count)]


def split(data: Any, **options: Any) -> LabelledRows:
    return read_labelled(DataSource(data, **options), TextClassification(), None)


def sizes(found: LabelledRows) -> tuple[int, int, int]:
    train, evaluation, test = (
        len(side.examples) if side else 0 for side in (found.train, found.evaluation, found.test)
    )
    return train, evaluation, test


@fuzzing
@given(
    st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 30)), min_size=2, max_size=80),
    st.floats(0.01, 0.45),
    st.floats(0.01, 0.45),
    st.integers(0, 9),
)
def test_three_parts_have_every_row_once_and_divide_no_group(found, first, second, seed):
    labels = np.array([label for label, _ in found])
    groups = np.unique([group for _, group in found], return_inverse=True)[1]
    train, parts = split_parts(labels, (first, second), seed, groups)
    assert sorted(train + parts[0] + parts[1]) == list(range(len(found)))
    sides = [set(groups[part].tolist()) for part in (train, *parts)]
    assert sum(map(len, sides)) == len(set.union(*sides))
    assert train
    assert split_parts(labels, (0.0, second), seed, groups) == (
        split_rows(labels, second, seed, groups)[0],
        [[], split_rows(labels, second, seed, groups)[1]],
    )


def test_from_two_thousand_rows_on_a_tenth_is_for_the_test_and_a_note_names_the_option():
    found = split(rows(2000))
    assert sizes(found) == (1600, 200, 200)
    assert found.test is not None
    assert Counter(one.label for one in found.test.examples) == dict.fromkeys("abcd", 50)
    assert found.notes[-1].startswith("200 rows are held out for evaluation and 200 for the test (--eval-fraction 0.1")
    assert "--test-fraction 0.1" in found.notes[-1]
    assert sizes(split(rows(1999))) == (1799, 200, 0)
    assert sizes(split(rows(2000), test_fraction=0)) == (1800, 200, 0)
    assert sizes(split(rows(2000), eval_fraction=0)) == (2000, 0, 0)
    assert sizes(split(rows(2000), evaluation=rows(30))) == (2000, 30, 0)


def test_without_a_test_the_evaluation_rows_are_those_of_a_split_in_two():
    data = rows(200)
    strata = np.array([ord(row["label"]) for row in data])
    found = split(data, seed=3)
    assert found.evaluation is not None
    assert [one.row for one in found.evaluation.examples] == split_rows(strata, 0.1, 3)[1]


def test_the_parts_may_be_fractions_files_or_both():
    assert sizes(split(rows(100), test_fraction=0.2)) == (70, 10, 20)
    assert sizes(split(rows(100), test_fraction=0.2, eval_fraction=0.2)) == (60, 20, 20)
    assert sizes(split(rows(100), test_fraction=0.2, eval_fraction=0)) == (80, 0, 20)
    assert sizes(split(rows(100), test=rows(30))) == (90, 10, 30)
    assert sizes(split(rows(100), evaluation=rows(40), test=rows(30))) == (100, 40, 30)
    assert sizes(split(rows(100), evaluation=rows(40), test_fraction=0.2)) == (80, 40, 20)
    assert sizes(split(rows(10), test_fraction=0.2)) == (10, 0, 0)


def test_equal_texts_and_groups_are_in_one_of_three_parts():
    chance = random.Random(0)
    data = [{**row, "text": f"the cat {chance.randrange(150)}", "author": chance.randrange(40)} for row in rows(600)]
    found = split(data, test_fraction=0.2, eval_fraction=0.2, columns={"group": "author"})
    assert found.evaluation is not None
    assert found.test is not None
    sides = [side.examples for side in (found.train, found.evaluation, found.test)]
    authors = [{data[one.row]["author"] for one in side} for side in sides]
    texts = [{text_key(one) for one in side} for side in sides]
    for kind in (authors, texts):
        assert not kind[0] & kind[1]
        assert not kind[0] & kind[2]
        assert not kind[1] & kind[2]


def test_groups_too_large_for_three_parts_leave_two_unless_a_test_is_asked_for():
    data = [{**row, "author": i // 700} for i, row in enumerate(rows(2100))]
    assert sizes(split(data, columns={"group": "author"}))[2] == 0
    assert sizes(split(data, columns={"group": "author"}, test_fraction=0.1))[2] == 700


def test_class_weights_and_shares_are_those_of_the_training_rows_alone():
    data = [{"text": f"the cat {i}", "label": ["a"] if i % 10 else ["a", "b"]} for i in range(100)]
    found = split(data, test_fraction=0.3, eval_fraction=0.3)
    task = found.task
    assert isinstance(task, TextClassification)
    number = sum("b" in one.label for one in found.train.examples)
    assert task.shares[task.labels.index("b")] == pytest.approx((number + 0.5) / (len(found.train.examples) + 1))


def test_fractions_that_leave_no_rows_and_options_without_effect_are_named():
    assert_error(lambda: split(rows(100), eval_fraction=0.5, test_fraction=0.5), "--eval-fraction", "--test-fraction")
    assert_error(lambda: split(rows(100), test_fraction=1.5), "--test-fraction 1.5")
    assert_error(lambda: split(rows(100), test_fraction=-0.1), "--test-fraction -0.1")
    notes = split(rows(100), test=rows(10), test_fraction=0.2).notes
    assert any("--test-fraction 0.2 has no effect beside --test-data" in note for note in notes)


def test_a_test_file_with_texts_of_the_other_parts_is_a_warning(bert_folder: Path):
    task, data = TextClassification(), rows(100)
    unseen = [{**row, "text": f"the dog {i}"} for i, row in enumerate(rows(10))]
    for fraction in (0.0, 0.1):
        events = task.on(bert_folder).train(
            data, test_data=[*unseen, *data[:3]], eval_fraction=fraction, config=CONFIG
        )
        prepared = next(event for event in events if isinstance(event, Prepared))
        assert (prepared.test_examples, prepared.report.test_examples) == (13, 13)
        (leak,) = [one for one in prepared.report.findings if one.kind == "leak"]
        assert leak.message.startswith("3 of 13 test texts are also in the training or evaluation data")
    report = check_data(task, data, None, [*unseen, *data[:3]])
    assert report.test_examples == 13
    assert "leak" in {one.kind for one in report.findings}
    assert "leak" not in {one.kind for one in check_data(task, data, None, unseen).findings}


def test_texts_without_labels_have_a_test_part_too(bert_folder: Path):
    texts = [f"the cat sat on the mat {i}" for i in range(200)]
    model = FillMask().on(bert_folder)
    events = list(model.train(texts, test_fraction=0.2, eval_fraction=0.2, config=CONFIG))
    prepared, trained = events[0], events[-1]
    assert isinstance(prepared, Prepared)
    assert isinstance(trained, Trained)
    assert prepared.examples + prepared.eval_examples + prepared.test_examples == 200
    assert min(prepared.eval_examples, prepared.test_examples) > 20
    assert trained.metrics_from == "test"
    again = list(model.train(texts[:100], test_data=texts[100:], eval_fraction=0, config=CONFIG))[-1]
    assert isinstance(again, Trained)
    assert (again.test_examples, again.eval_examples, again.metrics_from) == (100, 0, "test")
