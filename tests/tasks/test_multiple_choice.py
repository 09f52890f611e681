"""Multiple choice: the formats of choices and labels, probabilities over the choices of each example, windows."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from data_files import assert_error
from headway.core.errors import HeadwayError
from headway.tasks import MultipleChoice, load, read_table
from headway.tasks.base.check import check_data
from headway.tasks.data.features import group_windows
from headway.tasks.multiple_choice.choices import find_series, join_choices, parse_choices, series
from headway.tasks.multiple_choice.encoding import choice_targets, log_probabilities

SWAG = [
    {
        "sent1": "She sat.",
        "sent2": "The cat",
        "ending0": "jumps.",
        "ending1": "wrote.",
        "ending2": "is late.",
        "label": 0,
    },
    {"sent1": "He wrote.", "sent2": "The fox", "ending0": "sat.", "ending1": "jumps.", "ending2": "", "label": 1},
]


def examples(rows, task=None, **columns):
    """The examples of rows, and what was inferred."""
    task, table = task or MultipleChoice(), read_table(rows)
    mapping = task.columns(table, columns, need_label=True)
    task, notes = task.infer_labels(table, mapping)
    return task, task.examples(table, mapping), [*mapping.notes, *notes]


def test_the_layout_of_swag_is_read():
    task, found, notes = examples(SWAG)
    assert [(one.context, one.question, one.choices, one.answer) for one in found] == [
        ("She sat.", "The cat", ("jumps.", "wrote.", "is late."), 0),
        ("He wrote.", "The fox", ("sat.", "jumps."), 1),  # the number of choices may differ
    ]
    assert "choices: 3 columns, ending0 to ending2 (--choices names the first one)" in notes
    assert any("2 to 3 choices; the label is its number, from 0" in note for note in notes)
    assert [field.name for field in task.fields] == ["context", "choices", "question"]


@pytest.mark.parametrize(
    ("row", "choices", "answer"),
    [
        ({"question": "who?", "choices": ["a cat", "a dog"], "label": "a dog"}, ("a cat", "a dog"), 1),
        ({"question": "who?", "choices": '["a cat", "a dog"]', "answer": 1}, ("a cat", "a dog"), 1),
        ({"question": "who?", "choices": "['a cat', 'a dog']", "answer": "B"}, ("a cat", "a dog"), 1),
        ({"question": "who?", "choices": "a cat\na dog | a fox", "label": "1"}, ("a cat", "a dog | a fox"), 1),
        ({"question": "who?", "choices": "a cat | a dog", "label": "b"}, ("a cat", "a dog"), 1),
        (
            {"question": "who?", "choices": {"text": ["a cat", "a dog"], "label": ["1", "2"]}, "answerKey": "2"},
            ("a cat", "a dog"),
            1,
        ),
        (
            {"question_stem": "who?", "choices": [{"label": "C", "text": "a cat"}, {"label": "D", "text": "a dog"}],
             "answerKey": "D"},
            ("a cat", "a dog"),
            1,
        ),
        ({"question": "who?", "A": "a cat", "B": "a dog", "C": "fox", "answer": "C"}, ("a cat", "a dog", "fox"), 2),
        ({"premise": "why?", "choice1": "a cat", "choice2": "a dog", "label": 1}, ("a cat", "a dog"), 1),
        ({"sentence": "why?", "option1": "a cat", "option2": "a dog", "answer": "2"}, ("a cat", "a dog"), 1),
        ({"context": "why?", "answer_a": "a cat", "answer_b": "a dog", "label": 2.0}, ("a cat", "a dog"), 1),
        ({"context": "why?", "choices": "a cat|a dog", "label": "2.0"}, ("a cat", "a dog"), 1),
        ({"question": "who?", "choices": ["1", "2", "0"], "label": "2"}, ("1", "2", "0"), 1),  # texts before numbers
    ],
)  # fmt: skip
def test_every_format_of_choices_and_labels_is_read(row, choices, answer):
    _, (found,), _ = examples([row])
    assert (found.choices, found.answer) == (choices, answer)


def test_a_question_beside_an_article_is_read_before_each_choice(bert_folder):
    row = {"article": "the cat sat", "question": "who sat?", "options": ["the cat", "the dog"], "answer": "A"}
    task, found, _ = examples([row])
    assert (found[0].context, found[0].question, found[0].group) == ("the cat sat", "who sat?", "the cat sat")
    model = task.on(bert_folder)
    features = task.encode(found, model.tokenizer, model.limit)
    theirs = transformers.AutoTokenizer.from_pretrained(bert_folder)
    assert [one.input_ids for one in features] == [
        theirs("the cat sat", f"who sat? {choice}")["input_ids"] for choice in row["options"]
    ]


def test_two_readings_of_a_label_are_both_named_and_an_option_chooses():
    rows = [{"question": "who?", "choices": ["a cat", "a dog", "a fox"], "label": label} for label in (1, 2, 1)]
    _, found, notes = examples(rows)
    assert [one.answer for one in found] == [1, 2, 1]
    assert "its number, from 0" in notes[-1]
    assert "its number, from 1 is possible as well (--answer-as from-1)" in notes[-1]
    _, found, _ = examples(rows, MultipleChoice(answer_as="from-1"))
    assert [one.answer for one in found] == [0, 1, 0]
    _, _, notes = examples([*rows, {**rows[0], "label": 0}])
    assert "possible as well" not in notes[-1]


def test_a_label_is_read_as_in_the_training_data_if_both_ways_fit():
    rows = [{"question": "who?", "choices": ["a cat", "a dog", "a fox"], "label": label} for label in (1, 2, 3)]
    task, _, _ = examples(rows)
    table = read_table(rows[:2])
    assert [one.answer for one in task.examples(table, task.columns(table, {}, need_label=True))] == [0, 1]


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ({"choices": ["a cat"], "label": 0}, ["one choice ('a cat')", "at least two are needed", "Write a list"]),
        ({"choices": "a cat, a dog", "label": 0}, ["one choice ('a cat, a dog')", "one choice per line"]),
        ({"choices": ["a cat", ""], "label": 0}, ["a choice is empty"]),
        ({"choices": 7, "label": 0}, ["these are not choices: 7"]),
        (
            {"choices": ["a cat", "a dog"], "label": 7},
            ["label 7 does not", "2 choices (a cat | a dog)", "--answer-as"],
        ),
        ({"choices": ["a cat", "a dog"], "label": "a fox"}, ["'a fox' does not name one of the 2 choices"]),
    ],
)
def test_a_row_that_cannot_be_used_is_named(row, parts):
    good = {"question": "who?", "choices": ["a cat", "a dog"], "label": 0}
    rows = [good, {**good, "label": 1}, {"question": "who?", **row}, good]
    assert_error(lambda: examples(rows), "row 3", *parts)
    (finding,) = [one for one in check_data(MultipleChoice(), rows).findings if one.level == "error"]
    assert all(part in finding.message for part in parts)


def test_columns_of_a_letter_or_number_are_choices_only_if_they_continue():
    assert series(["x", "Ending_0", "Ending_1", "Ending_3"], "Ending_0") == ("Ending_0", "Ending_1")
    assert series(["choices", "label"], "choices") == ("choices",)
    assert find_series(["a", "b"]) is None
    assert find_series(["0", "1", "2", "3"]) is None  # a table without a header
    assert find_series(["A", "B", "C"]) == "A"


@pytest.mark.parametrize(
    "choices", [("a", "b"), ("a | b", "c"), ("a\nb", "c"), ('["x"]', "y"), ("[1", "2]"), (" a", "")]
)
def test_choices_as_a_text_are_divided_again(choices):
    assert parse_choices(join_choices(choices)) == choices


def test_probabilities_are_a_softmax_over_the_choices_of_each_example_after_averaging_windows(bert_folder):
    rows = [
        {"context": "the cat sat " * 40, "choices": ["the mat", "the dog", "my card"], "label": 2},
        {"context": "the fox", "choices": ["jumps", "sat"], "label": 0},
    ]
    task, found, _ = examples(rows)
    model = task.on(bert_folder)
    features = task.encode(found, model.tokenizer, model.limit)
    windows = [sum(one.example == 0 and one.text_index == i for one in features) for i in range(3)]
    assert min(windows) > 1
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(len(features), 1, generator=generator) * 3
    targets = choice_targets(features)
    parts = outputs[:, 0].split([*windows, 1, 1])
    logits = torch.stack([part.mean() for part in parts])
    expected = [logits[:3].log_softmax(0), logits[3:].log_softmax(0)]
    torch.testing.assert_close(log_probabilities(outputs, targets), torch.cat(expected))
    loss, count = task.loss(outputs, targets)
    assert loss.item() == pytest.approx(-(expected[0][2] + expected[1][0]).item(), abs=1e-5)
    assert count == 2
    (first, second) = task.decode(list(outputs), features)
    assert first.scores == pytest.approx(expected[0].exp().tolist(), abs=1e-6)
    assert second.index == int(logits[3:].argmax())
    assert second.label == ["jumps", "sat"][second.index]
    assert len(group_windows(features)) == 2


def test_the_loss_and_its_gradient_are_finite_for_huge_logits(bert_folder):
    task, found, _ = examples([{"context": "a", "choices": ["b", "c"], "label": 0}])
    model = task.on(bert_folder)
    targets = choice_targets(task.encode(found, model.tokenizer, model.limit))
    outputs = torch.tensor([[-1e4], [1e4]], requires_grad=True)
    loss, _ = task.loss(outputs, targets)
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert outputs.grad is not None
    assert outputs.grad.flatten().tolist() == [-1, 1]


@pytest.fixture(scope="module")
def trained(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("choices") / "model"
    rows = [{**row, "label": label} for row in SWAG for label in (0, 1)]
    MultipleChoice().on(bert_folder).fit(
        rows, output=output, eval_fraction=0, max_steps=3, precision="fp32", device="cpu", progress=False
    )
    return output


def test_predictions_equal_those_of_transformers(trained):
    model = load(trained)
    theirs = transformers.AutoModelForMultipleChoice.from_pretrained(trained).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained)
    choices = ["jumps over the dog", "sat", "wrote the first program"]
    inputs = tokenizer(["the cat"] * 3, [f"the fox {one}" for one in choices], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = theirs(**{name: value[None] for name, value in inputs.items()}).logits
    expected = logits[0].softmax(0).tolist()
    found = model.predict(("the cat", choices, "the fox"))
    assert found.scores == pytest.approx(expected, abs=1e-5)
    assert (found.label, found.score) == (choices[found.index], max(found.scores))
    assert model.predict({"context": "the cat", "choices": "\n".join(choices), "question": "the fox"}) == found


def test_a_published_checkpoint_predicts_without_headways_file(trained, tmp_path):
    model = transformers.AutoModelForMultipleChoice.from_pretrained(trained)
    model.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(trained).save_pretrained(tmp_path)
    opened = load(tmp_path)
    assert isinstance(opened.task, MultipleChoice)
    expected = load(trained).predict([("the cat", ["sat", "jumps"], "the fox")])
    assert opened.predict([("the cat", ["sat", "jumps"], "the fox")]) == expected
    assert opened.predict(("the cat", ["sat", "jumps"])).scores  # a question is optional


def test_evaluation_reads_labels_in_another_form(trained):
    rows = [{**row, "label": row["ending1"]} for row in SWAG]
    found = load(trained).evaluate(rows)
    assert found.metrics["accuracy"] in (0.0, 0.5, 1.0)
    assert [one.answer for one in found.examples] == [1, 1]


def test_the_classifier_of_another_head_is_not_taken_over(tmp_path, bert_folder):
    from headway.tasks import TextClassification

    rows = [{"text": f"the {word}", "label": word} for word in ("cat", "dog", "fox")] * 2
    TextClassification().on(bert_folder).fit(
        rows, output=tmp_path / "labels", eval_fraction=0, max_steps=1, precision="fp32", device="cpu"
    )
    MultipleChoice().on(tmp_path / "labels").fit(
        SWAG, output=tmp_path / "choices", eval_fraction=0, max_steps=1, precision="fp32", device="cpu"
    )
    assert json.loads((tmp_path / "choices/config.json").read_text())["architectures"] == ["BertForMultipleChoice"]


def test_a_gpt2_is_refused(gpt2_folder):
    with pytest.raises(HeadwayError, match="needs a BERT"):
        MultipleChoice().on(gpt2_folder)


def test_labels_that_name_no_choice_are_reported_with_their_source(tmp_path):
    path = tmp_path / "choices.csv"
    path.write_text("question,choices,label\n" + "why?,a|b,-1\n" * 3)
    with pytest.raises(HeadwayError, match=r"choices\.csv: the label '-1' does not name one of the 2 choices"):
        examples(path)


def test_examples_are_shown_with_the_names_of_their_texts_and_the_right_choice():
    _, (first, _), _ = examples(SWAG)
    assert first.shown_texts == {
        "context": "She sat.",
        "question": "The cat",
        "choices": "jumps. | wrote. | is late.",
    }
    assert first.shown_gold == "jumps."


def test_examples_to_try_are_kept_although_all_ask_the_same_question(bert_folder, tmp_path):
    asked = {"question": "who sat?", "label": 0}
    rows = [{"context": f"cat {i}", "choices": f"a cat | a dog {i}", **asked} for i in range(40)]
    rows[0]["label"] = 1
    options = {"eval_fraction": 0.5, "max_steps": 1, "precision": "fp32", "device": "cpu", "progress": False}
    MultipleChoice().on(bert_folder).fit(rows, output=tmp_path / "model", **options)
    stored = json.loads((tmp_path / "model/headway.json").read_text())["examples"]
    assert len(stored) == 4
    assert len({one["context"] for one in stored}) == 4
