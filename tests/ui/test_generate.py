"""headway generate: the terminal and JSON show the texts of core.generation."""

import csv
import io
import json

import pytest
from headway.core.checkpoints import hub
from headway.core.generation.generation import generate, next_tokens
from headway.core.generation.generation_config import GenerationConfig
from headway.core.options import options_of
from headway.tasks import TextGeneration
from headway.tasks.language_modeling.from_scratch import on_new_model
from headway.tasks.language_modeling.loading import load_language_model
from headway.ui.commands.arguments import model_and_texts
from tiny_gpt2 import make_gpt2

SHORT = ("--max-new-tokens", "6")


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory, byte_level_folder):
    return make_gpt2(byte_level_folder, tmp_path_factory.mktemp("gpt2"))


def continued(folder, prompts, **options):
    network, tokenizer = load_language_model(folder)
    return [
        [one.text for one in texts] for texts in generate(network, tokenizer, prompts, GenerationConfig(**options))
    ]


def last_json(text):
    return json.loads(text.splitlines()[-1])


def test_words_that_the_vocabulary_does_not_have_are_counted(headway, tmp_path):
    melody = ["C4:1 E4:1 G4:2 C5:4"] * 5
    new = {"size": "tiny", "vocab_size": 20, "vocabulary": "words", "max_positions": 64}
    on_new_model(TextGeneration(), melody, folder=tmp_path / "new", **new)
    ran = headway("generate", tmp_path / "new", "C4:1 [b]H9:1 E4:1 other", "--max-new-tokens", 2)
    assert ran.code == 0
    assert "2 words are not in the vocabulary and are read as unknown, the first one is '[b]H9:1'" in " ".join(
        ran.err.split()
    )
    assert "vocabulary" not in headway("generate", tmp_path / "new", "C4:1 E4:1", "--max-new-tokens", 2).err


def test_the_terminal_shows_prompts_with_their_continuations(headway, gpt2):
    ran = headway("generate", gpt2, "the quick", "my card", *SHORT)
    (first,), (second,) = continued(gpt2, ["the quick", "my card"], max_new_tokens=6)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"the quick{first}\nmy card{second}\n"


def test_json_is_one_object_with_all_texts(headway, gpt2):
    ran = headway("generate", gpt2, "the quick", "my card", *SHORT, "--samples", "3", "--top-k", "5", "--json")
    found = last_json(ran.out)
    expected = continued(gpt2, ["the quick", "my card"], max_new_tokens=6, samples=3, top_k=5)
    assert found["model"] == str(gpt2)
    assert [[one["text"] for one in result["texts"]] for result in found["results"]] == expected
    assert {"text", "token_ids", "score", "finish_reason"} == found["results"][0]["texts"][0].keys()
    assert len(ran.out.splitlines()) == 1
    assert "score" in ran.err


def test_streaming_prints_the_same_text(headway, gpt2):
    whole = headway("generate", gpt2, "the quick", "my card", *SHORT, "--samples", "2")
    streamed = headway("generate", gpt2, "the quick", "my card", *SHORT, "--samples", "2", "--stream")
    assert streamed.code == 0
    assert streamed.out == whole.out


def test_show_probabilities_lists_the_ten_most_likely_tokens_of_every_step(headway, gpt2):
    ran = headway("generate", gpt2, "the quick", *SHORT, "--show-probabilities", "--json")
    network, tokenizer = load_language_model(gpt2)
    steps = list(next_tokens(network, tokenizer, "the quick", GenerationConfig(max_new_tokens=6)))
    (result,) = last_json(ran.out)["results"]
    assert len(result["steps"]) == len(steps)
    for shown, step in zip(result["steps"], steps, strict=True):
        assert shown["token"] == step.token
        assert len(shown["likeliest"]) == 10
        assert shown["likeliest"][0]["probability"] == pytest.approx(step.likeliest[0].probability)
        assert (
            f"{json.dumps(step.likeliest[0].token, ensure_ascii=False)} {step.likeliest[0].probability:.3f}" in ran.err
        )


def test_a_backslash_n_in_a_stop_string_is_a_line_break(headway, gpt2):
    (whole,) = continued(gpt2, ["the quick"], max_new_tokens=30)
    stop = whole[0][2:4]
    ran = headway("generate", gpt2, "the quick", "--max-new-tokens", "30", "--stop", stop, "--stop", r"\n")
    assert ran.out == f"the quick{whole[0][: whole[0].index(stop)]}\n"


def test_the_end_of_beams_and_a_full_context_are_reported(headway, gpt2):
    ran = headway("generate", gpt2, "the quick", *SHORT, "--beams", "3", "--samples", "2")
    assert ran.out.count("ended by length") == 2
    ran = headway("generate", gpt2, "the quick", "--max-new-tokens", "200")
    assert "the model's context is full" in ran.out


def test_the_text_can_be_given_as_an_option(headway, gpt2):
    assert headway("generate", gpt2, "--text", "the quick", *SHORT) == headway("generate", gpt2, "the quick", *SHORT)


def test_an_argument_that_cannot_be_a_path_is_a_text(gpt2, monkeypatch):
    monkeypatch.setitem(hub.BUILT_IN, "mini-gpt2", gpt2)
    for text in ("once upon a time " * 20, "~nobody-of-this-name is here", "~", "a\0b c"):
        expected = (text, []) if text == "~" else ("mini-gpt2", [text])  # the home folder
        assert model_and_texts([text]) == expected


def test_without_a_text_generation_starts_from_the_end_of_text_token(headway, gpt2):
    ran = headway("generate", gpt2, *SHORT)
    assert ran.out == f"{continued(gpt2, [''], max_new_tokens=6)[0][0]}\n"


def test_the_built_in_model_is_the_default(headway, gpt2, monkeypatch):
    monkeypatch.setitem(hub.BUILT_IN, "mini-gpt2", gpt2)
    expected = headway("generate", gpt2, "the quick fox", *SHORT)
    assert headway("generate", "the quick fox", *SHORT) == expected
    assert headway("generate", "mini-gpt2", "the quick fox", *SHORT) == expected
    monkeypatch.delitem(hub.BUILT_IN, "mini-gpt2")
    ran = headway("generate", "the quick fox", *SHORT)
    assert ran.code == 2
    assert "The model is missing" in ran.err


def test_lines_of_stdin_are_texts(headway, gpt2, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("the quick\n\nmy card\n"))
    ran = headway("generate", gpt2, "-", *SHORT)
    assert ran == headway("generate", gpt2, "the quick", "my card", *SHORT)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert "stdin contains no text" in headway("generate", gpt2, "-").err


@pytest.mark.parametrize("samples", [1, 2])
def test_rows_of_a_file_get_a_column_with_their_continuations(headway, gpt2, folder, samples):
    (folder / "begin.csv").write_text("id,start\n1,the quick\n2,my card\n3,\n")
    texts = continued(gpt2, ["the quick", "my card", ""], max_new_tokens=6, samples=samples)
    command = ["generate", gpt2, "--data", "begin.csv", "--text", "start", *SHORT, "--samples", samples]
    ran = headway(*command, "--output", "out.jsonl")
    assert (ran.code, ran.err) == (0, "")
    rows = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    name, expected = ("continuation", [one[0] for one in texts]) if samples == 1 else ("continuations", texts)
    assert [row[name] for row in rows] == expected
    assert headway(*command, "--output", "out.jsonl").code == 2
    ran = headway(*command, "--output", "out.csv", "--json")
    assert last_json(ran.out) == {"output": "out.csv", "rows": 3}
    with (folder / "out.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 4


def test_every_option_of_generation_is_an_option_with_its_help(headway, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    out = headway("generate", "--help").out
    for option in options_of(GenerationConfig):
        assert f"--{option.public_name.replace('_', '-')} " in out
        assert option.help[:60] in out


def test_the_long_names_of_the_options_with_short_forms_work_too(headway, gpt2, folder):
    command = ["generate", gpt2, "the quick", *SHORT, "--json"]
    short = headway(*command, "--beams", "3", "--samples", "2")
    long = headway(*command, "--num-beams", "3", "--num_return_sequences", "2")
    (folder / "config.yaml").write_text("num_beams: 3\nsamples: 2\n")
    from_file = headway(*command, "--config", "config.yaml")
    assert len(last_json(short.out)["results"][0]["texts"]) == 2
    assert last_json(short.out) == last_json(long.out) == last_json(from_file.out)


BAD = [
    (("GPT2", "a", "--stream", "--show-probabilities"), "--stream prints text"),
    (("GPT2", "a", "--data", "x.csv", "--output", "y.csv"), "omit the texts"),
    (("GPT2", "a", "--text", "b"), "--text: the text is already given as an argument ('a')"),
    (("GPT2", "--stream", "--data", "x.csv", "--output", "y.csv"), "omit --stream"),
    (("GPT2", "--data", "x.csv"), "--data and --output must be used together"),
    (("GPT2", "a", "--output", "y.csv"), "--data and --output must be used together"),
    (("GPT2", "--data", "x.csv", "--output", "y.csv"), "x.csv: no such file"),
    (("GPT2", "a", "--temperature", "-1"), "temperature=-1"),
    (("GPT2", "a", "--beams", "2", "--stream"), "beams=2"),
    (("GPT2", "a", "--context", "grow"), "context='grow'"),
    (("GPT2", "the dog " * 200), "The prompt has"),
    (("nowhere/model", "a"), "There is no model"),
    (("BERT", "a"), "is a BERT"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=[said for _, said in BAD])
def test_a_user_error_prints_one_line_and_exits_with_code_2(headway, gpt2, tiny, arguments, said):
    named = {"GPT2": gpt2, "BERT": tiny}
    ran = headway("generate", *(named.get(argument, argument) for argument in arguments))
    assert ran.code == 2
    assert ran.out == ""
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1


def test_an_empty_text_is_not_a_model(headway, gpt2, monkeypatch):
    monkeypatch.setitem(hub.BUILT_IN, "mini-gpt2", gpt2)
    ran = headway("generate", "", "--max-new-tokens", "3", "--json")
    assert ran.code == 0, ran.err
