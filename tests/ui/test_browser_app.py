"""The tabs Predict, Prompt, Generate and Inspect in a real browser, which sends no request to other machines."""

import csv
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from headway.core.training.training_config import TrainConfig
from headway.tasks import QuestionAnswering, TokenClassification, load
from reviews import REVIEWS, THINGS, WRONG, write_reviews, write_wrong_reviews
from safetensors.torch import load_file, save_file
from tiny_gpt2 import make_gpt2

pytestmark = pytest.mark.browser
HOSTILE = "a <script>alert(1)</script> <img src=x onerror=alert(2)> {{value}} ${alert(3)} `x` good film 🙂"
TIMEOUT = 60_000
CONFIG = TrainConfig(max_steps=60, batch_size=8, learning_rate=5e-3, precision="fp32", device="cpu", save_steps=1000)


OUTDATED = re.compile(r"\bhw-outdated\b")
# [text, contrast with its background] of the visible buttons and tabs.
CONTRASTS_JS = """
() => {
  const channels = (color) => (color.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const luminance = (color) => channels(color).slice(0, 3).map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if ((channels(color)[3] ?? 1) > 0.99) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  return [...document.querySelectorAll('button')]
    .filter((one) => one.innerText.trim() && one.checkVisibility() && !one.disabled)
    .map((one) => {
      const [high, low] = [luminance(getComputedStyle(one).color), luminance(ground(one))].sort((a, b) => b - a);
      return [one.innerText.trim(), (high + 0.05) / (low + 0.05)];
    });
}
"""


@dataclass
class Site:
    """A page of the app, and the errors and foreign requests of the browser."""

    page: Any
    address: str
    problems: list[str] = field(default_factory=list)

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def choose(self, name: str) -> None:
        """Chooses a model on the tab Predict."""
        box = self.page.locator("#model input")
        box.click()
        box.fill(name)
        self.page.get_by_role("option", name=name, exact=True).click()
        expect(box).to_have_value(name)

    def type_into_cell(self, table: str, text: str) -> None:
        """Replaces the first cell of a table. While the page still draws the table, a click only selects the cell."""
        editor = self.page.locator(f"{table} textarea:focus, {table} input:focus")
        deadline = time.monotonic() + TIMEOUT / 1000
        while not editor.count() and time.monotonic() < deadline:
            self.page.locator(f"{table} [role=gridcell]").first.dblclick()
            self.page.wait_for_timeout(200)
        editor.fill(text)
        self.page.keyboard.press("Enter")

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=re.compile(rf"^{re.escape(name)}\b")).locator("visible=true").first

    def box(self, label: str) -> Any:
        return self.page.get_by_label(label, exact=True).locator("visible=true").first


@pytest.fixture(scope="module")
def models(tiny: Path, trained_once: Path, byte_level_folder: Path, tmp_path_factory: Any) -> list[Path]:
    """A classifier, a tagger, a question-answering model that never answers, and a GPT-2."""
    home = tmp_path_factory.mktemp("models")
    sentences = [
        {"tokens": text.split(), "ner_tags": ["B-THING" if word in THINGS else "O" for word in text.split()]}
        for text, _ in REVIEWS[:32]
    ]
    TokenClassification().on(tiny).fit(sentences, output=home / "things", eval_fraction=0, config=CONFIG)
    questions = [{"question": "what?", "context": text, "answers": text.split()[-1]} for text, _ in REVIEWS[:8]]
    questions.append({"question": "why?", "context": "what a good film", "answers": ""})
    QuestionAnswering().on(tiny).fit(questions, output=home / "questions", eval_fraction=0, config=CONFIG, max_steps=2)
    silent = load(home / "questions", threshold=-1000.0)
    silent.save(home / "silent")
    (home / "writer").mkdir()
    shutil.copytree(trained_once, home / "reviews")
    shutil.copytree(trained_once, home / "contrary")
    weights = load_file(trained_once / "model.safetensors")
    flipped = {name: -one if name.startswith("classifier.") else one for name, one in weights.items()}
    save_file(flipped, home / "contrary" / "model.safetensors", {"format": "pt"})
    writer = make_gpt2(byte_level_folder, home / "writer", 1024)
    return [*(home / name for name in ("reviews", "things", "silent")), writer, home / "contrary"]


@pytest.fixture(scope="module")
def served(models: list[Path], tmp_path_factory: Any) -> Iterator[str]:
    """The address of `headway ui` in a separate process."""
    with serving(models, free_port(), tmp_path_factory.mktemp("home")) as address:
        yield address


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def serving(models: list[Path], port: int, home: Path) -> Iterator[str]:
    """Runs `headway ui` in a separate process; yields its address."""
    command = [sys.executable, "-m", "headway.ui.cli", "ui", *models, "--port", port, "--no-open"]
    process = subprocess.Popen(
        [str(part) for part in [*command, "--runs", home / "runs"]],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GRADIO_TEMP_DIR": str(home / "uploads")},
    )
    address = f"http://localhost:{port}/"
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(address, timeout=5):
                    break
            except OSError:
                assert process.poll() is None, "the server has ended"
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(params=[(1200, "light"), (390, "dark")], ids=["wide", "narrow"], scope="module")
def context(request: Any, chromium: Any) -> Iterator[Any]:
    width, scheme = request.param
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    yield context
    context.close()


narrow = pytest.mark.parametrize("context", [(390, "dark")], ids=["narrow"], indirect=True, scope="module")


@pytest.fixture
def site(context: Any, served: str) -> Iterator[Site]:
    """A new page; at the end there are no errors, no foreign requests, no overflow and no injected elements."""
    page = context.new_page()
    page.set_default_timeout(TIMEOUT)
    site = Site(page, served)

    def check_request(request: Any) -> None:
        if not request.url.startswith((served, "data:", "blob:", "about:")):
            site.problems.append(request.url)

    page.on("request", check_request)
    page.on("console", lambda message: site.problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: site.problems.append(str(error)))
    page.on("dialog", lambda dialog: (site.problems.append(dialog.message), dialog.dismiss()))
    page.goto(served)
    yield site
    assert site.problems == []
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".gradio-container img[src=x], .gradio-container script").count() == 0
    page.close()


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    return expect(locator)


def test_a_text_is_classified_and_an_example_can_be_clicked(site):
    site.choose("reviews")
    expect(site.page.get_by_text("bad, good")).to_be_visible()
    site.box("Text").fill(HOSTILE)
    site.button("Predict").click()
    expect(site.page.locator("#prediction .hw-bar")).to_have_count(2)
    expect(site.page.locator("#prediction .hw-result")).to_have_text("good")
    example = site.page.locator(".hw-choices button").locator("visible=true").first
    text = example.inner_text()
    example.click()
    expect(site.box("Text")).to_have_value(text)


def test_entities_are_highlighted_in_a_text_with_emoji_and_markup(site):
    site.choose("things")
    expect(site.page.get_by_text("Named entities")).to_be_visible()
    text = f"😀👩‍👩‍👧 such a good film {HOSTILE}"
    site.box("Text").fill(text)
    site.button("Predict").click()
    marked = site.page.locator("#prediction .hw-text")
    expect(marked).to_be_visible()
    expect(marked.locator("mark").first).to_contain_text("film")
    assert marked.evaluate("e => [...e.childNodes].map(n => n.firstChild ? n.firstChild.textContent : n.textContent)"
                           ".join('')") == text  # fmt: skip


def test_a_question_may_have_no_answer(site):
    site.choose("silent")
    site.box("Question").fill("why?")
    site.button("Predict").click()
    expect(site.page.get_by_role("alert")).to_have_text("Context is empty. Enter a text, or choose an example.")
    site.box("Context").fill(f"what a lovely film, {HOSTILE}")
    site.button("Predict").click()
    expect(site.page.locator("#prediction .hw-result")).to_have_text("no answer")
    expect(site.page.locator("#prediction .hw-chosen .hw-name")).to_have_text("no answer")
    expect(site.page.get_by_role("alert")).to_have_count(0)


def test_a_file_is_uploaded_and_downloaded_with_predictions(site, tmp_path):
    site.choose("reviews")
    expect(site.page.get_by_text("bad, good")).to_be_visible()
    site.button("Predictions for a file").click()
    upload = site.page.locator("input[type=file]").first
    upload.set_input_files(write_reviews(tmp_path / "reviews.csv"))
    expect(site.page.locator("#rows td").first).to_have_text(REVIEWS[0][0])
    site.button("Predict all rows").click()
    download = site.page.get_by_role("button", name="Download reviews-predictions.csv")
    expect(download).to_be_visible()
    with site.page.expect_download() as found:
        download.click()
    with open(found.value.path(), encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [text for text, _ in REVIEWS]
    assert {row["predicted_label"] for row in rows} == {"good", "bad"}


def test_a_broken_file_is_explained_without_a_path(site, tmp_path):
    site.choose("reviews")
    site.button("Predictions for a file").click()
    broken = tmp_path / "broken.csv"
    broken.write_text('text,label\n"a good film",good\n"a bad film,bad\n', encoding="utf-8")
    site.page.locator("input[type=file]").first.set_input_files(broken)
    expect(site.page.get_by_role("alert")).to_contain_text("broken.csv, line 3")
    assert "/" not in site.page.get_by_role("alert").inner_text().split("line")[0]


def test_a_prompt_is_previewed_and_answered_with_probabilities_side_by_side(site):
    site.tab("Prompt")
    sent = site.page.locator("#sent pre")
    expect(sent).to_contain_text("Review: Slow at first, then I could not look away.\nSentiment:")
    assert sent.inner_text().count("Review:") == 5
    site.page.get_by_label("number input for Examples in the prompt").fill("0")
    site.page.keyboard.press("Tab")
    expect(sent).not_to_contain_text("Every actor")
    site.box("Text").fill(HOSTILE)
    expect(sent).to_contain_text("<script>alert(1)</script>")
    site.button("Run").click()
    expect(site.page.locator("#prompt-output .hw-columns .hw-bars")).to_have_count(2)
    site.type_into_cell("#examples", "My text")
    site.page.get_by_label("number input for Examples in the prompt").fill("4")
    site.page.keyboard.press("Tab")
    expect(sent).to_contain_text("My text")


def test_a_text_is_continued_and_tokens_are_appended(site):
    site.tab("Generate")
    draft = site.page.locator("#draft textarea")
    draft.fill(HOSTILE)
    lengths = site.page.get_by_label("number input for Maximum new tokens").locator("visible=true")
    lengths.fill("30")
    site.page.keyboard.press("Tab")
    site.button("Continue").click()
    tokens = site.page.locator(".hw-tokens button")
    expect(tokens).to_have_count(10)
    site.page.wait_for_function(f"document.querySelector('#draft textarea').value.length > {len(HOSTILE) + 10}")
    expect(tokens).to_have_count(10)
    site.page.wait_for_timeout(500)  # until the end of the stream and the next tokens
    before = draft.input_value()
    assert before.startswith(HOSTILE)
    tokens.and_(site.page.locator(":enabled")).first.click()
    site.page.wait_for_function(
        "before => document.querySelector('#draft textarea').value.length > before.length", arg=before
    )
    assert draft.input_value().startswith(before)
    site.button("Undo").click()
    expect(draft).to_have_value(before)
    site.button("Show continuations").click()
    continuations = site.page.locator(".hw-long button")
    expect(continuations).to_have_count(4)
    continuations.first.click()
    site.page.wait_for_function(
        "before => document.querySelector('#draft textarea').value.length > before.length", arg=before
    )


def test_the_inspection_page_works_in_its_frame_and_can_be_downloaded(site):
    site.tab("Inspect")
    frame = site.page.frame_locator("iframe.hw-frame")
    site.box("Text").fill(HOSTILE)
    site.button("Inspect").click()
    expect(frame.locator("#model")).to_have_text("reviews")
    expect(frame.locator("#words")).to_contain_text("<script>alert(1)</script>")
    frame.get_by_role("link", name="Attention").click()
    frame.locator("#tokens button").nth(3).click()
    expect(frame.locator("#picked")).to_contain_text("attends to")
    with site.page.expect_download() as found:
        site.button("Download").click()
    assert found.value.suggested_filename == "reviews-inside.html"
    assert Path(found.value.path()).read_text(encoding="utf-8").startswith("<!doctype html>")


def write_hostile(path: Path) -> Path:
    """Reviews with hostile texts, and a column that divides them."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = [[text, label, HOSTILE if i % 2 else "other"] for i, (text, label) in enumerate(REVIEWS)]
        csv.writer(file).writerows([["text", "label", "part"], *rows, [f"a lovely {HOSTILE} film", "bad", "other"]])
    return path


def test_a_model_is_evaluated_on_an_uploaded_file_and_the_report_opens_and_is_downloaded(site, tmp_path):
    site.tab("Evaluate")
    site.page.locator("#labelled input[type=file]").set_input_files(write_hostile(tmp_path / "hostile.csv"))
    expect(site.page.get_by_text("hostile.csv (CSV): text, label, part")).to_be_visible()
    expect(site.page.locator("#evaluated input")).to_have_value("reviews")
    site.page.locator("#slices input").click()
    site.page.get_by_role("option", name="part", exact=True).click()
    site.page.keyboard.press("Escape")
    site.button("Evaluate").click()
    expect(site.page.locator("#scores .hw-confusion td.hw-right")).to_have_count(2)
    expect(site.page.locator("#scores .hw-errors")).to_contain_text("<script>alert(1)</script>")
    site.button("Decision rules").click()
    site.page.get_by_label(re.compile(r"^\s*Coverage\b")).fill("0.9")
    site.page.keyboard.press("Tab")  # the page sends a number when its box is left
    site.button("Report").click()
    frame = site.page.frame_locator("#scores iframe.hw-frame")
    expect(frame.locator("#slices")).to_contain_text("column part")
    expect(frame.locator("#mistakes")).to_contain_text("<script>alert(1)</script>")
    expect(site.page.locator("#scores .hw-caption").first).to_contain_text("of the rows are answered")
    frame.get_by_role("link", name="Mistakes").click()
    expect(frame.get_by_role("heading", name="Mistakes", exact=True)).to_be_in_viewport()
    with site.page.expect_download() as found:
        site.button("Download report").click()
    assert found.value.suggested_filename == "reviews-report.html"
    assert Path(found.value.path()).read_text(encoding="utf-8").startswith("<!doctype html>")


@narrow
def test_models_are_compared_and_the_differing_rows_are_downloaded(site, tmp_path):
    site.tab("Evaluate")
    site.tab("Compare")
    site.button("Compare").click()
    expect(site.page.get_by_role("alert")).to_contain_text("Choose at least two models")
    site.page.locator("#labelled input[type=file]").set_input_files(write_hostile(tmp_path / "hostile.csv"))
    expect(site.page.get_by_text("hostile.csv (CSV): text, label, part")).to_be_visible()
    for name in ("reviews", "contrary"):
        site.page.locator("#compared input").fill(name)
        site.page.get_by_role("option", name=name, exact=True).click()
    site.page.keyboard.press("Escape")
    site.button("Compare").click()
    shown = site.page.locator("#comparison")
    expect(shown).to_contain_text("reviews is better than contrary")
    expect(shown).to_contain_text("below 0.001")
    with site.page.expect_download() as found:
        site.button("Download the differing rows").click()
    with open(found.value.path(), encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(REVIEWS) + 1


@narrow
def test_label_errors_are_accepted_with_keys_and_by_probability_and_the_copy_is_downloaded(site, tmp_path):
    site.tab("Evaluate")
    site.tab("Label errors")
    data = write_wrong_reviews(tmp_path / "wrong.csv")
    site.page.locator("#labelled input[type=file]").set_input_files(data)
    expect(site.page.get_by_text("wrong.csv (CSV): text, label")).to_be_visible()
    site.page.locator("#label-model input").fill("mini-bert")
    site.page.get_by_role("option", name="mini-bert", exact=True).click()
    site.button("Find label errors").click()
    suspects, count = site.page.locator(".hw-suspect"), site.page.locator(".hw-count")
    expect(suspects).to_have_count(4)
    expect(suspects.first).to_contain_text("<script>alert(1)</script>")
    site.button("Write corrected copy").click()
    expect(site.page.get_by_role("alert")).to_contain_text("Accept at least one")
    suspects.first.get_by_role("button", name="Accept").focus()
    site.page.keyboard.press("r")
    site.page.keyboard.press("ArrowDown")
    site.page.keyboard.press("ArrowUp")
    expect(suspects.nth(1).get_by_role("button", name="Accept")).to_be_focused()
    site.page.keyboard.press("a")
    expect(count).to_have_text("1 accepted, 1 rejected, 2 open")
    suspects.first.get_by_role("button", name="Reject").click()
    expect(count).to_have_text("1 accepted, 0 rejected, 3 open")
    site.box("Probability of the likely label").fill("0.95")
    site.page.keyboard.press("Tab")
    site.button("Accept all above").click()
    expect(count).to_have_text("3 accepted, 0 rejected, 1 open")
    site.button("Write corrected copy").click()
    expect(site.page.get_by_text("3 rows have another label")).to_be_visible()
    with site.page.expect_download() as found:
        site.button("Download wrong-corrected.csv").click()
    before, after = data.read_text().splitlines(), Path(found.value.path()).read_text().splitlines()
    assert [line for line, text in enumerate(before, 1) if text != after[line - 1]] == list(WRONG)


def test_an_answer_is_greyed_out_while_its_question_differs(site):
    site.choose("reviews")
    prediction, text = site.page.locator("#prediction"), site.box("Text")
    text.fill("what a lovely film")
    site.button("Predict").click()
    expect(prediction.locator(".hw-bar")).to_have_count(2)
    expect(prediction).not_to_have_class(OUTDATED)
    text.fill("what a lovely film?")
    expect(prediction).to_have_class(OUTDATED)
    text.fill("what a lovely film")
    expect(prediction).not_to_have_class(OUTDATED)
    text.fill("")
    site.button("Predict").click()
    expect(site.page.get_by_role("alert")).to_contain_text("Text is empty")
    expect(prediction).to_have_text("The prediction appears here.")
    site.tab("Prompt")
    answer = site.page.locator("#prompt-output")
    site.button("Run").click()
    expect(answer.locator(".hw-bar")).to_have_count(4)
    expect(answer).not_to_have_class(OUTDATED)
    site.page.get_by_label(re.compile(r"^\s*Labels\b")).fill("good, bad")
    expect(answer).to_have_class(OUTDATED)


def test_the_tab_is_in_the_url_and_the_form_survives_a_reload(site):
    site.choose("reviews")
    site.box("Text").fill("a kept text")
    site.tab("Prompt")
    expect(site.page).to_have_url(f"{site.address}#prompt")
    site.page.reload()
    expect(site.page.get_by_role("tab", name="Prompt")).to_have_attribute("aria-selected", "true")
    site.page.go_back()
    expect(site.page.get_by_role("tab", name="Predict")).to_have_attribute("aria-selected", "true")
    expect(site.page.locator("#model input")).to_have_value("reviews")
    expect(site.box("Text")).to_have_value("a kept text")
    gradio = "AbortError", "errored out"  # the stream of results, which a reload closes
    site.problems[:] = [one for one in site.problems if not any(words in one for words in gradio)]


def test_the_chosen_model_survives_a_restart_of_the_server(models, chromium, tmp_path):
    page, port = chromium.new_page(), free_port()
    page.set_default_timeout(TIMEOUT)
    with serving(models, port, tmp_path) as address:
        page.goto(address)
        site = Site(page, address)
        site.choose("things")
        site.box("Text").fill("such a good film")
        page.wait_for_function("sessionStorage.getItem('headway-predict').includes('such a good film')")
        page.goto("about:blank")  # an open page would load itself again, at any time
    with serving(models, port, tmp_path):
        page.goto(address)
        expect(page.locator("#model input")).to_have_value("things")
        expect(site.box("Text")).to_have_value("such a good film")
        site.button("Predict").click()
        expect(page.locator("#prediction mark").first).to_contain_text("film")
    page.close()


def test_screen_readers_hear_the_answer_in_words(site):
    site.choose("reviews")
    site.box("Text").fill("what a lovely film")
    site.button("Predict").click()
    expect(site.page.locator("#prediction .hw-bar")).to_have_count(2)
    expect(site.page.locator("#prediction")).to_have_attribute("aria-live", "polite")
    site.page.wait_for_timeout(500)
    spoken = site.page.locator("[role=status], [aria-live]").all_text_contents()
    assert not [text for text in spoken if "common." in text]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_of_buttons_and_tabs_have_enough_contrast(site, scheme):
    site.page.emulate_media(color_scheme=scheme)
    site.page.reload()
    site.choose("reviews")
    site.page.wait_for_timeout(500)
    found = site.page.evaluate(CONTRASTS_JS)
    assert len(found) > 8
    assert {text: contrast for text, contrast in found if contrast < 4.5} == {}
