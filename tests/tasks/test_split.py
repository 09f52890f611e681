"""Random splits of rows, stratified by label and by group."""

import random
from collections import Counter

import pytest
from data_files import assert_error, fuzzing
from headway.tasks.data.split import split_rows
from hypothesis import given
from hypothesis import strategies as st

labels_given = st.lists(
    st.none() | st.integers(0, 4) | st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=60
)


@fuzzing
@given(labels=labels_given, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 5))
def test_a_split_uses_every_row_once_and_leaves_every_class_in_train(labels, fraction, seed):
    train, held_out = split_rows(labels, fraction, seed)
    assert sorted(train + held_out) == list(range(len(labels)))
    assert train == sorted(train)
    assert held_out == sorted(held_out)
    assert train
    assert len(held_out) <= max(1, round(len(labels) * fraction))
    kept = {labels[row] for row in train}
    assert all(label in kept for label, times in Counter(labels).items() if times > 1 and label is not None)
    assert split_rows(labels, fraction, seed) == (train, held_out)


def test_a_split_keeps_the_label_proportions():
    labels = ["a"] * 700 + ["b"] * 200 + ["c"] * 100
    random.Random(1).shuffle(labels)
    train, held_out = split_rows(labels, 0.1, 3)
    assert Counter(labels[row] for row in held_out) == {"a": 70, "b": 20, "c": 10}
    assert len(train) == 900
    assert split_rows(labels, 0.1, 4)[1] != held_out


def test_a_label_that_occurs_once_stays_in_train_unless_most_do():
    _, held_out = split_rows(["a"] * 9 + ["b"] * 10 + ["rare"], 0.5, 0)
    assert 19 not in held_out
    train, held_out = split_rows([number / 7 for number in range(100)], 0.2, 0)
    assert (len(train), len(held_out)) == (80, 20)
    assert max(held_out) > 60


@fuzzing
@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 12)), min_size=2, max_size=60),
    st.floats(0.01, 0.9),
    st.integers(0, 9),
)
def test_rows_of_a_group_stay_on_the_same_side_of_a_split(rows, fraction, seed):
    labels, groups = [label for label, _ in rows], [group or None for _, group in rows]
    train, held_out = split_rows(labels, fraction, seed, groups)
    assert sorted(train + held_out) == list(range(len(rows)))
    assert not {groups[row] for row in train} & {groups[row] for row in held_out} - {None}
    assert {labels[row] for row in train} >= {label for label in ("a", "b") if labels.count(label) > 1}
    assert split_rows(labels, fraction, seed, groups) == (train, held_out)


def test_a_split_of_groups_keeps_the_label_proportions():
    chance = random.Random(0)
    groups = [f"text {chance.randrange(400)}" for _ in range(4000)]
    labels = [chance.choice("aaab") for _ in groups]
    _, held_out = split_rows(labels, 0.1, 3, groups)
    counts, all_of = Counter(labels[row] for row in held_out), Counter(labels)
    assert {label: counts[label] / all_of[label] for label in "ab"} == pytest.approx({"a": 0.1, "b": 0.1}, abs=0.01)
    assert split_rows(labels, 0.1, 4, groups)[1] != held_out


def test_the_smallest_group_is_held_out_if_all_are_too_large_and_none_if_there_is_only_one():
    labels, groups = ["a", "b"] * 12, ["long"] * 14 + ["short"] * 10
    assert split_rows(labels, 0.05, 0, groups)[1] == list(range(14, 24))
    assert split_rows(labels, 0.05, 0, ["one"] * 24) == (list(range(24)), [])


def test_groups_of_one_row_are_split_as_without_groups():
    labels = ["a"] * 30 + ["b"] * 10
    assert split_rows(labels, 0.2, 5, list(range(40))) == split_rows(labels, 0.2, 5)


def test_one_row_cannot_be_split():
    assert_error(lambda: split_rows(["a"], 0.5, 0), "One row", "--eval-data")
    with pytest.raises(ValueError, match="fraction"):
        split_rows(["a", "b"], 1.0, 0)
