"""The functions of the tabs Predict, Generate, Prompt and Inspect, without a browser."""

import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import gradio as gr
import pytest
from headway.core.errors import HeadwayError
from headway.tasks import TASKS, FillMask, TextGeneration, TextToText, load
from headway.tasks.base.predictions import Prediction
from headway.tasks.base.task import Task
from headway.tasks.data.examples import Field
from headway.tasks.language_modeling.from_scratch import on_new_model
from headway.tasks.language_modeling.writing import Writer
from headway.tasks.prompting.predictions import WrittenAnswer
from headway.tasks.prompting.prepared_prompt import PreparedPrompt
from headway.tasks.samples import sample_melodies, sample_prompt, sample_texts
from headway.ui.browser import background
from headway.ui.browser.app import build_app
from headway.ui.browser.tabs import evaluate_data, evaluate_report, generate, inspection, predict, prompt
from headway.ui.model_registry import ModelRegistry
from headway.ui.runs.jobs import Jobs
from page_elements import HOSTILE, Page
from reviews import write_reviews


def clicked(choice: int) -> gr.EventData:
    return gr.EventData(None, {"choice": choice})


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
    config = SimpleNamespace(family="bert", num_layers=1, hidden_size=32)
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


def test_the_page_has_only_the_buttons_of_its_tabs(registry, tmp_path):
    """A component that is made for an update while the page is built would appear on it."""
    with Jobs(tmp_path) as jobs:
        page = build_app(registry, jobs)
    buttons = [block.value for block in page.blocks.values() if isinstance(block, gr.Button)]
    assert "Predict" in buttons
    assert buttons.count("Run") == 1  # of the tab Prompt; it is also the default of a new button


# Predict.


def test_the_choices_of_an_example_are_separated_on_one_line():
    example = {"context": "She\nsat.", "choices": "on a mat\nin a box", "question": "where?"}
    shown = Page(predict.draw_examples([example]))
    assert "She | sat. / on a mat | in a box / where?" in shown.text
    assert "a b" in Page(predict.draw_examples([{"text": f"a\n{'b' * 100}"}])).text


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
        predict.example_inputs(registry.task_model("model"))[0]["text"],
        "",
    )


def test_models_without_a_task_head_are_not_listed(tiny, trained_once):
    assert predict.model_names(ModelRegistry([tiny, trained_once], built_in=False)) == ["model"]


def last(steps: Iterator[Any]) -> Any:
    *_, final = steps
    return final


def test_predictions_of_a_file_equal_those_of_headway_predict(registry, headway, reviews, trained, folder):
    columns = last(predict.preview_file(registry, 1, "model", str(reviews.absolute())))
    assert (columns[0].value, columns[0].choices[0][0]) == ("text", "text")
    for output, ending in predict.OUTPUT_FORMATS.items():
        steps = list(consume(predict.predict_file(registry, "model", str(reviews.absolute()), output, "text")))
        name, content = steps[-1]
        assert name == f"reviews-predictions{ending}"
        assert headway("predict", trained, "--data", reviews, "--output", f"cli{ending}").code == 0
        assert without_time(content) == without_time((folder / f"cli{ending}").read_bytes())
    assert not list(Path(folder).glob("*predictions*"))


def without_time(content: bytes) -> Any:
    """The content of a file; that of a workbook without the time at which it was written."""
    if not content.startswith(b"PK"):
        return content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.startswith("docProps/")}


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
    data.write_text("text,prediction\na really good film,theirs\n", encoding="utf-8")
    *_, (shown, *_) = predict.predict_file(registry, "model", str(data), "CSV", "text")
    head, row = (part.split("</tr>")[0] for part in shown.split("<tr>")[1:])
    assert head == "<th>predicted_prediction</th><th>text</th><th>prediction</th>"
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


def test_a_large_file_is_read_and_evaluated_in_another_process(registry, folder, monkeypatch):
    data = write_reviews(folder / "reviews.csv")
    small = last(predict.predict_file(registry, "model", str(data), "CSV", "text"))[0]
    question = "model", str(data), [], [], False
    metrics = last(evaluate_report.evaluate(registry, *question))[0]
    monkeypatch.setattr(background, "LARGE", 100)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the file is read in this process")

    monkeypatch.setattr(background, "stream_rows", refuse)
    monkeypatch.setattr(background, "UPDATE_SECONDS", 0.001)
    assert last(predict.preview_file(registry, 1, "model", str(data)))[0].value == "text"
    large = [step[0] for step in predict.predict_file(registry, "model", str(data), "CSV", "text")]
    assert any("Reading reviews.csv" in one for one in large)
    assert large[-1].partition("First rows")[2] == small.partition("First rows")[2]
    evaluated = list(evaluate_report.evaluate(registry, *question))
    assert "Reading reviews.csv" in evaluated[0][0]
    assert evaluated[-1][0] == metrics
    data.write_text('text,label\n"a good film",good\n"a bad film,bad\n' + " " * 200, encoding="utf-8")
    for steps in (
        predict.predict_file(registry, "model", str(data), "CSV", "text"),
        evaluate_report.evaluate(registry, *question),
    ):
        with pytest.raises(HeadwayError, match=r"reviews\.csv"):
            list(steps)


def test_a_file_that_the_server_has_deleted_must_be_uploaded_again(registry, folder):
    gone = str(folder / "gone.csv")
    for steps in (
        predict.preview_file(registry, 1, "model", gone),
        predict.predict_file(registry, "model", gone, "CSV", "text"),
        evaluate_report.evaluate(registry, "model", gone, [], [], False),
        evaluate_data.read_columns(gone),
        prompt.evaluate_file(registry, gone, 200, *form()),
    ):
        with pytest.raises(HeadwayError, match=r"gone\.csv was deleted from the server. Upload it again"):
            list(steps)


def test_columns_that_cannot_be_inferred_must_be_chosen(registry, folder):
    data = folder / "odd.csv"
    data.write_text("a,b\n1,2\n3,4\n", encoding="utf-8")
    column, start, shown, _ = last(predict.preview_file(registry, 1, "model", str(data)))
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


def test_the_page_says_what_was_not_read(trained_once, gpt2, folder):
    long = "a lovely film " * 40
    data = folder / "long.csv"
    data.write_text(f"text\n{long}\na film\n", encoding="utf-8")
    for long_texts in ("windows", "cut"):
        cut = long_texts == "cut"
        registry = ModelRegistry([trained_once, gpt2], built_in=False, long_texts=long_texts)
        limit, tokens = 32, registry.embedder("model").measure([long])[0].num_tokens
        warning = f"Only {limit} of {tokens} tokens were read"
        assert (warning in predict.predict(registry, "model", long)) == cut
        assert "tokens were read" not in predict.predict(registry, "model", "a film")
        assert (warning in predict.find_similar(registry, "model", "a film", f"a meal\n{long}")) == cut
        *_, (shown, *_) = predict.predict_file(registry, "model", str(data), "CSV", "text")
        assert ("1 of 2 texts are too long for the model and were truncated" in shown) == cut
        assert "tokens were read" in predict.predict(registry, "writer", "the cat " * 200)


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
    add = partial(generate.append, "writer", "the cat", [], registry=registry)
    assert add(tokens, clicked(place)) == ("the cat" + tokens[place], ["the cat"])
    assert add(tokens, clicked(99)) == ("the cat", [])
    assert add([None], clicked(0)) == ("the cat", [])


def test_the_probabilities_of_the_next_token_are_those_of_the_model(registry):
    writer = Writer(*registry.language_model("writer"))
    found = writer.likeliest("the cat", 5)
    from headway.core.generation.generation import next_tokens

    step = next(next_tokens(writer.network, writer.tokenizer, "the cat", likeliest=5))
    assert [one.probability for one in found] == [one.probability for one in step.likeliest]


def test_a_continuation_can_be_appended(registry):
    drawn, offered = generate.find_continuations(registry, "writer", "the cat", [], 3)
    assert len(Page(drawn).named("button")) == len(offered) == 3
    text, _ = generate.append("writer", "the cat", [], offered, clicked(1), registry=registry)
    assert text == "the cat" + offered[1]


def test_an_input_is_continued_in_the_template_of_a_text_to_text_model_once(registry, tmp_path):
    rows = [{"input": f"the {word}", "output": f"my {word}"} for word in ("cat", "mat") * 3]
    task = TextToText(template=r"{input}\nTL;DR: {output}", max_new_tokens=5, cut_side="start")
    task.on(registry.find("writer").folder).fit(rows, output=tmp_path / "pairs", eval_fraction=0, max_steps=1)
    registry = ModelRegistry([tmp_path / "pairs"], built_in=False)
    note, examples = generate.describe(registry, "pairs")
    assert r"{input}\nTL;DR: {output}" in Page(note).text
    assert "Read the letter tomorrow." in Page(examples).text
    assert generate.take_example(registry, "pairs", clicked(0)) == "Read the letter tomorrow."
    first, history = last(generate.generate(registry, "pairs", "the cat", [], 0.0, 5, 0, 1.0))
    assert first.startswith("the cat\nTL;DR:")
    assert first.removeprefix("the cat\nTL;DR:").strip() == load(tmp_path / "pairs").predict("the cat").text
    second, history = last(generate.generate(registry, "pairs", first, history, 0.0, 5, 0, 1.0))
    assert (second.startswith(first), second.count("TL;DR")) == (True, 1)
    _, tokens, *_ = generate.look_ahead(registry, "pairs", "the mat", history)
    place = next(i for i, token in enumerate(tokens) if token)
    added, _ = generate.append("pairs", "the mat", history, tokens, clicked(place), registry=registry)
    assert added == "the mat\nTL;DR:" + tokens[place]
    with pytest.warns(UserWarning, match="too long for the model: its start is not read"):
        long, history = last(generate.generate(registry, "pairs", "the cat " * 2000, [], 0.0, 5, 0, 1.0))
    assert (len(long) < 8000, "the cat \nTL;DR:" in long) == (True, True)
    again, _ = last(generate.generate(registry, "pairs", long, history, 0.0, 5, 0, 1.0))
    assert again.startswith(long)


def test_the_settings_begin_with_the_stored_options_of_a_text_to_text_model_and_keep_what_the_user_sets(
    registry, tmp_path
):
    rows = [{"input": f"the {word}", "output": f"my {word}"} for word in ("cat", "mat") * 3]
    task = TextToText(max_new_tokens=300, top_k=7, top_p=0.9, num_beams=1)
    model = task.on(registry.find("writer").folder)
    model.fit(rows, output=tmp_path / "pairs", eval_fraction=0, max_steps=1)
    load(tmp_path / "pairs", num_beams=3).save(tmp_path / "beams")
    models = ModelRegistry([tmp_path / "pairs", tmp_path / "beams", registry.find("writer").folder], built_in=False)

    def begin(name, before):
        shown, *sliders = generate.begin_settings(models, name, before)
        return shown, [getattr(one, "value", None) for one in sliders]

    assert begin("pairs", "") == ("pairs", [1.0, 300, 7, 0.9])  # top-k samples at temperature 1
    assert begin("pairs", "pairs") == ("pairs", [None] * 4)
    assert begin("beams", "pairs") == ("beams", [0.0, 300, 0, 1])  # a beam search does not sample
    assert begin("writer", "beams") == ("", list(generate.DEFAULTS))
    assert begin("writer", "") == ("", [None] * 4)
    assert "beams=3" in Page(generate.describe(models, "beams")[0]).text
    texts = {
        last(generate.generate(models, "pairs", "the cat", [], 2.0, 9, generate.TOP_K_OFF, 1.0))[0] for _ in "abc"
    }
    assert len(texts) > 1


def test_a_setting_that_is_off_overrules_the_stored_option(registry, tmp_path, monkeypatch):
    rows = [{"input": "the cat", "output": "my cat"}] * 6
    task = TextToText(max_new_tokens=5, top_k=1)
    task.on(registry.find("writer").folder).fit(rows, output=tmp_path / "pairs", eval_fraction=0, max_steps=1)
    models = ModelRegistry([tmp_path / "pairs"], built_in=False)
    given = {}
    monkeypatch.setattr(Writer, "write", lambda *_, **options: given.update(options) or iter(()))
    for top_k, expected in ((generate.TOP_K_OFF, None), (4, 4)):
        last(generate.generate(models, "pairs", "the cat", [], 1.0, 5, top_k, 1.0))
        assert (given["top_k"], given["top_p"]) == (expected, None)


def test_a_model_of_events_gets_melodies_as_examples(registry, tmp_path):
    melodies = sample_melodies()
    on_new_model(
        TextGeneration(), melodies, folder=tmp_path / "music", size="tiny", vocab_size=300, vocabulary="words",
        max_positions=64,
    )  # fmt: skip
    music = ModelRegistry([tmp_path / "music"], built_in=False)
    taken = generate.take_example(music, "music", clicked(0))
    assert melodies[0].startswith(taken)
    assert taken[:20] in Page(generate.describe(music, "music")[1]).text
    assert generate.take_example(registry, "writer", clicked(0)) == sample_texts(TextGeneration())[0]["text"]


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
        "scoring": "direct",
        "neighbours": 3,
        "domain": "",
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


@pytest.mark.parametrize("scoring", ["channel", "knn", "pmi"])
def test_labels_can_be_scored_in_other_ways(registry, scoring):
    values = form(1, scoring=scoring, rows=[["the cat", "good"], ["the dog", "bad"], ["a dog", "bad"]])
    drawn = Page(prompt.answer(registry, "the mat", "", *values))
    assert ("Uncalibrated" in drawn.text) == (scoring == "pmi")
    shown = Page(prompt.preview(registry, "the mat", "", *values)).text
    assert shown.endswith("Label: {label}\nText: the mat" if scoring == "channel" else "Text: the mat\nLabel:")


def test_the_options_of_a_way_to_score_labels_are_shown_and_used(registry):
    rows = [["the cat", "good"], ["the mat", "bad"], ["a dog", "bad"], ["a fox", "good"]]
    drawn = {
        (scoring, neighbours, domain): prompt.answer(
            registry, "the mat", "", *form(1, scoring=scoring, neighbours=neighbours, domain=domain, rows=rows)
        )
        for scoring in ("direct", "knn", "pmi")
        for neighbours, domain in ((1, ""), (3, ""), (None, ""), (3, "the dog"))
    }
    assert len({shown for (scoring, *_), shown in drawn.items() if scoring == "direct"}) == 1
    assert drawn["knn", 1, ""] != drawn["knn", 3, ""] == drawn["knn", 3, "the dog"]
    assert drawn["pmi", 1, ""] == drawn["pmi", 3, ""] != drawn["pmi", 3, "the dog"]
    assert [one.visible for one in prompt.show_scoring("knn")] == [True, False]
    assert [one.visible for one in prompt.show_scoring("pmi")] == [False, True]
    with pytest.raises(HeadwayError, match="-1"):
        prompt.answer(registry, "the mat", "", *form(1, scoring="knn", neighbours=-1, rows=rows))


def test_labels_can_have_verbalizers(registry):
    shown = prompt.preview(registry, "the mat", "", *form(labels="good=fine, bad=awful"))
    assert "Label: fine" in Page(shown).text
    drawn = Page(prompt.answer(registry, "the mat", "", *form(labels="good=fine, bad=awful")))
    assert drawn.text.startswith(("good", "bad"))


def test_an_answer_can_be_generated(registry):
    drawn = prompt.answer(registry, "the mat", "", *form(kind=prompt.GENERATE, rows=[]))
    assert Page(drawn).elements


def test_an_empty_generated_answer_is_named_as_such(registry, monkeypatch):
    empty = WrittenAnswer("", 0.0, "end-of-text")
    monkeypatch.setattr(PreparedPrompt, "predict", lambda *_: [empty])
    drawn = Page(prompt.answer(registry, "the mat", "", *form(kind=prompt.GENERATE, rows=[])))
    assert "(empty answer)" in drawn.text
    assert "The model generated no text" in drawn.text


def test_a_masked_language_model_is_listed_and_prompted_at_masks(gpt2):
    registry = ModelRegistry([gpt2])
    assert "mini-bert" in prompt.prompted_models(registry)
    asked = form(model="mini-bert", layout="{text} It was {label}.", labels="good, bad", rows=[])
    assert "the mat It was [MASK]." in Page(prompt.preview(registry, "the mat", "", *asked)).text
    assert "good" in Page(prompt.answer(registry, "the mat", "", *asked)).text
    with pytest.raises(HeadwayError, match="generates no answers"):
        prompt.answer(registry, "the mat", "", *form(model="mini-bert", kind=prompt.GENERATE))


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
    drawn = Page(last(prompt.evaluate_file(registry, str(data), 200, *form(rows=rows, choice="balanced"))))
    assert "Metrics on 12 rows" in drawn.text
    assert "always good" in drawn.text
    assert "95 %" in drawn.text
    with pytest.raises(HeadwayError, match="Upload a file"):
        next(prompt.evaluate_file(registry, None, 200, *form()))


# Inspect.


def test_the_inspection_page_is_sandboxed_and_can_be_downloaded(registry):
    steps = inspection.inspect(registry, "model", inspection.PREDICTION, f"a good film {HOSTILE}"[:80], None)
    frame, download, outputs = next(steps)
    (attributes,) = Page(frame).named("iframe")
    assert attributes["sandbox"] == "allow-scripts"
    page = attributes["srcdoc"] or ""
    assert page.startswith("<!doctype html>")
    path = offered(download)
    assert path.read_text(encoding="utf-8") == page.replace('<base href="about:srcdoc">', "")
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
