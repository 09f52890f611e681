"""Named entities and question answering on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from headway.tasks.question_answering.predictions import AnswerPrediction
from headway.tasks.tagging.predictions import EntitiesPrediction, Entity
from headway.tasks.tagging.tag_schemes import is_valid, parse_tag
from headway.ui.cli import main
from headway.ui.terminal import screen, show_prediction

ENTITIES = Path(__file__).parents[2] / "tasks/samples/entities.conll"
CONTEXT = "Ada Lovelace lived in London"
ANSWERS = {"who": ("who lived?", "Ada Lovelace"), "where": ("where?", "London"), "when": ("when?", None)}
TAGS = ("B-PER", "I-PER", "O", "O", "B-LOC")  # of CONTEXT
EXACT = ("--eval-fraction", 0, "--precision", "fp32", "--device", "cpu")


def train(task: str, data: Path, model: Path, output: Path, *options: object) -> Path:
    command = ["train", task, "--data", data, "--model", model, "--output", output, *EXACT, *options]
    assert main([str(part) for part in command]) == 0
    return output


@pytest.fixture(scope="module")
def tagger(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tagger that finds the entities of CONTEXT."""
    folder = tmp_path_factory.mktemp("tagger")
    sentence = "".join(f"{word}\t{tag}\n" for word, tag in zip(CONTEXT.split(), TAGS, strict=True))
    data = folder / "data.conll"
    data.write_text(f"{sentence}\n" * 100 + ENTITIES.read_text())
    options = ("--max-steps", 60, "--learning-rate", 0.005)
    return train("token-classification", data, tiny, folder / "model", *options)


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three questions in the format of SQuAD."""
    asked = [
        {"id": name, "question": question, "answers": [{"text": answer, "answer_start": CONTEXT.index(answer)}]}
        if answer
        else {"id": name, "question": question, "answers": [], "is_impossible": True}
        for name, (question, answer) in ANSWERS.items()
    ]
    path = tmp_path_factory.mktemp("questions") / "questions.json"
    path.write_text(json.dumps({"version": "v2.0", "data": [{"paragraphs": [{"context": CONTEXT, "qas": asked}]}]}))
    return path


@pytest.fixture(scope="module")
def answerer(tiny: Path, questions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(
        "question-answering", questions, tiny, tmp_path_factory.mktemp("answerer") / "model", "--max-steps", 3
    )


def found(*entities: tuple[str, str, float]) -> EntitiesPrediction:
    return EntitiesPrediction(tuple(Entity(text, kind, 0, 0, score) for text, kind, score in entities), (), (), ())


@pytest.mark.parametrize(
    ("prediction", "shown"),
    [
        (found(("Ada Lovelace", "PER", 0.98), ("London", "LOC", 0.951)), "PER Ada Lovelace 0.98   LOC London 0.95"),
        (found(), "no entities"),
        (AnswerPrediction("in\nLondon", 0, 9, 0.871, 0.1, ()), "in London  0.87"),
        (AnswerPrediction(None, None, None, 0.634, 0.634, ()), "no answer  0.63"),
    ],
    ids=["entities", "no entities", "an answer", "no answer"],
)
def test_a_prediction_is_printed_on_one_line_with_its_text(prediction: Any, shown: str, capsys):
    show_prediction(screen(), ["a text"], prediction)
    assert capsys.readouterr().out == f"{shown.ljust(14)}  a text\n"
    assert prediction.brief == shown


def test_entities_are_predicted_with_offsets_into_the_text(headway, tagger):
    answer = json.loads(headway("predict", tagger, CONTEXT, "--json").out)
    assert answer["words"] == CONTEXT.split()
    assert [(one["text"], one["label"]) for one in answer["entities"]] == [("Ada Lovelace", "PER"), ("London", "LOC")]
    assert all(CONTEXT[one["start"] : one["end"]] == one["text"] for one in answer["entities"])
    assert headway("predict", tagger, CONTEXT).out.rstrip().endswith(CONTEXT)


def test_check_accepts_sentences_without_entities(headway, folder):
    sentences = ["Ada B-PER\nsat O\n", "the O\ncat O\nsat O\n"] * 6
    Path("tags.conll").write_text("\n".join(sentences).replace(" ", "\t"))
    ran = headway("check", "token-classification", "--data", "tags.conll", "--json")
    assert ran.code == 0
    assert "unlabelled" not in [finding["kind"] for finding in json.loads(ran.out)["findings"]]


@pytest.mark.parametrize("question", [["who lived?"], ["--question", "who lived?"]], ids=["bare", "as an option"])
def test_a_question_is_answered_from_a_context(headway, answerer, question):
    answer = json.loads(headway("predict", answerer, *question, "--context", CONTEXT, "--json").out)
    assert (answer["question"], answer["context"]) == ("who lived?", CONTEXT)
    assert headway("predict", answerer, *question, "--context", CONTEXT).out.endswith(f"  who lived? / {CONTEXT}\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["who?", "--question", "where?", "--context", CONTEXT],
            "--question: the question is already given as an argument ('who?')",
        ),
        (["--context", CONTEXT], 'add --question "..."'),
        (["--question", "where?"], 'add --context "..."'),
        (["where?", "--pair", "a"], "--pair: the model reads only question and context"),
    ],
)
def test_missing_and_surplus_texts_are_named(headway, answerer, arguments, words):
    ran = headway("predict", answerer, *arguments)
    assert ran.code == 2
    assert words in ran.err


def test_decoding_options_can_be_set_on_a_trained_model(headway, tagger, answerer, questions):
    ask = ["predict", answerer, "who lived?", "--context", CONTEXT, "--json"]
    answer = json.loads(headway(*ask, "--n-best", 2, "--threshold", 1e9).out)
    assert len(answer["alternatives"]) == 2
    assert answer["answer"] == answer["alternatives"][0]["text"]
    assert json.loads(headway(*ask, "--threshold=-1e9").out)["answer"] is None
    result = json.loads(headway("evaluate", answerer, "--data", questions, "--threshold=-1e9", "--json").out)
    assert result["metrics"]["no_answer_f1"] == 1.0
    tags = json.loads(headway("predict", tagger, CONTEXT, "--viterbi", "--json").out)["tags"]
    assert is_valid([parse_tag(tag, prefixed=True) for tag in tags], "IOB2")
    assert headway("evaluate", tagger, "--data", ENTITIES, "--no-viterbi").code == 0


def test_an_option_of_another_task_is_refused_by_a_trained_model(headway, tagger):
    ran = headway("predict", tagger, CONTEXT, "--threshold", 1)
    assert ran.code == 2
    assert "--threshold cannot be set on a trained model for token-classification" in ran.err
    assert "--viterbi" in ran.err


def test_evaluate_prints_f1_and_exact_match(headway, answerer, questions):
    result = json.loads(headway("evaluate", answerer, "--data", questions, "--json").out)
    assert result["examples"] == 3
    assert list(result["metrics"])[:2] == ["f1", "exact_match"]


def test_answers_are_written_in_the_format_of_the_squad_script(headway, folder, answerer, questions):
    ask = ["predict", answerer, "--data", questions, "--output"]
    assert "predictions.json: 3 predictions" in headway(*ask, "predictions.json").out
    assert headway(*ask, "rows.jsonl").code == 0
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert json.loads(Path("predictions.json").read_text()) == {row["id"]: row["answer"] or "" for row in rows}
    assert "predictions.json" in headway(*ask, "predictions.json").err  # it exists already
    assert headway(*ask, "predictions.json", "--overwrite").code == 0


def test_the_format_of_the_squad_script_needs_ids(headway, folder, answerer):
    Path("asked.csv").write_text(f"question,context\nwho?,{CONTEXT}\n")
    ran = headway("predict", answerer, "--data", "asked.csv", "--output", "predictions.json")
    assert ran.code == 2
    assert "needs the id" in ran.err
    assert [path.name for path in folder.iterdir()] == ["asked.csv"]


def test_tasks_without_a_scoring_script_write_no_json_document(headway, folder, tagger):
    ran = headway("predict", tagger, "--data", ENTITIES, "--output", "predictions.json")
    assert ran.code == 2
    assert "rows are written as .jsonl, .csv, .tsv or .xlsx" in ran.err
