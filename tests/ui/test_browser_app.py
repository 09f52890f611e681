"""The tabs Try, Prompt, Write and Look inside in a real browser: what a person sees, and that nothing leaves."""

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from headway.core.training.training_config import TrainConfig
from headway.tasks import QuestionAnswering, TokenClassification, load
from reviews import REVIEWS, THINGS, write_reviews
from tiny_gpt2 import make_gpt2

pytestmark = pytest.mark.browser
HOSTILE = "a <script>alert(1)</script> <img src=x onerror=alert(2)> {{value}} ${alert(3)} `x` good film 🙂"
PATIENCE = 60_000
CONFIG = TrainConfig(max_steps=60, batch_size=8, learning_rate=5e-3, precision="fp32", device="cpu", save_steps=1000)


@dataclass
class Site:
    """A page of the app, and what the browser has complained of."""

    page: Any
    address: str
    told: list[str] = field(default_factory=list)

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def choose(self, name: str) -> None:
        """A model of the tab Try."""
        box = self.page.locator("#model input")
        box.click()
        box.fill(name)
        self.page.get_by_role("option", name=name, exact=True).click()
        expect(box).to_have_value(name)

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=re.compile(rf"^{re.escape(name)}\b")).locator("visible=true").first

    def box(self, label: str) -> Any:
        return self.page.get_by_label(label, exact=True).locator("visible=true").first


@pytest.fixture(scope="module")
def models(tiny: Path, trained_once: Path, byte_level_folder: Path, tmp_path_factory: Any) -> list[Path]:
    """A classifier, one that finds things, one that never finds an answer, and one that writes."""
    home = tmp_path_factory.mktemp("models")
    sentences = [
        {"tokens": text.split(), "ner_tags": ["B-THING" if word in THINGS else "O" for word in text.split()]}
        for text, _ in REVIEWS[:32]
    ]
    TokenClassification().on(tiny).fit(sentences, output=home / "things", eval_fraction=0, config=CONFIG)
    asked = [{"question": "what?", "context": text, "answers": text.split()[-1]} for text, _ in REVIEWS[:8]]
    asked.append({"question": "why?", "context": "what a good film", "answers": ""})
    QuestionAnswering().on(tiny).fit(asked, output=home / "asked", eval_fraction=0, config=CONFIG, max_steps=2)
    silent = load(home / "asked", threshold=-1000.0)
    silent.save(home / "silent")
    (home / "writer").mkdir()
    shutil.copytree(trained_once, home / "reviews")
    return [home / "reviews", home / "things", home / "silent", make_gpt2(byte_level_folder, home / "writer", 1024)]


@pytest.fixture(scope="module")
def served(models: list[Path], tmp_path_factory: Any) -> Iterator[str]:
    """The address of `headway ui` in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "headway.ui.cli", "ui", *models, "--port", port, "--no-open"]
    process = subprocess.Popen(
        [str(part) for part in [*command, "--runs", tmp_path_factory.mktemp("runs")]],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GRADIO_TEMP_DIR": str(tmp_path_factory.mktemp("uploads"))},
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


@pytest.fixture
def site(context: Any, served: str) -> Iterator[Site]:
    """A fresh page; at the end nothing was asked of another machine, and nothing went wrong in the browser."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    site = Site(page, served)

    def see(request: Any) -> None:
        if not request.url.startswith((served, "data:", "blob:", "about:")):
            site.told.append(request.url)

    page.on("request", see)
    page.on("console", lambda message: site.told.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: site.told.append(str(error)))
    page.on("dialog", lambda dialog: (site.told.append(dialog.message), dialog.dismiss()))
    page.goto(served)
    yield site
    assert site.told == []
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".gradio-container img[src=x], .gradio-container script").count() == 0
    page.close()


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect

    return expect(locator)


def test_a_text_gets_its_label_with_bars_and_an_example_can_be_clicked(site):
    site.choose("reviews")
    expect(site.page.get_by_text("bad, good")).to_be_visible()
    site.box("Text").fill(HOSTILE)
    site.button("Ask").click()
    expect(site.page.locator("#answer .hw-bar")).to_have_count(2)
    expect(site.page.locator("#answer .hw-said")).to_have_text("good")
    site.page.locator(".hw-choices button").locator("visible=true").first.click()
    expect(site.box("Text")).to_have_value("Your dunning letter arrived before the invoice did. I'm happy to pay; "
                                           "I merely need something to pay.")  # fmt: skip


def test_entities_are_marked_in_a_text_with_emoji_and_markup(site):
    site.choose("things")
    expect(site.page.get_by_text("Named entities")).to_be_visible()
    text = f"😀👩‍👩‍👧 such a good film {HOSTILE}"
    site.box("Text").fill(text)
    site.button("Ask").click()
    marked = site.page.locator("#answer .hw-text")
    expect(marked).to_be_visible()
    expect(marked.locator("mark").first).to_contain_text("film")
    assert marked.evaluate("e => [...e.childNodes].map(n => n.firstChild ? n.firstChild.textContent : n.textContent)"
                           ".join('')") == text  # fmt: skip


def test_a_question_may_have_no_answer(site):
    site.choose("silent")
    site.box("Question").fill("why?")
    site.button("Ask").click()
    expect(site.page.get_by_role("alert")).to_have_text(
        "Context is empty. Write something there, or click on an example."
    )
    site.box("Context").fill(f"what a lovely film, {HOSTILE}")
    site.button("Ask").click()
    expect(site.page.locator("#answer .hw-said")).to_have_text("no answer")
    expect(site.page.locator("#answer .hw-chosen .hw-name")).to_have_text("no answer")
    expect(site.page.get_by_role("alert")).to_have_count(0)


def test_a_file_goes_in_and_comes_out_with_answers(site, tmp_path):
    site.choose("reviews")
    expect(site.page.get_by_text("bad, good")).to_be_visible()
    site.button("A whole file").click()
    upload = site.page.locator("input[type=file]").first
    upload.set_input_files(write_reviews(tmp_path / "reviews.csv"))
    expect(site.page.locator("#rows td").first).to_have_text(REVIEWS[0][0])
    site.button("Ask about every row").click()
    download = site.page.get_by_role("button", name="Download reviews-answers.csv")
    expect(download).to_be_visible()
    with site.page.expect_download() as found:
        download.click()
    with open(found.value.path(), encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [text for text, _ in REVIEWS]
    assert {row["predicted_label"] for row in rows} == {"good", "bad"}


def test_a_broken_file_is_explained_without_a_path(site, tmp_path):
    site.choose("reviews")
    site.button("A whole file").click()
    broken = tmp_path / "broken.csv"
    broken.write_text('text,label\n"a good film",good\n"a bad film,bad\n', encoding="utf-8")
    site.page.locator("input[type=file]").first.set_input_files(broken)
    expect(site.page.get_by_role("alert")).to_contain_text("broken.csv, line 3")
    assert "/" not in site.page.get_by_role("alert").inner_text().split("line")[0]


def test_a_prompt_is_shown_as_it_is_sent_and_gives_probabilities_side_by_side(site):
    site.tab("Prompt")
    sent = site.page.locator("#sent pre")
    expect(sent).to_contain_text("Review: Slow at first, then I could not look away.\nSentiment:")
    assert sent.inner_text().count("Review:") == 5
    site.page.get_by_label("number input for Worked examples in the prompt").fill("0")
    site.page.keyboard.press("Tab")
    expect(sent).not_to_contain_text("Every actor")
    site.box("Your text").fill(HOSTILE)
    expect(sent).to_contain_text("<script>alert(1)</script>")
    site.button("Ask").click()
    expect(site.page.locator("#prompted .hw-beside .hw-bars")).to_have_count(2)
    site.page.locator("#examples [role=gridcell]").first.dblclick()
    site.page.keyboard.press("Control+A")
    site.page.keyboard.type("A text of my own")
    site.page.keyboard.press("Enter")
    site.page.get_by_label("number input for Worked examples in the prompt").fill("4")
    site.page.keyboard.press("Tab")
    expect(sent).to_contain_text("A text of my own")


def test_a_text_is_written_on_and_tokens_are_appended(site):
    site.tab("Write")
    draft = site.page.locator("#draft textarea")
    draft.fill(HOSTILE)
    lengths = site.page.get_by_label("number input for Length").locator("visible=true")
    lengths.fill("30")
    site.page.keyboard.press("Tab")
    site.button("Go on").click()
    tokens = site.page.locator(".hw-tokens button")
    expect(tokens).to_have_count(10)
    site.page.wait_for_function(f"document.querySelector('#draft textarea').value.length > {len(HOSTILE) + 10}")
    expect(tokens).to_have_count(10)
    site.page.wait_for_timeout(500)  # the end of the stream, and the tokens after it
    before = draft.input_value()
    assert before.startswith(HOSTILE)
    tokens.and_(site.page.locator(":enabled")).first.click()
    site.page.wait_for_function(
        "before => document.querySelector('#draft textarea').value.length > before.length", arg=before
    )
    assert draft.input_value().startswith(before)
    site.button("Undo").click()
    expect(draft).to_have_value(before)
    site.button("Show several ways on").click()
    ways = site.page.locator(".hw-long button")
    expect(ways).to_have_count(4)
    ways.first.click()
    site.page.wait_for_function(
        "before => document.querySelector('#draft textarea').value.length > before.length", arg=before
    )


def test_a_look_inside_is_alive_in_its_frame_and_can_be_downloaded(site):
    site.tab("Look inside")
    frame = site.page.frame_locator("iframe.hw-frame")
    site.box("Text").fill(HOSTILE)
    site.button("Look").click()
    expect(frame.locator("#model")).to_have_text("reviews")
    expect(frame.locator("#words")).to_contain_text("<script>alert(1)</script>")
    frame.get_by_role("link", name="Attention").click()
    frame.locator("#tokens button").nth(3).click()
    expect(frame.locator("#picked")).to_contain_text("looks at")
    with site.page.expect_download() as found:
        site.button("Download it").click()
    assert found.value.suggested_filename == "reviews-inside.html"
    assert Path(found.value.path()).read_text(encoding="utf-8").startswith("<!doctype html>")
