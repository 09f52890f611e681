"""The tab Train in a real browser: from a file to a prediction; stopping, resuming, closing and reopening."""

import os
import re
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from headway.ui.runs.jobs import Jobs
from reviews import REVIEWS

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=alert(1)> {{value}} ${alert(2)} `${alert(3)}` <script>alert(4)</script> \U0001f600"
TIMEOUT = 60_000  # milliseconds
MAX_UPLOAD = 1  # MB


@dataclass
class Site:
    """A server, and the errors and foreign requests of the browser."""

    address: str
    home: Path  # with the folders of runs and of uploads
    folder: Path
    context: Any
    problems: list[str] = field(default_factory=list)

    def open(self) -> Any:
        """Opens the tab Train on a new page."""
        page = self.context.new_page()
        page.set_default_timeout(TIMEOUT)
        page.on("console", lambda message: self.problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("dialog", lambda dialog: (self.problems.append(dialog.message), dialog.dismiss()))
        page.on("request", self._check_request)
        page.goto(self.address)
        page.get_by_role("tab", name="Train").click()
        return page

    def _check_request(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.problems.append(request.url)

    def write(self, name: str, lines: list[str]) -> Path:
        path = self.folder / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def served(tiny: Path, home: Path) -> Iterator[str]:
    """The address of `headway ui` in a separate process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "headway.ui.cli", "ui", tiny, "--runs", home / "runs", "--port", port]
    command += ["--no-open", "--max-upload", MAX_UPLOAD]
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(home / "uploads"), "OMP_NUM_THREADS": "1"}
    with (
        (home / "server.log").open("wb") as log,
        subprocess.Popen([str(word) for word in command], env=environment, stdout=log, stderr=log) as process,
    ):
        until(lambda: is_listening(port) or process.poll() is not None)
        assert process.poll() is None, (home / "server.log").read_text()
        yield f"http://127.0.0.1:{port}/"
        process.terminate()
        process.wait(60)
    with Jobs(home / "runs") as jobs:
        for job in jobs.all():
            jobs.kill(job)
        until(lambda: not any(job.alive for job in jobs.all()))
    assert "Traceback" not in (home / "server.log").read_text()


def is_listening(port: int) -> bool:
    with socket.socket() as opened:
        return opened.connect_ex(("127.0.0.1", port)) == 0


def until(condition: Callable[[], Any]) -> None:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < TIMEOUT / 1000
        time.sleep(0.05)


@pytest.fixture
def site(served: str, home: Path, chromium: Any, folder: Path) -> Iterator[Site]:
    context = chromium.new_context(viewport={"width": 1200, "height": 900}, accept_downloads=True)
    found = Site(served, home, folder, context)
    yield found
    context.close()


def fill(page: Any, tiny: Path, name: str, epochs: int) -> None:
    """Fills in a model and options with which the tiny model learns."""
    base = page.get_by_label("Base model")
    base.click()
    page.get_by_role("option", name=tiny.name, exact=True).click()
    page.get_by_role("button", name="More options").locator("visible=true").click()
    for label, value in (("Name", name), ("Epochs", epochs), ("Learning rate", 0.005), ("Batch size", 8)):
        page.get_by_label(re.compile(rf"^\s*{label}\b")).fill(str(value))


def upload(page: Any, path: Path) -> None:
    page.locator("#data input[type=file]").set_input_files(path)


def test_from_an_uploaded_file_to_a_prediction(site, tiny, expect_of):
    lines = [f'"{text}",{label},"{HOSTILE}"' for text, label in REVIEWS]
    data = site.write(
        "my <b>reviews <img src=x>.csv", ["text,label,<b>note</b>", *lines, f'"a poor {HOSTILE} film",bad,']
    )
    page = site.open()
    upload(page, data)
    expect_of(page.locator("#first-rows")).to_contain_text("<img src=x onerror=alert(1)> {{value}} ${alert(2)}")
    expect_of(page.locator("#first-rows em")).to_have_text(["Text", "Label"])
    expect_of(page.get_by_label("Task")).to_have_value("Text classification")
    expect_of(page.locator("#report")).to_contain_text("65 usable examples")
    fill(page, tiny, "../my reviews", 12)
    page.get_by_role("button", name="Start training").click()
    head = page.locator("#run-head")
    expect_of(head).to_contain_text("my-reviews")
    expect_of(head).to_contain_text("finished")
    expect_of(page.locator("#curves svg")).to_have_count(2)
    expect_of(page.locator("#results .hw-confusion td.hw-right")).to_have_count(2)
    assert sorted(path.name for path in (site.home / "runs").iterdir()) == [".jobs", "my-reviews"]

    with page.expect_download() as downloaded:
        page.get_by_role("button", name="Download").click()
    with zipfile.ZipFile(downloaded.value.path()) as archive:
        assert archive.testzip() is None
        assert {"my-reviews/config.json", "my-reviews/model.safetensors"} <= set(archive.namelist())

    page.get_by_role("button", name="Predict", exact=True).click()
    expect_of(page.get_by_role("tab", name="Predict", exact=True)).to_have_attribute("aria-selected", "true")
    expect_of(page.locator("#model input")).to_have_value("my-reviews")
    expect_of(page.locator(".hw-facts").filter(has_text="bad, good")).to_be_visible()
    page.get_by_label("Text", exact=True).and_(page.locator("textarea:visible")).fill("what a lovely song")
    page.get_by_role("button", name="Predict", exact=True).click()
    expect_of(page.locator("#prediction")).to_contain_text("good")
    assert page.locator("#first-rows img, #first-rows script, #report img").count() == 0
    assert site.problems == []


@pytest.mark.parametrize("width", [390, 1200])
def test_a_pair_of_models_is_trained_on_pairs_of_texts_and_writes_an_output(site, expect_of, width):
    page = site.open()
    page.set_viewport_size({"width": width, "height": 900})
    rows = [f"the {word},my {word}" for word in ("cat", "dog", "fox", "mat") * 4]
    upload(page, site.write("orders.csv", ["input,output", *rows]))
    expect_of(page.get_by_label("Task")).to_have_value("Text to text")
    base = page.get_by_label("Base model")
    expect_of(base).to_have_value("mini-gpt2")  # the list of the task is there: Gradio reports an error if it gets
    expect_of(page.locator("#report")).to_contain_text("usable examples")  # shorter while it is open
    base.click()
    page.get_by_role("option", name="mini-bert+mini-gpt2", exact=True).click()
    page.get_by_role("button", name="More options").locator("visible=true").click()
    for label, value in (("Name", f"pair {width}"), ("Epochs", 1), ("Batch size", 8), ("Max new tokens", 5)):
        page.get_by_label(re.compile(rf"^\s*{label}\b")).locator("visible=true").first.fill(str(value))
    page.get_by_role("button", name="Start training").click()
    expect_of(page.locator("#run-head")).to_contain_text(f"pair-{width}")
    expect_of(page.locator("#run-head")).to_contain_text("finished")
    page.get_by_role("button", name="Predict", exact=True).click()
    page.get_by_label("Input", exact=True).and_(page.locator("textarea:visible")).fill("the cat")
    page.get_by_role("button", name="Predict", exact=True).click()
    expect_of(page.locator("#prediction")).to_contain_text("maximum length")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert site.problems == []


def test_a_run_is_stopped_and_resumed_after_the_page_was_reopened(site, tiny, expect_of):
    page = site.open()
    upload(page, site.write("long.csv", ["text,label", *(f"{text},{label}" for text, label in REVIEWS)]))
    expect_of(page.locator("#report")).to_contain_text("64 usable examples")
    fill(page, tiny, "long", 400)
    page.get_by_role("button", name="Start training").click()
    expect_of(page.locator("#run-head")).to_contain_text("long")
    expect_of(page.locator("#run-head")).to_contain_text("left, ")
    page.close()

    page = site.open()
    head = page.locator("#run-head")
    expect_of(head).to_contain_text("running")
    expect_of(page.get_by_label("long (running)")).to_be_checked()
    page.get_by_role("button", name="Stop", exact=True).click()
    expect_of(head).to_contain_text("stopped")
    expect_of(head).to_contain_text("It can be resumed from step")
    page.get_by_role("button", name="Resume from step").click()
    expect_of(head).to_contain_text("left, ")
    page.get_by_role("button", name="Stop", exact=True).click()
    expect_of(head).to_contain_text("stopped")
    page.get_by_role("button", name="Remove", exact=True).click()
    expect_of(page.get_by_label("long (stopped)")).to_have_count(0)
    assert "long" not in " ".join(path.name for path in (site.home / "runs").iterdir())
    assert site.problems == []


def test_impatient_users_start_one_run_and_lose_no_model_silently(site, tiny, expect_of):
    page = site.open()
    upload(page, site.write("twice.csv", ["text,label", *(f"{text},{label}" for text, label in REVIEWS)]))
    expect_of(page.locator("#report")).to_contain_text("64 usable examples")
    fill(page, tiny, "twice", 2)
    page.get_by_role("button", name="Start training").dblclick()
    expect_of(page.locator("#run-head")).to_contain_text("finished")
    page.reload()
    expect_of(page.get_by_label("twice (finished)")).to_be_checked()
    with Jobs(site.home / "runs") as jobs:
        assert [job.request.name for job in jobs.all()].count("twice") == 1
    expect_of(page.get_by_label(re.compile("twice-2"))).to_have_count(0)
    page.get_by_role("button", name="Predict", exact=True).click()
    expect_of(page.locator("#model input")).to_have_value("twice")

    other = site.open()
    other.get_by_role("tab", name="Predict").click()
    other.locator("#model input").fill("twice")
    other.get_by_role("option", name="twice", exact=True).click()
    other.get_by_role("button", name="Rename or delete the model").click()
    other.get_by_role("button", name="Delete …").click()
    other.get_by_role("button", name="Delete the model", exact=True).click()
    expect_of(other.locator("#model input")).not_to_have_value("twice")

    page.get_by_label("Text", exact=True).and_(page.locator("textarea:visible")).fill("what a lovely song")
    page.get_by_role("button", name="Predict", exact=True).click()
    expect_of(page.get_by_role("alert").first).to_contain_text("twice")
    page.go_back()
    expect_of(page.get_by_role("tab", name="Train")).to_have_attribute("aria-selected", "true")
    assert not [one for one in site.problems if "AbortError" not in one and "errored out" not in one]


def test_a_broken_file_is_explained_in_the_page(site, expect_of):
    page = site.open()
    upload(page, site.write("broken.csv", ["text,label", "a good film,good", 'a "bad" film,bad,oh,no']))
    first = page.locator("#first-rows")
    expect_of(first).to_contain_text("broken.csv, line 3")
    expect_of(first.get_by_role("alert")).to_be_visible()
    assert str(site.folder) not in first.inner_text()
    assert "/" not in first.inner_text()

    page.get_by_label("Clear").first.click()
    upload(page, site.write("one.csv", ["text,label", *(f"a film {i},good" for i in range(9))]))
    expect_of(page.locator("#report")).to_contain_text("every row has the label 'good'")
    assert site.problems == []


def test_a_wrongly_inferred_column_is_corrected(site, expect_of):
    page = site.open()
    lines = [f"{text},{label},{i % 3}" for i, (text, label) in enumerate(REVIEWS)]
    upload(page, site.write("columns.csv", ["text,label,stars", *lines]))
    expect_of(page.locator("#report")).to_contain_text("good")
    label = page.locator("#column-label")
    label.get_by_role("button", name="Remove").first.click()
    label.locator("input").click()
    page.get_by_role("option", name="stars", exact=True).click()
    expect_of(page.locator("#report .hw-name")).to_have_text(["0", "1", "2"])
    expect_of(page.locator("#first-rows th").filter(has_text="stars")).to_contain_text("Label")
    assert site.problems == []


def test_a_file_over_the_limit_is_refused(site, expect_of):
    page = site.open()
    upload(page, site.write("large.csv", ["text,label", *("a good film,good" for _ in range(80_000))]))
    expect_of(page.locator("body")).to_contain_text("maximum allowed size")
    expect_of(page.locator("#first-rows")).to_contain_text("appear here")
    assert not list((site.home / "uploads").rglob("large.csv"))


@pytest.fixture
def expect_of() -> Callable[..., Any]:
    from playwright.sync_api import expect

    return expect
