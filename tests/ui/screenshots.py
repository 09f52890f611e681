"""Screenshots of every tab of `headway ui`, wide and narrow, light and dark: `python tests/ui/screenshots.py FOLDER`.

Small models are trained on the sample data first, which takes a few minutes; a second call with the same folder reuses
them. The guide shows some of the screenshots.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headway.tasks import QuestionAnswering, TextClassification, TokenClassification
from headway.tasks.base.task import Task
from headway.tasks.samples import FOLDER

LOOKS = {"light": (1280, "light"), "dark": (1280, "dark"), "narrow": (390, "light"), "narrow-dark": (390, "dark")}
TIMEOUT = 180  # seconds
MODELS: dict[str, tuple[Task, str, int]] = {
    "questions": (QuestionAnswering(), "questions.json", 6),
    "entities": (TokenClassification(), "entities.conll", 15),
    "topics": (TextClassification(), "topics.csv", 6),
    "messages": (TextClassification(), "messages.csv", 8),
    "messages-short": (TextClassification(), "messages.csv", 1),
}
NAMES = "😀 Ingrid Solheim took the night train from Oslo to Berlin, <b>and Oakline paid</b>."


def train(runs: Path) -> None:
    """Trains the models of the screenshots."""
    for name, (task, data, epochs) in MODELS.items():
        if not (runs / name).exists():
            options = {"epochs": epochs, "batch_size": 16, "learning_rate": 4e-4}
            task.on("mini-bert").fit(FOLDER / data, output=runs / name, **options)


@contextmanager
def served(runs: Path) -> Iterator[str]:
    """Runs `headway ui`; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "headway.ui.cli", "ui", "--runs", str(runs), "--port", str(port), "--no-open"]
    process = subprocess.Popen(command, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    try:
        start = time.monotonic()
        while time.monotonic() - start < TIMEOUT:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(timeout=30)


class Camera:
    """Visits the tabs and takes screenshots.

    Args:
        page: page of the browser.
        folder: folder of the screenshots.
        look: suffix of their names.
    """

    def __init__(self, page: Any, folder: Path, look: str) -> None:
        self.page, self.folder, self.look = page, folder, look

    def take(self, name: str) -> None:
        """Takes a screenshot of the whole page."""
        self.page.mouse.move(0, 0)
        self.page.wait_for_timeout(700)
        self.page.screenshot(path=self.folder / f"{name}-{self.look}.png", full_page=True)

    def shown(self, selector: str) -> Any:
        """The first visible match on the open tab."""
        return self.page.locator(selector).locator("visible=true").first

    def button(self, name: str) -> Any:
        """A button on the open tab."""
        return self.page.get_by_role("button", name=re.compile(rf"^{re.escape(name)}\b")).locator("visible=true").first

    def choose(self, name: str) -> None:
        """Chooses a model on the tab Predict."""
        box = self.page.locator("#model input")
        box.click()
        box.fill(name)
        self.page.get_by_role("option", name=name, exact=True).click()
        self.page.get_by_text("Held-out").wait_for()
        self.page.wait_for_timeout(1500)

    def predict(self) -> None:
        """One label, several labels, entities, an answer, an error, a file, similar sentences."""
        for name, example in {"messages": 2, "topics": 1, "questions": 0}.items():
            self.choose(name)
            self.page.locator(".hw-choices button").locator("visible=true").nth(example).click()
            self.page.locator("#prediction .hw-bar").first.wait_for()
            self.take(f"predict-{name}")
        self.choose("entities")
        self.page.get_by_label("Text", exact=True).locator("visible=true").first.fill(NAMES)
        self.button("Predict").click()
        self.page.locator("#prediction .hw-text").wait_for()
        self.take("predict-entities")
        self.choose("questions")
        self.page.get_by_label("Question", exact=True).locator("visible=true").first.fill("")
        self.button("Predict").click()
        self.page.get_by_role("alert").wait_for()
        self.take("predict-error")
        self.choose("messages")
        self.button("Predictions for a file").click()
        self.page.locator("input[type=file]").first.set_input_files(FOLDER / "messages.csv")
        self.page.locator("#rows td").first.wait_for()
        self.button("Predict all rows").click()
        self.page.get_by_role("button", name="Download messages-predictions.csv").wait_for()
        self.button("Rename or delete the model").click()
        self.button("Similar sentences").click()
        self.button("Search").click()
        self.page.locator("#similar .hw-bar").first.wait_for()
        self.take("predict-file")

    def train(self) -> None:
        """The empty form, and the form with a sample."""
        self.take("train")
        self.page.locator(".hw-choices button").locator("visible=true").first.click()
        self.page.wait_for_timeout(6000)
        self.take("train-data")

    def evaluate(self) -> None:
        """The metrics and the report of a model, a comparison of two, and labels to check."""
        self.page.locator("#labelled input[type=file]").set_input_files(FOLDER / "messages.csv")
        self.page.get_by_text("messages.csv (CSV)").wait_for()
        self.page.locator("#evaluated input").fill("messages")
        self.page.get_by_role("option", name="messages", exact=True).click()
        self.button("Evaluate").click()
        self.page.locator("#scores .hw-confusion").wait_for()
        self.take("evaluate")
        self.button("Decision rules").click()
        self.button("Report").click()
        self.page.frame_locator("#scores iframe").locator("#metrics").wait_for()
        self.take("evaluate-report")
        self.page.get_by_role("tab", name="Compare").click()
        for name in ("messages", "messages-short"):
            self.page.locator("#compared input").fill(name)
            self.page.get_by_role("option", name=name, exact=True).click()
        self.page.keyboard.press("Escape")
        self.button("Compare").click()
        self.page.locator("#comparison .hw-table").first.wait_for()
        self.take("evaluate-compare")
        self.page.get_by_role("tab", name="Label errors").click()
        self.button("Find label errors").click()
        self.page.locator(".hw-suspect").first.wait_for()
        self.button("Accept all above").click()
        self.take("evaluate-labels")

    def prompt(self) -> None:
        """An answer beside the prompt, and all options."""
        self.page.locator("#sent pre").wait_for()
        self.button("Run").click()
        self.page.locator("#prompt-output .hw-bar").first.wait_for()
        self.take("prompt")
        self.button("More options").click()
        self.button("Evaluation on a labelled file").click()
        self.take("prompt-more")

    def generate(self) -> None:
        """A generated text and continuations."""
        self.page.locator(".hw-choices button").locator("visible=true").first.click()
        self.page.locator(".hw-tokens").wait_for()
        self.button("Continue").click()
        self.page.wait_for_timeout(6000)
        self.button("Show continuations").click()
        self.page.locator(".hw-long").wait_for()
        self.take("generate")

    def inspect(self) -> None:
        """The inspection page of a text."""
        self.page.locator(".hw-choices button").locator("visible=true").first.click()
        self.page.frame_locator("iframe.hw-frame").locator("#model").wait_for()
        self.take("inspect")


def main(folder: Path) -> None:
    """Takes all screenshots."""
    from playwright.sync_api import sync_playwright

    runs = folder / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    train(runs)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with served(runs) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for look, (width, scheme) in LOOKS.items():
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page = context.new_page()
            page.set_default_timeout(1000 * TIMEOUT)
            page.goto(address)
            camera = Camera(page, folder, look)
            tabs: dict[str, Callable[[], None]] = {
                "Predict": camera.predict,
                "Train": camera.train,
                "Evaluate": camera.evaluate,
                "Prompt": camera.prompt,
                "Generate": camera.generate,
                "Inspect": camera.inspect,
            }
            for name, visit in tabs.items():
                page.get_by_role("tab", name=name).click()
                page.wait_for_timeout(1500)
                visit()
            context.close()
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("python tests/ui/screenshots.py FOLDER")
    main(Path(sys.argv[1]))
