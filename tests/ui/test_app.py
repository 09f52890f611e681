"""The browser app without a browser: the functions of its tabs, hostile text, the server and the command."""

import asyncio
import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import gradio as gr
import pytest
import torch
from fastapi.testclient import TestClient
from gradio.utils import get_upload_folder
from headway.core.errors import HeadwayError
from headway.tasks import TASKS, FillMask, TextClassification, load
from headway.tasks.base.display import Highlight, HighlightedText, ScoreBar, ScoreBars, Text
from headway.tasks.base.predictions import Prediction
from headway.tasks.base.task import Task
from headway.tasks.classification.predictions import LabelPrediction, LabelsPrediction, NumberPrediction
from headway.tasks.data.examples import Field
from headway.tasks.language_modeling.predictions import Continuation, FilledMasks, MaskCandidate
from headway.tasks.language_modeling.writing import Writer
from headway.tasks.question_answering.answer_spans import AnswerSpan
from headway.tasks.question_answering.predictions import AnswerPrediction
from headway.tasks.samples import sample_prompt, sample_texts
from headway.tasks.tagging.predictions import EntitiesPrediction, Entity
from headway.ui.browser.app import LOOPBACK_NAMES, build_app, has_display, serve_app
from headway.ui.browser.drawing import (
    NUM_COLORS,
    alert,
    caption,
    draw_choices,
    draw_code,
    draw_display,
    draw_facts,
    draw_frame,
    draw_highlighted,
    draw_progress,
    draw_table,
    draw_token_bars,
    hint,
)
from headway.ui.browser.events import bind, message_of, with_errors
from headway.ui.browser.middleware import CLOSE_SECONDS, CONTENT_SECURITY_POLICY, StreamOrdering
from headway.ui.browser.tabs import generate, inspection, predict, prompt
from headway.ui.model_registry import ModelRegistry
from headway.ui.runs.jobs import Jobs
from tiny_gpt2 import make_gpt2

HOSTILE = "</iframe></script><script>alert(1)</script> <img src=x onerror=alert(2)> \"' & ${alert(3)} {{x}} ` ]]> 🙂"


class Page(HTMLParser):
    """The elements, the text and the attributes of a piece of HTML."""

    def __init__(self, drawn: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(drawn)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="session")
def gpt2(byte_level_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "writer"
    folder.mkdir()
    return make_gpt2(byte_level_folder, folder)


@pytest.fixture(scope="session")
def masked(wordpiece_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with a masked-language-model head and random weights."""
    from headway.core.checkpoints.checkpoint import save_checkpoint
    from headway.core.models.bert import Bert, BertConfig
    from headway.core.models.heads import Network, language_model_head
    from headway.core.tokenizers.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(wordpiece_folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "intermediate_size": 64, "max_positions": 64}
    backbone = Bert(BertConfig(vocab_size=tokenizer.vocab_size, **sizes))
    folder = tmp_path_factory.mktemp("models") / "gaps"
    folder.mkdir()
    save_checkpoint(folder, Network(backbone, language_model_head(backbone)))
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="session")
def registry(trained_once: Path, gpt2: Path, masked: Path) -> ModelRegistry:
    return ModelRegistry([trained_once, gpt2, masked], built_in=False)


def clicked(choice: int) -> gr.EventData:
    return gr.EventData(None, {"choice": choice})


# Drawing.


@pytest.mark.parametrize(
    "drawn",
    [
        draw_display([Text(HOSTILE, HOSTILE)]),
        draw_display([ScoreBars((ScoreBar(HOSTILE, 0.5, True, 0.4),), HOSTILE)]),
        draw_display(
            [HighlightedText(HOSTILE, (Highlight(2, 30, HOSTILE, 0.5), Highlight(40, 50, faint=True)), HOSTILE)]
        ),
        draw_choices([HOSTILE, HOSTILE], HOSTILE),
        draw_choices([HOSTILE], long=True),
        draw_token_bars([(HOSTILE, 0.5, True), (HOSTILE, 0.1, False)]),
        draw_table([{HOSTILE: HOSTILE, "n": 1}], HOSTILE),
        draw_progress(1, 2, HOSTILE),
        draw_code(HOSTILE),
        draw_frame(HOSTILE, HOSTILE),
        draw_facts({HOSTILE: HOSTILE}),
        alert(HOSTILE),
        hint(HOSTILE),
        caption(HOSTILE),
    ],
)
def test_hostile_text_is_shown_and_never_becomes_an_element(drawn):
    page = Page(drawn)
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "img"})
    assert all(not name.startswith("on") for _, attributes in page.elements for name in attributes)
    whole = page.text + " ".join(value or "" for _, attributes in page.elements for value in attributes.values())
    assert "<script>alert(1)</script>" in whole
    assert "🙂" in whole


def test_highlights_use_code_points_and_the_first_of_two_overlapping_ones_is_shown():
    text = "😀 Ada Lovelace in Århus 🇩🇰"
    marks = (Highlight(2, 14, "PER", 0.9), Highlight(6, 20, "ORG", 0.8), Highlight(18, 23, "LOC", 0.7))
    drawn = draw_highlighted(HighlightedText(text, marks))
    assert ">Ada Lovelace<small>PER</small></mark>" in drawn
    assert ">Århus<small>LOC</small></mark>" in drawn
    assert "ORG" not in drawn
    assert Page(drawn).text.replace("PER", "").replace("LOC", "") == text


def test_the_color_of_a_label_does_not_depend_on_the_order():
    first = draw_highlighted(HighlightedText("ab", (Highlight(0, 1, "x"), Highlight(1, 2, "y"))))
    second = draw_highlighted(HighlightedText("ab", (Highlight(1, 2, "y"), Highlight(0, 1, "x"))))
    assert first == second
    many = tuple(Highlight(i, i + 1, str(i)) for i in range(20))
    assert f"hw-c{NUM_COLORS}" not in draw_highlighted(HighlightedText("a" * 20, many))


def test_bars_of_values_outside_0_to_1_are_clipped():
    drawn = draw_display([ScoreBars((ScoreBar("a", -0.5), ScoreBar("b", 2.0), ScoreBar("c", float("nan"))))])
    assert [one for one in ("width:0.0%", "width:100.0%") if one in drawn] == ["width:0.0%", "width:100.0%"]


def test_bars_after_the_first_twelve_are_folded():
    page = Page(draw_display([ScoreBars(tuple(ScoreBar(f"label {i}", 0.01) for i in range(150)))]))
    assert "138 more" in page.text
    assert len(page.named("details")) == 1


# Display of predictions.


def test_a_label_is_shown_with_the_scores_of_all_labels_highest_first():
    said, bars = TextClassification(labels=("a", "b")).display(LabelPrediction("b", 0.9, {"a": 0.1, "b": 0.9}), {})
    assert said == Text("b")
    assert bars == ScoreBars((ScoreBar("b", 0.9, True), ScoreBar("a", 0.1)))


def test_multiple_labels_are_shown_with_their_thresholds():
    task = TextClassification(labels=("a", "b"), problem_type="multi_label_classification", thresholds=(0.3, 0.7))
    said, bars = task.display(LabelsPrediction(("a",), {"a": 0.4, "b": 0.6}), {})
    assert said == Text("a")
    assert bars == ScoreBars((ScoreBar("b", 0.6, False, 0.7), ScoreBar("a", 0.4, True, 0.3)))
    none, _ = task.display(LabelsPrediction((), {"a": 0.1, "b": 0.1}), {})
    assert none == Text("none of the labels")


def test_a_number_is_shown_as_text():
    assert NumberPrediction(3.14159).display({}) == (Text("3.14"),)


def test_entities_are_highlighted_in_their_text():
    text = "😀 Ada lives in Aarhus"
    entities = (Entity("Ada", "PER", 2, 5, 0.9), Entity("Aarhus", "LOC", 15, 21, 0.8))
    (marked,) = EntitiesPrediction(entities, (), (), ()).display({"text": text})
    assert [text[mark.start : mark.end] for mark in marked.marks] == ["Ada", "Aarhus"]
    assert EntitiesPrediction((), (), (), ()).display({"text": text})[0] == Text("no entities")


def test_an_answer_is_highlighted_in_its_context_and_no_answer_is_shown():
    context = "Ada lived in London."
    spans = (AnswerSpan("London", 13, 19, 0.6), AnswerSpan("in London", 10, 19, 0.2), AnswerSpan("Ada", 0, 3, 0.001))
    found = AnswerPrediction("London", 13, 19, 0.6, 0.1, spans)
    said, marked, bars = found.display({"question": "where?", "context": context})
    assert said == Text("London")
    assert [(mark.start, mark.faint) for mark in marked.marks] == [(13, False), (10, True)]
    assert [(bar.name, bar.chosen) for bar in bars.bars][:3] == [
        ("London", True), ("in London", False), ("no answer", False)
    ]  # fmt: skip
    none = AnswerPrediction(None, None, None, 0.9, 0.9, spans, unread_tokens=1200)
    said, marked, bars = none.display({"question": "why?", "context": context})
    assert said == Text("no answer", "1,200 tokens are beyond what the model may read")
    assert all(mark.faint for mark in marked.marks)
    assert bars.bars[0] == ScoreBar("no answer", 0.9, True)


def test_filled_masks_are_highlighted():
    found = FilledMasks(
        "the cat sat", ((MaskCandidate("cat", 0.5), MaskCandidate("dog", 0.2)), (MaskCandidate("##s", 0.9),))
    )
    marked, first, second = found.display({"text": "the [MASK] sat[MASK] 🙂 [MASK]"})
    assert marked.text == "the cat sats 🙂 [MASK]"
    assert [marked.text[mark.start : mark.end] for mark in marked.marks] == ["cat", "s"]
    assert (first.title, second.title) == ("Mask 1", "Mask 2")
    (said,) = FilledMasks("no gap", ()).display({"text": "no gap"})
    assert "[MASK]" in said.detail


def test_a_continuation_is_highlighted_after_its_text():
    (marked,) = Continuation(" a time", True).display({"text": "Once upon"})
    assert marked == HighlightedText("Once upon a time", (Highlight(9, 16),))


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_samples_for_its_required_fields(name):
    task = TASKS[name]()
    samples = sample_texts(task)
    assert len(samples) == 4
    required = {field.name for field in task.fields if field.required}
    assert all(required <= sample.keys() and all(sample.values()) for sample in samples)


# A task without any display code.


@dataclass(frozen=True)
class Verdict(Prediction):
    verdict: str
    reasons: dict[str, float]


@dataclass(frozen=True)
class Judging(Task):
    name: ClassVar[str] = "judging"
    title: ClassVar[str] = "Judging"
    inputs: ClassVar[tuple[Field, ...]] = (
        Field("claim", "The claim"), Field("defence", "The defence"), Field("law", "The law", required=False)
    )  # fmt: skip
    architecture: ClassVar[str] = "ForSequenceClassification"

    def _unused(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("the form asks for nothing else")

    infer_labels = row_reader = encode = head = loss = decode = score = _unused


class Judge:
    """A stub of a model with this task."""

    task = Judging()
    config = SimpleNamespace(num_layers=1, hidden_size=32)
    info: ClassVar[dict[str, Any]] = {}

    def predict(self, given: Mapping[str, str]) -> Verdict:
        return Verdict(f"{given['claim']} against {given['defence']}, by {given.get('law')}", {"doubt": 0.25})


def test_a_new_task_needs_no_code_in_the_browser_app(monkeypatch, registry, tmp_path):
    monkeypatch.setitem(TASKS, "judging", Judging)
    monkeypatch.setattr(registry, "task_model", lambda _: Judge())
    with Jobs(tmp_path) as jobs:
        page = build_app(registry, jobs)
    boxes = [block for block in page.blocks.values() if isinstance(block, gr.Textbox)]
    assert len(boxes) >= 3
    about, *texts, examples, _ = predict.choose_model(registry, 3, "judge")
    assert "Judging" in about
    assert [(box.label, box.visible) for box in texts] == [
        ("The claim", True), ("The defence", True), ("The law (optional)", True)
    ]  # fmt: skip
    assert examples == ""
    drawn = Page(predict.predict(registry, "judge", "a", "b", " "))
    assert "a against b, by None" in drawn.text
    assert "doubt0.25" in drawn.text
    with pytest.raises(HeadwayError, match="The defence is empty"):
        predict.predict(registry, "judge", "a", "", "c")


# Predict.


def test_the_prediction_of_a_model_is_shown(registry):
    drawn = Page(predict.predict(registry, "model", "a really good film 🙂 <b>"))
    expected = registry.task_model("model").predict("a really good film 🙂 <b>")
    assert drawn.text.startswith(expected.label)
    assert f"{expected.score:.2f}" in drawn.text


def test_the_form_follows_the_chosen_model(registry):
    about, text, second, examples, _ = predict.choose_model(registry, 2, "model")
    assert "accuracy" in about
    assert "bad, good" in about
    assert (text.label, text.visible, second.visible) == ("Text", True, False)
    assert len(Page(examples).named("button")) == 4
    assert predict.take_example(registry, 2, "model", clicked(0)) == (
        sample_texts(TextClassification())[0]["text"],
        "",
    )


def test_models_without_a_task_head_are_not_listed(tiny, trained_once):
    assert predict.model_names(ModelRegistry([tiny, trained_once], built_in=False)) == ["model"]


def last(steps: Iterator[Any]) -> Any:
    *_, final = steps
    return final


def test_predictions_of_a_file_equal_those_of_headway_predict(registry, headway, reviews, trained, folder):
    columns = predict.preview_file(registry, 1, "model", str(reviews.absolute()))
    assert (columns[0].value, columns[0].choices[0][0]) == ("text", "text")
    for output, ending in predict.OUTPUT_FORMATS.items():
        steps = list(consume(predict.predict_file(registry, "model", str(reviews.absolute()), output, "text")))
        name, content = steps[-1]
        assert name == f"reviews-answers{ending}"
        assert headway("predict", trained, "--data", reviews, "--output", f"cli{ending}").code == 0
        assert content == (folder / f"cli{ending}").read_bytes()
    assert not list(Path(folder).glob("*answers*"))


def consume(steps: Iterator[tuple[Any, ...]]) -> Iterator[tuple[str, bytes]]:
    """The names and contents of the offered files, read before they are deleted."""
    for _, _, _, download in steps:
        if isinstance(download, gr.DownloadButton) and download.visible:
            yield offered(download).name, offered(download).read_bytes()


def offered(download: gr.DownloadButton) -> Path:
    """The file of a download button, before Gradio copies it."""
    return Path(download._constructor_args[0]["value"])


def test_a_file_is_predicted_in_chunks_with_progress(registry, folder, monkeypatch):
    data = folder / "many.csv"
    data.write_text("text\n" + "a good film\n" * 40, encoding="utf-8")
    monkeypatch.setattr(predict, "CHUNK_ROWS", 8)
    times = iter(range(0, 10000, 1))
    monkeypatch.setattr(predict.time, "monotonic", lambda: next(times))
    messages = [step[0] for step in predict.predict_file(registry, "model", str(data), "CSV", "text")]
    assert any("of 40 rows" in one for one in messages)
    assert "40 rows in" in messages[-1]


def test_the_prediction_is_shown_beside_a_column_of_the_same_name(registry, folder):
    data = folder / "answered.csv"
    data.write_text("text,answer\na really good film,theirs\n", encoding="utf-8")
    *_, (shown, *_) = predict.predict_file(registry, "model", str(data), "CSV", "text")
    head, row = (part.split("</tr>")[0] for part in shown.split("<tr>")[1:])
    assert head == "<th>predicted_answer</th><th>text</th><th>answer</th>"
    assert "theirs" in row
    assert Page(row).text.startswith(registry.task_model("model").predict("a really good film").brief)


def test_stopping_the_prediction_of_a_file_deletes_its_output(registry, reviews, tmp_path, monkeypatch):
    monkeypatch.setattr(predict.tempfile, "tempdir", str(tmp_path / "work"))
    (tmp_path / "work").mkdir()
    steps = predict.predict_file(registry, "model", str(reviews.absolute()), "CSV", "text")
    next(steps)
    steps.close()
    assert list((tmp_path / "work").iterdir()) == []


def test_a_broken_file_is_an_error_before_any_prediction(registry, folder):
    data = folder / "broken.csv"
    data.write_text('text,label\n"a good film",good\n"a bad film,bad\n', encoding="utf-8")
    with pytest.raises(HeadwayError, match=r"broken\.csv"):
        list(predict.predict_file(registry, "model", str(data), "CSV", "text"))
    good = folder / "good.csv"
    good.write_text("text\na film\n", encoding="utf-8")
    with pytest.raises(HeadwayError, match="nothing"):
        list(predict.predict_file(registry, "model", str(good), "CSV", "nothing"))


def test_columns_that_cannot_be_inferred_must_be_chosen(registry, folder):
    data = folder / "odd.csv"
    data.write_text("a,b\n1,2\n3,4\n", encoding="utf-8")
    column, start, shown, _ = predict.preview_file(registry, 1, "model", str(data))
    assert column.value is None
    assert start.interactive
    assert "cannot be inferred" in shown


def test_similar_sentences_are_found_by_embeddings(registry):
    drawn = Page(
        predict.find_similar(registry, "model", "a good film", "an awful meal\n\na good film\nsuch a dull song")
    )
    names = [one["title"] for one in drawn.named("span") if one.get("class") == "hw-name"]
    assert names[0] == "a good film"
    assert len(names) == 3
    with pytest.raises(HeadwayError, match="enter a query"):
        predict.find_similar(registry, "model", " ", "a")


# Generate.


def test_a_text_is_continued_as_by_greedy_generation(registry):
    network, tokenizer = registry.language_model("writer")
    from headway.core.generation import generation
    from headway.core.generation.generation_config import GenerationConfig

    ((expected,),) = generation.generate(network, tokenizer, ["the cat"], GenerationConfig(max_new_tokens=12))
    text, before = last(generate.generate(registry, "writer", "the cat", ["x"], 0.0, 12, 40, 0.9))
    assert text == "the cat" + expected.text
    assert before == ["x", "the cat"]
    assert generate.take_back(text, before) == ("the cat", ["x"])
    assert generate.take_back("as it is", []) == ("as it is", [])


def test_sampled_texts_differ_and_a_long_text_is_continued_from_its_end(registry):
    texts = {last(generate.generate(registry, "writer", "the cat", [], 1.5, 20, 0, 1.0))[0] for _ in range(4)}
    assert len(texts) > 1
    long = "the cat sat on the mat, " * 100
    text, _ = last(generate.generate(registry, "writer", long, [], 0.0, 5, 0, 1.0))
    assert text.startswith(long)
    assert len(text) > len(long)
    assert len(Writer(*registry.language_model("writer")).alternatives(long, 2, 5)) == 2


def test_the_most_likely_tokens_can_be_appended(registry):
    drawn, tokens, continuations, continuation_texts = generate.look_ahead(registry, "writer", "the cat")
    buttons = Page(drawn).named("button")
    assert len(buttons) == len(tokens) == 10
    assert (continuations, continuation_texts) == ("", [])
    assert [("disabled" in one) for one in buttons] == [token is None for token in tokens]
    place = next(i for i, token in enumerate(tokens) if token)
    assert generate.append("the cat", [], tokens, clicked(place)) == ("the cat" + tokens[place], ["the cat"])
    assert generate.append("the cat", [], tokens, clicked(99)) == ("the cat", [])
    assert generate.append("the cat", [], [None], clicked(0)) == ("the cat", [])


def test_the_probabilities_of_the_next_token_are_those_of_the_model(registry):
    writer = Writer(*registry.language_model("writer"))
    found = writer.likeliest("the cat", 5)
    from headway.core.generation.generation import next_tokens

    step = next(next_tokens(writer.network, writer.tokenizer, "the cat", likeliest=5))
    assert [one.probability for one in found] == [one.probability for one in step.likeliest]


def test_a_continuation_can_be_appended(registry):
    drawn, offered = generate.find_continuations(registry, "writer", "the cat", 3)
    assert len(Page(drawn).named("button")) == len(offered) == 3
    text, _ = generate.append("the cat", [], offered, clicked(1))
    assert text == "the cat" + offered[1]


def test_a_bert_cannot_generate(registry):
    assert generate.language_models(registry) == ["writer"]
    with pytest.raises(HeadwayError, match="BERT"):
        generate.look_ahead(registry, "model", "the cat")


# Prompt.


def form(shots: int = 2, **changed: Any) -> list[Any]:
    values = {
        "model": "writer",
        "description": "Say how it is.",
        "kind": prompt.CHOOSE,
        "labels": "",
        "rows": [["the cat", "good"], ["the dog", "bad"], ["an incomplete row", ""]],
        "layout": "Text: {text}\nLabel: {label}",
        "shots": shots,
        "choice": "first",
        "orders": 1,
        "calibrate": True,
        "length": 5,
    }
    return list({**values, **changed}.values())


@pytest.mark.parametrize(("shots", "blocks"), [(0, 0), (1, 1), (2, 2), (8, 2)])
def test_the_prompt_is_shown_as_it_is_sent(registry, shots, blocks):
    shown = Page(prompt.preview(registry, "the <b>mat", "", *form(shots))).text
    assert shown.startswith("Say how it is.")
    assert shown.endswith("Text: the <b>mat\nLabel:")
    assert shown.count("Text: ") == blocks + 1
    assert "an incomplete row" not in shown


def test_examples_that_do_not_fit_into_the_context_are_counted(registry):
    rows = [[f"the cat sat on the mat {i} " * 4, "good" if i % 2 else "bad"] for i in range(8)]
    shown = Page(prompt.preview(registry, "the mat", "", *form(8, rows=rows))).text
    assert f"{8 - shown.count('Text:') + 1} more examples do not fit" in shown


def test_calibrated_and_uncalibrated_probabilities_are_shown_side_by_side(registry):
    drawn = Page(prompt.answer(registry, "the mat", "", *form()))
    assert [text for text in ("Calibrated", "Uncalibrated") if text in drawn.text] == [
        "Calibrated", "Uncalibrated"
    ]  # fmt: skip
    raw = Page(prompt.answer(registry, "the mat", "", *form(calibrate=False)))
    assert "Calibrated" not in raw.text


def test_labels_can_have_verbalizers(registry):
    shown = prompt.preview(registry, "the mat", "", *form(labels="good=fine, bad=awful"))
    assert "Label: fine" in Page(shown).text
    drawn = Page(prompt.answer(registry, "the mat", "", *form(labels="good=fine, bad=awful")))
    assert drawn.text.startswith(("good", "bad"))


def test_an_answer_can_be_generated(registry):
    drawn = prompt.answer(registry, "the mat", "", *form(kind=prompt.GENERATE, rows=[]))
    assert Page(drawn).elements


def test_missing_parts_of_a_prompt_are_named(registry):
    assert "There are no labels" in prompt.preview(registry, "the mat", "", *form(rows=[]))
    assert "{text}" in prompt.preview(registry, "the mat", "", *form(layout="Label: {label}"))
    with pytest.raises(HeadwayError, match="The text is empty"):
        prompt.answer(registry, " ", "", *form())


def test_the_table_follows_the_fields_of_the_template(registry):
    table, second = prompt.fit_table("{text} {pair} {label}", [["a", "x"]])
    assert (table.value["data"], second.visible) == ([["a", "", "x"]], True)
    back, second = prompt.fit_table("{text} {label}", [["a", "b", "x"]])
    assert (back.value["data"], second.visible) == ([["a", "x"]], False)
    rows = [["the cat", "the mat", "yes"], ["the dog", "the cat", "no"]]
    layout = "A: {text}\nB: {pair}\nSame? {label}"
    shown = Page(prompt.preview(registry, "one", "two", *form(rows=rows, layout=layout))).text
    assert shown.endswith("A: one\nB: two\nSame?")


@pytest.mark.parametrize("name", prompt.BUILT_IN)
def test_every_built_in_template_has_examples_and_a_text(name):
    preset = prompt.load_preset(name)
    examples, text = sample_prompt(name)
    assert len(preset.rows) == len(examples) >= 3
    assert text["text"]
    assert bool(text["pair"]) == preset.paired
    assert all(len(row) == len(prompt.HEADERS[preset.paired]) and all(row) for row in preset.rows)
    prompt.show_preset(name)
    assert prompt.add_row(preset.rows)[-1] == [""] * len(preset.rows[0])


def test_a_prompt_is_evaluated_on_a_file_with_confidence_intervals(registry, folder):
    data = folder / "scored.csv"
    data.write_text("text,label\n" + "the mat,good\nthe fox,bad\nmy card,good\n" * 4, encoding="utf-8")
    rows = [["the cat", "good"], ["the dog", "bad"], ["a dog", "bad"]]
    drawn = Page(prompt.evaluate_file(registry, str(data), 200, *form(rows=rows, choice="balanced")))
    assert "Metrics on 12 rows" in drawn.text
    assert "always good" in drawn.text
    assert "95 %" in drawn.text
    with pytest.raises(HeadwayError, match="Upload a file"):
        prompt.evaluate_file(registry, None, 200, *form())


# Inspect.


def test_the_inspection_page_is_sandboxed_and_can_be_downloaded(registry):
    steps = inspection.inspect(registry, "model", inspection.PREDICTION, f"a good film {HOSTILE}"[:80], None)
    frame, download, outputs = next(steps)
    (attributes,) = Page(frame).named("iframe")
    assert attributes["sandbox"] == "allow-scripts"
    assert (attributes["srcdoc"] or "").startswith("<!doctype html>")
    path = offered(download)
    assert path.read_text(encoding="utf-8") == attributes["srcdoc"]
    assert path.name == "model-inside.html"
    assert [value for _, value in outputs.choices] == [inspection.PREDICTION, "good", "bad"]
    steps.close()
    assert not path.exists()
    ((_, _, outputs),) = list(inspection.inspect(registry, "model", "bad", "a good film"))
    assert outputs.value == "bad"


def test_a_model_without_a_task_head_can_be_inspected(registry):
    for name in ("writer", "gaps"):
        about, _, *_ = inspection.choose_model(registry, 2, name)
        assert "layers" in about
        ((frame, _, outputs),) = list(inspection.inspect(registry, name, None, "the cat"))
        assert "iframe" in frame
        assert not outputs.visible
    text = inspection.take_example(registry, 2, "gaps", clicked(0))[0]
    assert text == sample_texts(FillMask())[0]["text"]
    with pytest.raises(HeadwayError, match="Text is empty"):
        list(inspection.inspect(registry, "model", None, " "))


# Events.


def test_a_headway_error_is_shown_as_its_message():
    def fails(text: str) -> tuple[str, str]:
        raise HeadwayError(f"<b>{text}</b> is wrong. Fix it.")

    *skipped, shown = with_errors(fails, 2)("it")
    assert skipped == [gr.skip(), gr.skip()]
    assert Page(shown).text == "<b>it</b> is wrong. Fix it."
    assert with_errors(lambda text: text.upper(), 1)("fine") == ("FINE", "")
    assert with_errors(lambda: None, 0)() == ("",)

    def breaks() -> Iterator[str]:
        yield "one"
        raise HeadwayError("Then it broke.")

    first, second = with_errors(breaks, 1)()
    assert first == ("one", "")
    assert "Then it broke." in second[-1]


def test_an_internal_error_is_not_caught():
    def broken() -> str:
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        with_errors(broken, 1)()


def test_a_repeated_press_is_ignored_and_no_change_is_dropped():
    async def draw() -> gr.Blocks:
        with gr.Blocks() as page:
            error_box, box, button = gr.HTML(), gr.Textbox(), gr.Button()
            pressed = bind([button.click, box.submit], lambda: None, [], [], error_box)
            bind(pressed.success, lambda: None, [], [], error_box)
            bind([box.change], lambda: None, [], [], error_box)
            bind(box.blur, lambda: None, [], [], error_box)
        return page

    assert [one.trigger_mode for one in asyncio.run(draw()).fns.values()] == ["once", *["always_last"] * 3]


def test_an_uploaded_file_is_named_without_its_folder():
    path = Path(get_upload_folder()) / "0123456789abcdef" / "my file.csv"
    assert message_of(HeadwayError(f"{path}, line 3: wrong.")) == "my file.csv, line 3: wrong."


# The server.


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def client(registry, runs) -> Iterator[TestClient]:
    app = serve_app(registry, Jobs(runs), max_upload=1)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_the_page_and_the_api_are_served_side_by_side(client):
    page = client.get("/")
    assert page.status_code == 200
    assert page.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert "Headway" in page.text
    assert "fonts.googleapis" not in page.text + client.get("/theme.css").text
    health = client.get("/api/health")
    assert health.status_code == 200
    assert "content-security-policy" not in health.headers or "unsafe-eval" not in str(health.headers)
    answer = client.post("/api/predict", json={"model": "model", "inputs": ["a good film"]})
    assert answer.json()["predictions"][0]["label"] in ("good", "bad")
    assert client.get("/docs").status_code == 404


def test_an_event_that_runs_again_has_a_single_function(registry, tmp_path):
    with Jobs(tmp_path) as jobs:
        page = build_app(registry, jobs)
    bound = defaultdict(list)
    for fn in page.fns.values():
        for component, event in fn.targets:
            if event not in ("then", "success"):  # of a component
                bound[component, event].append(fn.trigger_mode)
    assert len(bound) > 50
    assert [who for who, modes in bound.items() if len(modes) > 1 and "always_last" in modes] == []


def test_every_computing_event_has_a_queue_of_its_kind(registry, tmp_path):
    with Jobs(tmp_path) as jobs:
        page = build_app(registry, jobs)
    computing = [fn for fn in page.fns.values() if fn.concurrency_id in ("predictions", "files")]
    assert len(computing) > 15
    assert all(fn.concurrency_limit == 1 for fn in computing)
    assert all(fn.api_visibility == "private" for fn in page.fns.values() if fn.fn is not None)


def test_only_uploads_and_results_are_served(client, runs, tmp_path, registry):
    secret = runs / "secret.txt"
    secret.write_text("a secret", encoding="utf-8")
    folder = registry.find("model").folder
    for path in (secret, "/etc/passwd", folder / "config.json", Path.cwd() / "config.json", f"{tmp_path}/../x"):
        answer = client.get(f"/gradio_api/file={path}")
        assert answer.status_code in (403, 404)
        assert "a secret" not in answer.text
    for address in ("http://example.com/", "https://example.com/x"):
        assert client.get(f"/gradio_api/file={address}").status_code == 404
    assert client.get("/gradio_api/proxy=https://x.hf.space/").status_code == 404


def test_a_path_in_place_of_an_upload_is_refused(client, tmp_path):
    config = client.get("/config").json()
    secret = tmp_path / "secret.csv"
    secret.write_text("text\na secret\n", encoding="utf-8")
    (file,) = [
        one["targets"][0][0] for one in config["dependencies"] if one["targets"] and one["targets"][0][1] == "upload"
        and len(one["inputs"]) == 2
    ]  # fmt: skip
    event = next(one for one in config["dependencies"] if [file, "upload"] in one["targets"])
    for path in (str(secret), "/etc/passwd", "http://127.0.0.1:9/x"):
        given = {"path": path, "meta": {"_type": "gradio.FileData"}}
        body = {"data": ["model", given], "fn_index": event["id"], "session_hash": "x"}
        answer = client.post("/gradio_api/run/predict", json=body)
        assert answer.status_code >= 400
        assert "a secret" not in answer.text


def test_a_new_event_is_answered_after_the_page_has_processed_the_end_of_its_stream():
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b'data: {"event_id":null,"msg":"close_stream"}' if scope["method"] == "GET" else b'{"event_id":"e"}'
        if scope["method"] == "POST":
            assert json.loads((await receive())["body"])["session_hash"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    ordering, sent = StreamOrdering(app), []

    async def request(method: str, what: str, session: str) -> None:
        query = f"session_hash={session}".encode()
        scope = {"type": "http", "method": method, "path": f"/gradio_api/queue/{what}", "query_string": query}
        body = {"type": "http.request", "body": json.dumps({"session_hash": session}).encode()}

        async def send(message: Any) -> None:
            if "body" in message:
                sent.append((method, session, time.monotonic()))

        async def receive() -> Any:
            return body

        await ordering(scope, receive, send)

    async def run() -> None:
        await request("GET", "data", "mine")
        await asyncio.gather(request("POST", "join", "mine"), request("POST", "join", "another's"))
        await request("POST", "join", "mine")

    asyncio.run(run())
    (_, _, ended), (_, first, at_once), (_, second, later), (_, _, last) = sent
    assert (first, second) == ("another's", "mine")
    assert at_once - ended < CLOSE_SECONDS <= later - ended + 0.001
    assert last - later < CLOSE_SECONDS


def test_an_upload_over_the_limit_is_refused(client):
    fine = client.post("/gradio_api/upload", files={"files": ("a.csv", b"text\na film\n")})
    assert fine.status_code == 200
    too_large = client.post("/gradio_api/upload", files={"files": ("a.csv", b"x" * 1_200_000)})
    assert too_large.status_code == 413


def test_the_key_protects_the_page_and_the_api(registry, tmp_path):
    app = serve_app(registry, Jobs(tmp_path / "runs"), key="sesame")
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.get("/config").status_code == 401
        assert client.post("/api/predict", json={"model": "model", "inputs": ["a"]}).status_code == 401
        assert client.post("/login", data={"username": "me", "password": "wrong"}).status_code == 400
        assert client.post("/login", data={"username": "me", "password": "sesame"}).status_code == 200
        assert client.get("/config").status_code == 200


def test_requests_of_other_sites_and_other_host_names_are_refused(registry, tmp_path, client):
    app = serve_app(registry, Jobs(tmp_path / "runs"), hosts=LOOPBACK_NAMES)
    with TestClient(app, raise_server_exceptions=False) as alone:
        for host in ("localhost", "LOCALHOST:7860", "127.0.0.1:7860", "[::1]:7860", "[::1]"):
            assert alone.get("/config", headers={"host": host}).status_code == 200
        for host in ("evil.example", "evil.example:7860", "localhost.evil.example", "", "127.0.0.1.evil.example"):
            for path in ("/", "/config", "/api/info"):
                refused = alone.get(path, headers={"host": host})
                assert refused.status_code == 403
                assert "Use localhost" in refused.text
        assert "Use localhost" in alone.get("/api/info", headers={"host": "x"}).json()["error"]["message"]
    file = {"files": ("a.csv", b"text\na film\n")}
    for site, status in (("cross-site", 403), ("same-origin", 200), ("none", 200)):
        headers = {"host": "example.org", "sec-fetch-site": site}
        assert client.post("/gradio_api/upload", files=file, headers=headers).status_code == status
        asked = {"model": "model", "inputs": ["a good film"]}
        assert client.post("/api/predict", json=asked, headers=headers).status_code == status
        assert client.get("/", headers=headers).status_code == 200  # a link of another site is allowed


def test_the_app_works_behind_a_proxy_with_a_path(registry, tmp_path):
    app = serve_app(registry, Jobs(tmp_path / "runs"), root_path="/headway")
    headers = {"host": "example.org", "x-forwarded-proto": "https", "x-forwarded-host": "example.org"}
    with TestClient(app, raise_server_exceptions=False, root_path="/headway") as client:
        page = client.get("/headway/", headers=headers)  # the proxy removed the prefix and the server added it
        assert page.status_code == 200
        root = json.loads(client.get("/headway/config", headers=headers).text)["root"]
        assert root == "https://example.org/headway"
        assert client.get("/headway/api/health").status_code == 200
        kept = client.get("/headway/headway/config", headers=headers)  # the proxy kept the prefix
        assert kept.status_code == 200
        assert kept.json()["root"] == root


# The command.


@pytest.fixture
def served(monkeypatch) -> list[Any]:
    """The configurations and addresses of servers, which are not started."""
    import uvicorn

    found: list[Any] = []

    def run(self: uvicorn.Server, sockets: list[Any]) -> None:
        found.append((self.config, sockets[0].getsockname()))

    monkeypatch.setattr(uvicorn.Server, "run", run)
    return found


def test_the_command_serves_this_machine_only_at_the_next_free_port(headway, served, trained):
    first = headway("ui", trained, "--no-open")
    assert first.code == 0, first.err
    (_, (host, port)) = served[0]
    assert host == "127.0.0.1"
    assert port >= 7860


def test_only_host_opens_the_app_to_other_machines(headway, served, trained, monkeypatch):
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    assert headway("ui", trained, "--no-open").code == 0
    assert headway("ui", trained, "--no-open", "--key", "x").code == 0
    assert headway("ui", trained, "--no-open", "--host", "0.0.0.0").code == 0
    assert [host for _, (host, _) in served] == ["127.0.0.1", "127.0.0.1", "0.0.0.0"]
    answers = [TestClient(one.app).get("/api/health", headers={"host": "evil.example"}) for one, _ in served]
    assert [answer.status_code for answer in answers] == [403, 200, 200]


@pytest.fixture
def made(monkeypatch, served) -> list[Any]:
    """The registries and training runs of applications, which are not served."""
    found: list[Any] = []
    monkeypatch.setattr("headway.ui.browser.app.serve_app", lambda *given, **options: found.append((*given, options)))
    return found


def test_a_tilde_stands_for_the_home_folder(headway, made, trained, folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    (folder / "options.yaml").write_text("runs: ~/mine\n")
    assert headway("ui", trained, "--no-open", "--runs=~/mine").code == 0
    assert headway("ui", "~/model", "--no-open", "--config=~/options.yaml").code == 0
    for registry, jobs, _ in made:
        assert registry.runs == jobs.runs == folder / "mine"
        assert registry.entries()[0].name == "model"
        jobs.close()


def test_ctrl_c_stops_the_app_without_an_error(headway, made, trained, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    # as uvicorn does after its shutdown
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    ran = headway("ui", trained, "--no-open")
    assert (ran.code, ran.err) == (0, "")
    assert signal.getsignal(signal.SIGINT) == before


def test_the_key_is_stripped_and_must_not_be_empty(headway, made, trained, monkeypatch):
    monkeypatch.setenv("HEADWAY_KEY", " sesame\n")
    assert headway("ui", trained, "--no-open", "--host", "0.0.0.0").code == 0
    assert made[0][2]["key"] == "sesame"
    monkeypatch.setenv("HEADWAY_KEY", "")
    ran = headway("ui", trained, "--no-open", "--host", "0.0.0.0")
    assert (ran.code, "HEADWAY_KEY) is empty" in ran.err) == (2, True)


def test_bad_arguments_are_errors_and_public_access_is_warned_about(headway, served, trained):
    assert "--port" in headway("ui", trained, "--port", 99999).err
    assert "There is no model folder" in headway("ui", "./no/such folder", "--no-open").err
    assert "is empty" in headway("ui", trained, "--key", " ", "--no-open").err
    ran = headway("ui", trained, "--host", "0.0.0.0", "--no-open")
    assert "can use the app" in ran.out
    assert "can use the app" not in headway("ui", trained, "--host", "0.0.0.0", "--key", "x", "--no-open").out


def test_a_browser_is_opened_only_with_a_display(monkeypatch):
    if os.name == "posix" and os.uname().sysname != "Darwin":
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        assert not has_display()
        monkeypatch.setenv("DISPLAY", ":0")
        assert has_display()


def test_the_registry_opens_models_that_predict_the_same(registry, trained_once):
    texts = ["a good film", "an awful meal"]
    assert [registry.task_model("model").predict(text).label for text in texts] == [
        one.label for one in load(trained_once).predict(texts)
    ]
