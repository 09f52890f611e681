"""Language models on the command line: training from scratch, evaluation and prediction."""

import json
from pathlib import Path

import pytest

SENTENCE = "the cat sat on the mat and my parcel has not arrived while Ada Lovelace lived in London"
WORDS = SENTENCE.split(" ")
SCRATCH = ["--size", "tiny", "--learn-tokenizer", "300", "--max-positions", "48", "--max-steps", "2"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    lines = [" ".join(WORDS[i % 11 : i % 11 + 6]) for i in range(400)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("task", "metrics", "question"),
    [
        ("fill-mask", ["loss", "perplexity", "accuracy"], "the cat [MASK] on the mat"),
        ("text-generation", ["loss", "perplexity", "bits_per_byte"], "the cat sat"),
    ],
)
def test_a_model_from_scratch_is_trained_evaluated_and_predicts(headway, corpus, task, metrics, question):
    ran = headway("train", task, "--data", corpus, "--eval-data", corpus, *SCRATCH, "--output", "out", "--json")
    assert ran.code == 0, ran.err
    result = json.loads(ran.out.splitlines()[-1])
    assert list(result["metrics"]) == metrics
    assert "random weights (tiny)" in ran.err
    assert sorted(path.name for path in Path().iterdir() if path.name != "corpus.txt") == ["out"]
    assert "trained from random weights" in Path("out/README.md").read_text()
    ran = headway("evaluate", "out", "--data", corpus, "--json")
    assert list(json.loads(ran.out.splitlines()[-1])["metrics"]) == metrics
    assert question in headway("predict", "out", question).out


def test_an_interrupted_run_from_scratch_resumes_bit_for_bit(headway, corpus, monkeypatch):
    from headway.core.training import training

    options = ["--data", corpus, *SCRATCH, "--save-steps", "1"]
    assert headway("train", "fill-mask", *options, "--output", "whole").code == 0
    step = training._Run._train_step

    def interrupted(run, *given):
        if run.progress.step == 1:
            raise KeyboardInterrupt
        return step(run, *given)

    monkeypatch.setattr(training._Run, "_train_step", interrupted)
    ran = headway("train", "fill-mask", *options, "--output", "broken")
    assert ran.code == 130
    assert "run the same command with --resume" in ran.err
    monkeypatch.setattr(training._Run, "_train_step", step)
    assert headway("train", "fill-mask", *options, "--output", "broken", "--resume").code == 0
    assert Path("whole/model.safetensors").read_bytes() == Path("broken/model.safetensors").read_bytes()
    assert sorted(path.name for path in Path().iterdir() if path.name != "corpus.txt") == ["broken", "whole"]


def test_a_model_from_scratch_can_use_the_tokenizer_of_another_model(headway, corpus, tiny):
    options = ["--size", "tiny", "--model", tiny, "--max-steps", "1", "--max-positions", "48"]
    assert headway("train", "fill-mask", "--data", corpus, *options, "--output", "out").code == 0
    assert json.loads(Path("out/config.json").read_text())["vocab_size"] > 100


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fill-mask", "--learn-tokenizer", "300"], "--learn-tokenizer is for training from scratch. Add --size"),
        (["text-classification", "--size", "tiny"], "--size starts from random weights"),
        (["fill-mask", "--size", "giant", "--learn-tokenizer", "300"], "--size giant: it must be one of tiny, mini"),
        (["fill-mask", "--size", "tiny"], "add --learn-tokenizer N, or --model NAME"),
        (["text-generation", "--size", "tiny", "--learn-tokenizer", "20"], "has no room for"),
        (
            ["fill-mask", "--documents", "pages"],
            "documents='pages' is invalid; it must be one of file, paragraphs, lines",
        ),
        (["fill-mask", "--mask-probability", "2"], "--mask-probability 2"),
    ],
)
def test_invalid_options_print_one_line_and_leave_no_files(headway, corpus, arguments, says):
    ran = headway("train", *arguments, "--data", corpus, "--output", "out")
    assert ran.code == 2
    assert says in ran.err
    assert len(ran.err.strip().splitlines()) == 1
    assert [path.name for path in Path().iterdir()] == ["corpus.txt"]


def test_check_measures_plain_text(headway, corpus, tiny):
    ran = headway("check", "fill-mask", "--data", corpus)
    assert ran.code == 0, ran.err
    assert "characters per text" in ran.out
    assert "the file is one document" in ran.out
    ran = headway("check", "fill-mask", "--data", corpus, "--model", tiny)
    assert ran.code == 0, ran.err
    assert "tokens per text" in ran.out
