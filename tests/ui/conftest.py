"""Fixtures: a tiny model with random weights, small files, and `headway` in this process."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from headway.core.checkpoints.checkpoint import save_checkpoint
from headway.core.models.bert import Bert, BertConfig
from headway.core.models.heads import Network
from headway.core.tokenizers.vocabulary import learn_wordpiece
from headway.ui.cli import main
from reviews import REVIEWS, write_reviews

TIMEOUT = 60_000  # milliseconds for a page: two browsers and two servers may share two cores


@dataclass(frozen=True)
class Ran:
    """The result of a command."""

    code: int
    out: str
    err: str


Headway = Callable[..., Ran]


@pytest.fixture
def headway(capfd: pytest.CaptureFixture[str]) -> Headway:
    """Runs a command: `headway("tasks", "--json")`."""

    def run(*arguments: object) -> Ran:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A Chromium browser."""
    from playwright.sync_api import expect, sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        expect.set_options(timeout=TIMEOUT)
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without the environment variables of a launcher."""
    for name in ("RANK", "WORLD_SIZE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny models are slower on several threads, much slower while the cores are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny BERT without a head."""
    tokenizer = learn_wordpiece((text for text, _ in REVIEWS), 120)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "intermediate_size": 64, "max_positions": 32}
    folder = tmp_path_factory.mktemp("tiny-bert")
    save_checkpoint(folder, Network(Bert(BertConfig(vocab_size=tokenizer.vocab_size, dropout=0.1, **sizes))))
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="session")
def trained_once(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    data = write_reviews(folder / "reviews.csv")
    learn = ["--learning-rate", "0.005", "--epochs", "8", "--batch-size", "8", "--precision", "fp32"]
    command = ["train", "text-classification", "--data", data, "--model", tiny, "--output", folder / "model", *learn]
    assert main([str(part) for part in command]) == 0
    return folder / "model"


@pytest.fixture
def trained(trained_once: Path, folder: Path) -> Path:
    """A model that classifies reviews as good or bad, in the working directory."""
    return Path(shutil.copytree(trained_once, folder / "model")).relative_to(folder)


@pytest.fixture
def reviews(folder: Path) -> Path:
    """reviews.csv in the working directory."""
    return write_reviews(folder / "reviews.csv").relative_to(folder)
