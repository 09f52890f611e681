"""The published SQuAD 2.0: every answer is at its offset, and a model that knows all answers scores nearly 1."""

from pathlib import Path

import pytest
import torch
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks.data.features import group_windows
from headway.tasks.data.read import read_table
from headway.tasks.question_answering.question_answering import QuestionAnswering
from headway.tasks.question_answering.squad_file import squad_predictions

pytestmark = pytest.mark.realdata


def read(path: Path):
    task, table = QuestionAnswering(), read_table(path)
    columns = task.columns(table, {}, need_label=True)
    inferred, notes = task.infer_labels(table, columns)
    return inferred, inferred.examples(table, columns), notes


@pytest.fixture(scope="module")
def dev(data_folder):
    return read(data_folder / "squad2/dev.json")


@pytest.mark.parametrize(("name", "questions"), [("train", 9426), ("dev", 2447)])
def test_every_question_is_read_and_every_answer_is_at_its_offset(data_folder, name, questions):
    task, examples, notes = read(data_folder / f"squad2/{name}.json")
    assert task.says_none
    assert "have no answer" in notes[0]
    assert len({example.id for example in examples}) == len(examples) == questions
    assert {answer.problem for example in examples for answer in example.answers} == {None}
    for example in examples:
        for answer in example.answers:
            assert example.context[answer.start : answer.end] == answer.text.strip()


@pytest.mark.parametrize(
    ("vocabulary", "limit"),
    [("bert-base-uncased", 384), ("bert-base-uncased", 96), ("bert-base-cased", 128), ("gpt2", 128)],
)
def test_a_model_that_knows_every_answer_scores_nearly_one(dev, tokenizers_folder, vocabulary, limit):
    """Only answers that start or end inside a token, or are too long for a window, are missed."""
    task, examples, _ = dev
    examples = examples[:: 1 if limit == 384 else 5]
    tokenizer = Tokenizer.load(tokenizers_folder / vocabulary)
    features = task.encode(examples, tokenizer, limit)
    outputs = []
    for one in features:
        output = torch.zeros(len(one.input_ids), 2)
        output[one.target[0], 0] = output[one.target[1], 1] = 20
        outputs.append(output)
    predictions = task.decode(outputs, features)
    for example, prediction in zip(examples, predictions, strict=True):
        assert prediction.answer is None or example.context[prediction.start : prediction.end] == prediction.answer
    scores = task.score(predictions, examples)
    assert scores["no_answer_f1"] == 1.0
    assert scores["has_answer_f1"] > 0.995
    assert scores["has_answer_exact_match"] > 0.985
    missed = {
        example.id
        for example, windows in zip(examples, group_windows(features), strict=True)
        if any("missed" in warning.message for warning in task.warnings(example, windows))
    }
    assert len(missed) < 0.01 * len(examples)
    found = squad_predictions(predictions, examples)
    unanswered = {example.id for example in examples if example.answers and not found[example.id]}
    assert unanswered <= missed  # every lost answer is reported
