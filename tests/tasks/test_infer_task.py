"""The inference of the task from the columns of a file."""

import pytest
from headway.tasks import read_table
from headway.tasks.infer_task import infer_task
from headway.tasks.samples import FOLDER

TEXTS = ["a lovely film", "a dull film", "what a walk", "such a book"]


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("messages.csv", "text-classification"),
        ("topics.csv", "text-classification"),
        ("pairs.csv", "text-classification"),
        ("entities.conll", "token-classification"),
        ("questions.json", "question-answering"),
        ("endings.csv", "multiple-choice"),
        ("gaps.csv", "fill-mask"),
        ("requests.csv", "text-to-text"),
    ],
)
def test_the_task_of_each_sample_is_inferred(name, task):
    found = infer_task(read_table(FOLDER / name))
    assert found.task == task
    assert found.why


@pytest.mark.parametrize(
    ("columns", "task"),
    [
        ({"text": TEXTS * 5, "label": ["good", "bad"] * 10}, "text-classification"),
        ({"word": ["carp", "oak", "pike", "elm"] * 5, "label": ["fish", "tree"] * 10}, "text-classification"),
        ({"text": TEXTS * 5, "stars": [1, 2, 3, 4] * 5}, "text-classification"),
        ({"sentence1": TEXTS, "sentence2": TEXTS[::-1], "score": [0.5, 1.5, 2.2, 4.7]}, "sentence-similarity"),
        ({"sentence1": TEXTS, "sentence2": TEXTS[::-1]}, "sentence-similarity"),
        ({"question": TEXTS, "answer": TEXTS[::-1]}, "sentence-similarity"),
        ({"source": TEXTS, "target": TEXTS[::-1]}, "text-to-text"),
        ({"source": TEXTS * 5, "target": ["good", "bad"] * 10}, "text-classification"),
        ({"input": TEXTS * 5, "output": ["good", "bad"] * 10}, "text-classification"),
        ({"text": ["Ada wrote"] * 9, "entities": [[[0, 3, "PER"]]] * 9}, "token-classification"),
        ({"tokens": [["Ada", "wrote"]] * 9, "ner_tags": [["B-PER", "O"]] * 9}, "token-classification"),
        (
            {"text": TEXTS * 3, "label": ["good"] * 12},
            "text-classification",
        ),  # the check reports that one label is too few
        ({"text": TEXTS * 3, "mood": ["good"] * 12}, "fill-mask"),  # one label: neither pairs nor classes
        ({"0": TEXTS * 3, "1": ["very good"] * 12}, "fill-mask"),
        (
            {"question": TEXTS, "A": list("abcd"), "B": list("bcde"), "C": list("cdef"), "answer": list("ABCA")},
            "multiple-choice",
        ),
        (
            {"sent1": TEXTS, "sent2": ["he"] * 4, "ending0": TEXTS, "ending1": TEXTS[::-1], "label": [0, 1, 1, 0]},
            "multiple-choice",
        ),
        ({"text": TEXTS * 5, "options": ["no", "yes"] * 10, "label": ["good", "bad"] * 10}, "text-classification"),
        ({"text": TEXTS}, "fill-mask"),
        ({"a": ["1", "2"], "b": ["3", "4"]}, "text-classification"),  # no rule applies: the user chooses
    ],
)
def test_the_task_is_inferred_from_the_columns(columns, task):
    assert infer_task(read_table(columns)).task == task
