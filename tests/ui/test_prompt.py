"""headway prompt: answers on the screen and in files, and their evaluation."""

import csv
import io
import json

import pytest
from fastapi.testclient import TestClient
from headway.core.options import options_of
from headway.tasks import Prompt
from headway.ui.http.api import create_api
from headway.ui.model_registry import ModelRegistry
from reviews import write_reviews
from tiny_gpt2 import make_gpt2

EXAMPLES = "text,label\nthe quick fox,good\nwhere is it,bad\nthank you,good\nmy parcel,bad\n"


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory, byte_level_folder):
    return make_gpt2(byte_level_folder, tmp_path_factory.mktemp("gpt2"))


@pytest.fixture
def examples(folder):
    (folder / "some.csv").write_text(EXAMPLES)
    return "some.csv"


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_single_text_gets_calibrated_and_uncalibrated_scores(headway, gpt2, examples):
    ran = headway("prompt", gpt2, "the cat sat", "--examples", examples)
    expected = Prompt().on(gpt2).predict("the cat sat", examples)
    assert (ran.code, ran.err) == (0, "")
    assert expected.brief in ran.out
    for label, score in expected.scores.items():
        row = next(line for line in ran.out.splitlines() if line.split()[:1] == [label] and f"{score:.3f}" in line)
        assert f"{expected.uncalibrated[label]:.3f}" in row


def test_json_has_one_line_per_text(headway, gpt2, examples):
    ran = headway("prompt", gpt2, "the cat sat", "my card", "--examples", examples, "--orders", "2", "--json")
    expected = Prompt(orders=2).on(gpt2).predict(["the cat sat", "my card"], examples)
    assert [row["scores"] for row in lines(ran.out)] == [one.scores for one in expected]
    assert [row["text"] for row in lines(ran.out)] == ["the cat sat", "my card"]
    assert "4 demonstrations: there are no more examples" in ran.err


def test_every_field_of_prompt_is_an_option(headway, gpt2, monkeypatch):
    typed = ["--labels", "a,b", "--labels", "c", "--verbalize", "a=cat,b=dog", "--template", r"{text}\nis{label}",
             "--description", r"one\ntwo", "--normalize", "--calibration", "none"]  # fmt: skip
    ran = headway("prompt", gpt2, "the mat", *typed, "--show-prompt", "--json")
    prompt = Prompt(
        labels=["a", "b", "c"],
        verbalize={"a": "cat", "b": "dog"},
        template="{text}\nis{label}",
        description="one\ntwo",
        normalize=True,
        calibration="none",
    )
    (found,) = lines(ran.out)
    assert found["scores"] == prompt.on(gpt2).predict("the mat").scores
    assert [line.strip() for line in ran.err.splitlines()][-5:] == ["one", "two", "", "the mat", "is"]
    monkeypatch.setenv("COLUMNS", "300")
    out = headway("prompt", "--help").out
    for option in options_of(Prompt):
        assert f"--{option.name.replace('_', '-')} " in out


@pytest.mark.parametrize(
    ("scoring", "said"),
    [
        ("channel", "labels come before texts: Label: {label}\\nText: {text}"),
        ("knn", "2 of 2 other examples vote on each text"),
        ("pmi", "the likelihood of each label is divided by that after 'Label:'"),
    ],
)
def test_labels_are_scored_in_other_ways_and_what_was_taken_is_said(headway, gpt2, examples, scoring, said):
    command = ["prompt", gpt2, "the cat sat", "--examples", examples, "--shots", "2", "--scoring", scoring, "--json"]
    ran = headway(*command)
    (found,) = lines(ran.out)
    assert found["scores"] == Prompt(scoring=scoring, shots=2).on(gpt2).predict("the cat sat", examples).scores
    assert said in " ".join(ran.err.split())
    ran = headway(*command, "--calibration", "contextual")
    assert (ran.code, f"--scoring {scoring} does not go with --calibration contextual" in ran.err) == (2, True)


def test_pairs_are_given_as_two_texts_each(headway, gpt2):
    command = ["prompt", gpt2, "--template", "entailment", "--labels", "entailment,not_entailment", "--json"]
    ran = headway(*command, "one", "two", "three", "four")
    assert [(row["text"], row["pair"]) for row in lines(ran.out)] == [("one", "two"), ("three", "four")]
    ran = headway(*command, "one", "two", "three")
    assert ran.code == 2
    assert "two per pair" in ran.err


def test_rows_of_a_file_are_written_with_their_answers(headway, gpt2, examples, folder):
    (folder / "new.csv").write_text("id,text\n7,the mat\n8,my card\n")
    ran = headway("prompt", gpt2, "--data", "new.csv", "--examples", examples, "--output", "out.csv")
    assert (ran.code, ran.err) == (0, "")
    assert "out.csv: 2 predictions" in ran.out
    with (folder / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["7", "8"]
    expected = Prompt().on(gpt2).predict(["the mat", "my card"], examples)
    assert [row["label"] for row in rows] == [one.label for one in expected]
    ran = headway("prompt", gpt2, "--data", "new.csv", "--examples", examples, "--output", "out.jsonl", "--json")
    assert lines(ran.out)[0].keys() == {"output", "examples", "seconds"}
    ran = headway("prompt", gpt2, "--data", "new.csv", "--examples", examples, "--calibration", "batch",
                  "--unlabelled", "some.csv", "--json")  # fmt: skip
    assert len(lines(ran.out)) == 2


def test_a_template_can_ask_for_generated_answers(headway, gpt2, folder):
    (folder / "pairs.tsv").write_text("the dog\tle chien\tsource\nthe cat\tle chat\tsource\n")
    command = ["prompt", gpt2, "--examples", "pairs.tsv", "--text", "0", "--label", "1", "--max-new-tokens", "5"]
    ran = headway(*command, "cheese", "--template", "translation", "--json", "--show-prompt")
    assert ran.code == 0
    (found,) = lines(ran.out)
    assert found.keys() == {"text", "answer", "log_probability", "finish_reason"}
    assert "French: le chat" in ran.err
    same = headway(*command, "cheese", "--template", "English: {text}\\nFrench: {label}", "--write", "--description",
                   "Translate from English to French.", "--json")  # fmt: skip
    assert lines(same.out) == [found]


def test_an_instruction_by_name_generates_free_text(headway, gpt2, folder):
    ran = headway("prompt", gpt2, "the cat sat on the mat", "--template", "summarize", "--show-prompt", "--json",
                  "--max-new-tokens", "6")  # fmt: skip
    assert (ran.code, "the cat sat on the mat\n" in ran.err, "TL;DR:" in ran.err) == (0, True, True)
    assert "answer" in lines(ran.out)[0]
    (folder / "pairs.csv").write_text("document,summary\nthe dog sat,dog\nthe fox ran,fox\nthe cat ate,cat\n")
    command = ["prompt", gpt2, "--data", "pairs.csv", "--template", "summarize", "--max-new-tokens", "6"]
    ran = headway(*command, "--text", "document", "--label", "summary", "--evaluate", "--shots", "0")
    assert ran.code == 0
    for words in ("rougeL", "chrf", "bleu", "exact match", "copy", "always dog"):
        assert words in ran.out


def test_an_evaluation_prints_intervals_and_an_interpretation(headway, gpt2, examples, folder):
    (folder / "test.csv").write_text(
        "text,label\n" + "".join(f"the {i},{'good' if i % 3 else 'bad'}\n" for i in range(9))
    )
    command = ["prompt", gpt2, "--data", "test.csv", "--examples", examples, "--shots", "2", "--evaluate"]
    ran = headway(*command, "--seeds", "3")
    assert (ran.code, ran.err) == (0, "")
    for words in ("calibrated", "uncalibrated", "always good", "accuracy, 95 %", "macro-F1", "Interpretation"):
        assert words in ran.out
    ran = headway(*command, "--seeds", "3", "--json")
    (found,) = lines(ran.out)
    model = Prompt(shots=2).on(gpt2)
    assert found == json.loads(json.dumps(model.evaluate("test.csv", examples, seeds=3).to_json()))


def test_examples_that_do_not_fit_the_context_are_reported(headway, gpt2, folder):
    (folder / "long.csv").write_text(
        "text,label\n" + "".join(f"{'the cat ' * 20}{i},{'ab'[i % 2]}\n" for i in range(4))
    )
    ran = headway("prompt", gpt2, "the mat", "--examples", "long.csv")
    assert "did not fit into the 128 tokens" in ran.out


def test_lines_of_stdin_are_texts(headway, gpt2, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("the mat\nmy card\n"))
    ran = headway("prompt", gpt2, "-", "--labels", "a,b", "--json")
    assert [row["text"] for row in lines(ran.out)] == ["the mat", "my card"]


def test_a_masked_language_model_scores_labels_at_masks(headway, folder):
    template = ("--labels", "great,terrible", "--template", "{text} It was {label}.")
    ran = headway("prompt", "mini-bert", "a wonderful film", *template, "--show-prompt", "--json")
    (row,) = lines(ran.out)
    assert row["label"] == "great"
    assert "a wonderful film It was [MASK]." in ran.err
    (folder / "rows.csv").write_text("text,label\na wonderful film,great\ntwo lost hours,terrible\n")
    ran = headway("prompt", "mini-bert", "--data", "rows.csv", "--evaluate", *template, "--json", "--seeds", "1")
    assert lines(ran.out)[0]["figures"]["calibrated"]["accuracy"]["mean"] >= 0.5


def test_a_model_trained_with_a_template_is_evaluated_and_served_as_any_classifier(headway, folder):
    reviews = write_reviews(folder / "reviews.csv")
    given = ("--model", "mini-bert", "--output", "tuned", "--max-steps", "12", "--device", "cpu")
    template = ("--prompt-template", "{text} It was {label}.", "--verbalize", "good=great,bad=terrible")
    assert headway("train", "text-classification", "--data", reviews, *given, *template).code == 0
    ran = headway("evaluate", "tuned", "--data", reviews, "--json")
    assert lines(ran.out)[-1]["metrics"]["accuracy"] > 0.9
    (row,) = lines(headway("predict", "tuned", "what a lovely film", "--json").out)
    client = TestClient(create_api(ModelRegistry([folder / "tuned"], built_in=False)))
    answer = client.post("/predict", json={"inputs": ["what a lovely film"]}).json()
    assert row["label"] == "good"
    assert answer["predictions"][0]["scores"] == pytest.approx(row["scores"], abs=1e-5)
    ran = headway("train", "text-classification", "--data", reviews, *given[:4], "--prompt-template", "It was {label}")
    assert ran.code == 2
    assert "has no {text}" in ran.err


BAD = [
    (("GPT2",), "Give either texts"),
    (("GPT2", "a", "--data", "some.csv", "--labels", "a,b"), "Give either texts"),
    (("GPT2", "a"), "--labels are missing"),
    (("GPT2", "a", "--labels", "a,b", "--template", "Label: {label}"), "has no {text}"),
    (("GPT2", "a", "--labels", "a,b", "--verbalize", "c=d"), "there is no label 'c'"),
    (("GPT2", "a", "--examples", "some.csv", "--labels", "great,awful"), "'good' is not one of the 2"),
    (("GPT2", "a", "--examples", "empty.csv"), "empty.csv"),
    (("GPT2", "a", "--examples", "missing.csv"), "missing.csv: no such file"),
    (("GPT2", "the dog " * 200, "--labels", "a,b"), "128 at most"),
    (("GPT2", "a", "--labels", "a,b", "--evaluate"), "add --data FILE"),
    (("GPT2", "--data", "some.csv", "--evaluate", "--output", "x.csv"), "omit --output"),
    (("GPT2", "a", "--labels", "a,b", "--shots", "many"), "--shots many"),
    (("GPT2", "a", "--examples", "some.csv", "--label", "lable"), 'no column "lable"'),
    (("BERT", "a", "--labels", "a,b"), "is a BERT"),
    (("nowhere/model", "a", "--labels", "a,b"), "There is no model"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=[said for _, said in BAD])
@pytest.mark.usefixtures("examples")
def test_a_user_error_prints_one_line_and_exits_with_code_2(headway, gpt2, tiny, folder, arguments, said):
    (folder / "empty.csv").write_text("")
    named = {"GPT2": gpt2, "BERT": tiny}
    ran = headway("prompt", *(named.get(argument, argument) for argument in arguments))
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not (folder / "x.csv").exists()
