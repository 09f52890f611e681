"""Prompts whose answer is a text: instructions by name, where the answer ends, long texts, scores and baselines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from headway.core.checkpoints.checkpoint import save_checkpoint
from headway.core.errors import HeadwayError
from headway.core.generation.decoding import Generation
from headway.core.models.gpt2 import GPT2, GPT2Config
from headway.core.models.heads import Network
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.tasks import Prompt, TextToText
from headway.tasks.prompting import prepared_prompt
from headway.tasks.prompting.prompt import PromptModel
from headway.tasks.prompting.templates import BUILT_IN, Template, find_template
from headway.tasks.text_to_text.instructions import INSTRUCTIONS, find_instruction

PAIRS = [("the cat", "le chat"), ("the dog", "le chien"), ("a cat", "un chat"), ("a dog", "un chien")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, byte_level_folder: Path) -> Path:
    """A tiny GPT-2 with a context of 64 tokens."""
    tokenizer = Tokenizer.load(byte_level_folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 32, "max_positions": 64}
    folder = tmp_path_factory.mktemp("gpt2")
    save_checkpoint(folder, Network(GPT2(GPT2Config(vocab_size=tokenizer.vocab_size, **sizes))))
    tokenizer.save(folder)
    return folder


def writing(monkeypatch: pytest.MonkeyPatch, *answers: dict[str, str]) -> list[str]:
    """Makes the model answer what a dict says for the end of a prompt, call by call; returns the prompts it gets."""
    prompts: list[str] = []
    calls = iter(answers)

    def generate(_network: Any, _tokenizer: Any, texts: Sequence[str], config: Any) -> list[tuple[Generation]]:
        prompts.extend(texts)
        known = next(calls)
        found = []
        for text in texts:
            answer = next(answer for end, answer in known.items() if text.endswith(end))
            cut = min((place for stop in config.stop if (place := answer.find(stop)) >= 0), default=None)
            found.append((Generation(answer[:cut], (), -1.0, "length" if cut is None else "stop"),))
        return found

    monkeypatch.setattr(prepared_prompt, "generate", generate)
    return prompts


def model_for(folder: Path, **options: Any) -> PromptModel:
    return Prompt(max_new_tokens=options.pop("max_new_tokens", 5), **options).on(folder)


def test_an_instruction_is_the_same_template_in_a_prompt_and_for_pairs() -> None:
    for name, template in INSTRUCTIONS.items():
        assert find_template(name) == BUILT_IN[name]
        prompted = BUILT_IN[name].demonstration("IN", None, "OUT")
        assert prompted == template.replace("{input}", "IN").replace("{output}", "OUT")
        assert BUILT_IN[name].writes
    assert BUILT_IN["summarize"].query("A text.") == "A text.\n\nTL;DR: "


@pytest.mark.parametrize("name", ["translate German to Swiss German", "Translate  German to Latin:"])
def test_a_translation_can_name_any_two_languages(name: str) -> None:
    shown = " ".join(name.split()).removesuffix(":")
    assert find_template(name).query("Guten Tag.") == f"{shown}: Guten Tag. => "
    assert find_template(name).writes


@pytest.mark.parametrize("text", ["translate it", "translate {text} to French", "summarise", "{input}"])
def test_other_texts_are_no_names_of_instructions(text: str) -> None:
    assert find_instruction(text) is None


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("translate English to French", "translation"),
        ("summarize", "summarization"),
        ("answer", "text-generation"),
        ("{input} => {output}", "text-generation"),
    ],
)
def test_the_hub_shows_what_the_instruction_of_an_encoder_decoder_asks_for(template: str, expected: str):
    assert TextToText(template=template, source_limit=64, start_id=0, end_id=1).pipeline_tag == expected
    assert TextToText(template=template).pipeline_tag == "text-generation"  # on GPT-2


def test_a_template_with_input_and_output_generates() -> None:
    template = Template.parse("{input} = {output}")
    assert (template.query("a"), template.writes) == ("a = ", True)
    assert not Template.parse("{input} = {label}").writes
    assert Prompt(template="{input} = {output}").writes
    with pytest.raises(HeadwayError, match="more than once"):
        Template.parse("{input} {output} {label}")
    with pytest.raises(HeadwayError, match="cannot be averaged"):
        Prompt(template="summarize", orders=2)


def test_the_template_says_how_long_an_answer_may_be_unless_the_option_does(folder: Path) -> None:
    def length(**options: Any) -> int:
        return Prompt(**options).on(folder).prepare().generation.max_new_tokens

    assert length(template="summarize") == 100
    assert length(template="answer") == length(template="{input} {output}") == 40
    assert length(template="summarize", max_new_tokens=7) == 7


def test_without_examples_an_answer_may_begin_in_the_next_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_for(folder, template="summarize")
    prompts = writing(monkeypatch, {"cat\n\nTL;DR:": "\n\nShort", "dog\n\nTL;DR:": " Here.\nMore"}, {":\n": "It.\nNo"})
    assert [one.answer for one in model.predict(["a cat", "a dog"])] == ["It.", "Here."]
    assert prompts == ["a cat\n\nTL;DR:", "a dog\n\nTL;DR:", "a cat\n\nTL;DR:\n"]
    writing(monkeypatch, {"": "\nNo"})
    assert model_for(folder, template="summarize", shots=1).predict("a cow", PAIRS).answer == ""
    writing(monkeypatch, {"": ".No"})
    assert model_for(folder, template="summarize", stop=["."]).predict("a cow").answer == ""


def test_answers_with_line_breaks_end_with_an_empty_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = writing(monkeypatch, {"": " one\ntwo\n\nthree"}, {"": " one\ntwo\n\nthree"})
    model = model_for(folder, template="answer", shots=1)
    assert model.predict("c", [("a", "b\nb")]).answer == "one\ntwo"
    assert model.predict("c", [("a", "b")]).answer == "one"
    assert prompts[0] == "Question: a\nAnswer: b\nb\n\nQuestion: c\nAnswer:"


def test_a_text_that_is_too_long_for_the_context_loses_its_end_with_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = writing(monkeypatch, {"": " x"})
    model = model_for(folder, template="summarize")
    text = " ".join(f"word{i}" for i in range(100))
    model.predict([text, "short"])
    assert prompts[1] == "short\n\nTL;DR:"
    kept = prompts[0].removesuffix("\n\nTL;DR:")
    assert len(prompts[0]) - len(kept) == len("\n\nTL;DR:")
    assert text.startswith(kept)
    count = len(model.tokenizer.encode(prompts[0]).ids)
    assert 64 - 5 - 3 <= count <= 64 - 5
    assert model.warnings == (
        f"the end of 1 of 2 texts did not fit into the 64 tokens that {folder} reads and was cut",
    )
    with pytest.raises(HeadwayError, match="64 at most"):
        model_for(folder, template="summarize", max_new_tokens=60).predict(text)
    with pytest.raises(HeadwayError, match="64 at most"):  # a label is not chosen by a part of a text
        Prompt(labels=["a", "b"]).on(folder).predict(text)


@pytest.mark.parametrize(
    ("content", "text", "answer"),
    [
        ("summary,document\nshort,a long text\nbrief,another long text\n", "a long text", "short"),
        ("id,fr,en\n7,le chat,the cat\n8,le chien,the dog\n", "le chat", "the cat"),
        ("the cat\tle chat\tCC-BY\nthe dog\tle chien\tCC-BY\n", "the cat", "le chat"),
        ("label,text\nle chat,the cat\nle chien,the dog\n", "the cat", "le chat"),
    ],
)
def test_files_of_pairs_are_examples_without_naming_their_columns(
    folder: Path, tmp_path: Path, content: str, text: str, answer: str
) -> None:
    path = tmp_path / f"pairs.{'tsv' if chr(9) in content else 'csv'}"
    path.write_text(content, encoding="utf-8")
    examples = model_for(folder, template="answer").prepare(path).runner.examples
    assert (examples[0].text, str(examples[0].label)) == (text, answer)


def test_generated_answers_are_scored_against_all_answers_of_the_same_text(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": text, "label": label} for text, label in [*PAIRS, ("the cat", "chat")]]
    writing(monkeypatch, {"a dog\nFrench:": " un chien", "cat\nFrench:": " chat\n", "": " le loup"})
    found = model_for(folder, template="translation", shots=0).evaluate(rows)
    assert found.figures["written"]["exact_match"].mean == pytest.approx(3 / 5)
    assert found.figures["copy"]["exact_match"].mean == 0
    assert set(found.figures) == {"written", "always le chat", "copy"}
    assert found.verdict[0].startswith("The prompt beats always answering le chat (rougeL")
    assert found.to_json()["signatures"].keys() == {"bleu", "chrf", "rouge"}


def test_a_prompt_that_only_copies_is_no_better_than_copying(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["One. Two. Three. Four.", "A. B. C. D. E."]
    writing(monkeypatch, {f"{text}\n\nTL;DR:": text for text in texts})
    found = model_for(folder, template="summarize", shots=0).evaluate(
        [{"text": text, "label": text} for text in texts]
    )
    assert {"copy", "lead_3", "random_3"} < set(found.figures)
    assert found.figures["written"]["chrf"].mean == pytest.approx(100)
    assert "no better than copying the input" in found.verdict[0]
