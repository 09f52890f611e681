"""Text to text on the command line: training, prediction over files, evaluation, its template in other commands."""

import csv
import json

import pytest
from fastapi.testclient import TestClient
from headway.core.generation.generation import generate
from headway.core.generation.generation_config import GenerationConfig
from headway.tasks import Prompt, load
from headway.tasks.language_modeling.loading import load_language_model
from headway.ui.http.api import create_api
from headway.ui.model_registry import ModelRegistry
from tiny_gpt2 import make_gpt2

WORDS = ["cat", "dog", "fox", "mat"]
TEMPLATE = r"{input}\nTL;DR: {output}"


@pytest.fixture(scope="module")
def place(tmp_path_factory, byte_level_folder):
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "gpt2").mkdir()
    make_gpt2(byte_level_folder, folder / "gpt2")
    with (folder / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("input", "output"), *((f"the {w}", f"my {w}, please") for w in WORDS * 6)])
    return folder


@pytest.fixture(scope="module")
def model(place):
    from headway.ui.cli import main

    data = ["--data", place / "pairs.csv", "--model", place / "gpt2", "--output", place / "model"]
    options = ["--template", TEMPLATE, "--max-new-tokens", 6, "--max-steps", 2, "--device", "cpu", "--beams", 2]
    assert main([str(one) for one in ("train", "text-to-text", *data, *options)]) == 0
    return place / "model"


def test_the_template_and_the_options_are_stored(model, place):
    task = load(model).task
    assert (task.template, task.max_new_tokens, task.num_beams) == (TEMPLATE, 6, 2)
    assert "beams: 2" in (model / "run.yaml").read_text()
    card = (model / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: text-generation" in card
    assert "AutoModelForCausalLM" in card
    assert "| copy |" in card  # a baseline


def test_the_lines_of_the_card_for_transformers_print_the_prediction(model, monkeypatch, capsys):
    card = (model / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(model.parent)
    *_, block = card.split("```python\n")
    exec(compile(block.partition("```")[0], "README.md", "exec"), {})
    assert capsys.readouterr().out.strip() == load(model).predict("A text.").text


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_every_row_of_a_file_gets_its_text(headway, model, place, tmp_path, suffix):
    output = tmp_path / f"out.{suffix}"
    assert headway("predict", model, "--data", place / "pairs.csv", "--output", output).code == 0
    with output.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file)) if suffix == "csv" else [json.loads(line) for line in file]
    assert len(rows) == 24
    assert [row["input"] for row in rows[:4]] == [f"the {word}" for word in WORDS]
    assert [row["text"] for row in rows[:4]] == [load(model).predict(f"the {word}").text for word in WORDS]
    assert {"stopped", "truncated"} <= rows[0].keys()


def test_generation_options_of_a_prediction_overrule_the_stored_ones(headway, model):
    ran = headway("predict", model, "the cat", "--beams", 1, "--max-new-tokens", 2, "--json")
    found = json.loads(ran.out)
    assert found["text"] == load(model, num_beams=1, max_new_tokens=2).predict("the cat").text
    assert headway("predict", model, "the cat", "--beams", 1, "--temperature", -1).code == 2


def test_an_evaluation_shows_the_baselines(headway, model, place):
    ran = headway("evaluate", model, "--data", place / "pairs.csv", "--eval-outputs", 3, "--json")
    found = json.loads(ran.out)
    assert list(found["metrics"])[:2] == ["loss", "perplexity"]
    assert {"copy", "model"} <= {row["outputs"] for row in found["comparison"]}
    assert any("outputs were generated for 3 of 4 inputs" in note for note in found["notes"])


def test_generate_and_prompt_use_the_stored_template(headway, model):
    network, tokenizer = load_language_model(model)
    config = GenerationConfig(max_new_tokens=6, num_beams=2)  # as in training
    ((expected,),) = generate(network, tokenizer, ["the cat\nTL;DR:"], config)
    ran = headway("generate", model, "the cat")
    assert ran.out.startswith(f"the cat\nTL;DR:{expected.text}\n")
    assert "--plain" in ran.err
    ((plain,),) = generate(network, tokenizer, ["the cat"], GenerationConfig(max_new_tokens=6))
    assert headway("generate", model, "the cat", "--max-new-tokens", 6, "--plain").out == f"the cat{plain.text}\n"
    shown = headway("prompt", model, "the cat", "--show-prompt", "--max-new-tokens", 6).out
    assert "the cat\nTL;DR:" in "\n".join(line.strip() for line in shown.splitlines())
    assert "--template names another one" in " ".join(shown.split())
    assert Prompt().on(model).prompt.max_new_tokens == 6
    assert Prompt(max_new_tokens=9).on(model).prompt.max_new_tokens == 9


def test_options_that_contradict_the_stored_ones_come_before_them(headway, model):
    network, tokenizer = load_language_model(model)
    for given, config in [
        (["--top-k", 3, "--seed", 1], {"top_k": 3, "seed": 1}),
        (["--stream"], {}),
        (["--temperature", 0.5], {"temperature": 0.5}),
        (["--samples", 2, "--seed", 2], {"num_return_sequences": 2, "seed": 2}),
    ]:
        (expected,) = generate(
            network, tokenizer, ["the cat\nTL;DR:"], GenerationConfig(**{"max_new_tokens": 6, **config})
        )
        ran = headway("generate", model, "the cat", *given)
        assert (ran.code, all(one.text in ran.out for one in expected)) == (0, True)


@pytest.mark.parametrize("side", ["end", "start"])
def test_an_input_that_is_too_long_is_cut_at_the_stored_side_and_the_command_says_so(headway, place, tmp_path, side):
    folder = tmp_path / "model"
    options = ["--template", TEMPLATE, "--max-new-tokens", 6, "--max-steps", 1, "--device", "cpu", "--cut-side", side]
    data = ["--data", place / "pairs.csv", "--model", place / "gpt2", "--output", folder]
    assert headway("train", "text-to-text", *data, *options).code == 0
    ran = headway("generate", folder, "the cat " * 200, "--json")
    assert f"1 of 1 texts are too long: of each, the {side} is not read" in " ".join(ran.err.split())
    (found,) = json.loads(ran.out)["results"]
    assert found["texts"][0]["text"].strip() == load(folder).predict("the cat " * 200).text
    assert headway("generate", folder, "the cat", "--json").err.count("too long") == 0


def test_the_server_continues_an_input_as_the_command_does(headway, model):
    expected = json.loads(headway("generate", model, "the cat", "--json").out)["results"][0]
    long = "the cat " * 200
    with TestClient(create_api(ModelRegistry([model]))) as client:

        def ask(**body):
            return client.post("/generate", json={"model": model.name, **body}).json()

        found = ask(prompt="the cat")
        assert (found["prompt"], found["truncated"], found["texts"]) == (expected["prompt"], False, expected["texts"])
        assert ask(prompt="the cat", plain=True)["prompt"] == "the cat"
        cut = ask(prompt=long)
        assert (cut["truncated"], cut["texts"][0]["text"].strip()) == (True, load(model).predict(long).text)
        assert ask(prompt=long, plain=True)["error"]["type"] == "invalid_request_error"
        streamed = client.post("/generate", json={"model": model.name, "prompt": "the cat", "stream": True}).text
        assert '"truncated": false' in streamed


def test_inspection_shows_it_as_a_language_model_and_what_cannot_be_is_refused_by_its_name(headway, model, tmp_path):
    assert headway("inspect", model, "the cat", "--output", tmp_path / "inside.html").code == 0
    ran = headway("export", model, "--output", tmp_path / "onnx")
    assert (ran.code, "is a GPT-2" in " ".join(ran.err.split())) == (2, True)


def test_check_counts_inputs_that_are_cut(headway, place, tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps({"input": "the cat " * 200, "output": f"{w} it"}) + "\n" for w in WORDS * 3))
    ran = headway("check", "text-to-text", "--data", path, "--model", place / "gpt2", "--cut-side", "start")
    assert ran.code == 0
    assert "(--cut-side start)" in " ".join(ran.out.split())
    assert any(line.split() == ["output", "text"] for line in ran.out.splitlines())  # the first rows
