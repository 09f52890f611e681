"""Fixtures: a tiny model with random weights, small files, and `headway` in this process."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from headway.core.checkpoints.checkpoint import save_checkpoint
from headway.core.models.bert import Bert, BertConfig
from headway.core.models.heads import Network, language_model_head
from headway.core.tokenizers.tokenizer import Tokenizer
from headway.core.tokenizers.vocabulary import learn_wordpiece
from headway.tasks import TextClassification
from headway.ui.cli import main
from headway.ui.http.api import create_api
from headway.ui.http.limits import Limits
from headway.ui.model_registry import ModelRegistry
from headway.ui.runs.jobs import Jobs
from ran_commands import Headway, Ran
from reviews import REVIEWS, write_reviews
from task_inputs import FEW_STEPS, SAMPLES, TRAINING
from tiny_gpt2 import make_gpt2
from transformers import BertForSequenceClassification

TIMEOUT = 60_000  # milliseconds for a page: two browsers and two servers may share two cores


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


@pytest.fixture(scope="session")
def ranker(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained on pairs of "a good film" and another text, with a number."""
    output = tmp_path_factory.mktemp("models") / "ranker"
    texts = ("a lovely film", "an awful meal", "what a walk", "a good song")
    rows = [{"text": "a good film", "pair": text, "label": 1.5 * i} for i, text in enumerate(texts)]
    options = {"max_steps": 40, "learning_rate": 5e-3, "precision": "fp32", "device": "cpu", "progress": False}
    TextClassification().on(tiny).fit(rows, output=output, eval_fraction=0, **options)
    return output


@pytest.fixture(scope="session")
def nli(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published classifier of pairs with the labels of natural language inference and random weights."""
    folder = tmp_path_factory.mktemp("models") / "nli"
    torch.manual_seed(0)
    names = dict(enumerate(("contradiction", "neutral", "entailment")))
    built = BertForSequenceClassification.from_pretrained(
        tiny, id2label=names, label2id={n: i for i, n in names.items()}
    )
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    built.save_pretrained(folder)
    Tokenizer.load(tiny).save(folder)
    return folder


@pytest.fixture
def trained(trained_once: Path, folder: Path) -> Path:
    """A model that classifies reviews as good or bad, in the working directory."""
    return Path(shutil.copytree(trained_once, folder / "model")).relative_to(folder)


@pytest.fixture
def reviews(folder: Path) -> Path:
    """reviews.csv in the working directory."""
    return write_reviews(folder / "reviews.csv").relative_to(folder)


@pytest.fixture(scope="session")
def gpt2(byte_level_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "writer"
    folder.mkdir()
    return make_gpt2(byte_level_folder, folder)


@pytest.fixture(scope="session")
def masked(wordpiece_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with a masked-language-model head and random weights."""
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
    """A classifier, a GPT-2 and a BERT."""
    return ModelRegistry([trained_once, gpt2, masked], built_in=False)


@pytest.fixture(scope="session")
def task_models(
    tiny: Path, trained_once: Path, gpt2: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A model folder for every task."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "corpus.txt").write_text("what a lovely film, such a great song\n" * 40)
    (folder / "scores.csv").write_text("text,pair,score\na film,a song,0.5\na film,a film,1\n")
    folders = {"text-classification": trained_once}
    for task, (data, _) in TRAINING.items():
        data = folder / data if (folder / data).exists() else SAMPLES / data
        model, output = gpt2 if task in ("text-generation", "text-to-text") else tiny, folder / task
        command = ["train", task, "--data", data, "--model", model, "--output", output, *FEW_STEPS]
        assert main([str(part) for part in command]) == 0
        folders[task] = output
    return folders


@pytest.fixture(scope="session")
def api(task_models: dict[str, Path], tiny: Path, gpt2: Path) -> Iterator[FastAPI]:
    """The API with all models; the first one, the default, classifies reviews as good or bad."""
    api = create_api(ModelRegistry([*task_models.values(), tiny, gpt2], built_in=False, max_open=20))
    yield api
    api.state.serving.close(10)


@pytest.fixture(scope="session")
def client(api: FastAPI) -> TestClient:
    return TestClient(api)


@pytest.fixture
def make_client(trained_once: Path, gpt2: Path) -> Iterator[Callable[..., TestClient]]:
    """Creates clients of separate APIs: `make_client(key="...", timeout=1)`."""
    created: list[FastAPI] = []

    def make(key: str | None = None, folders: tuple[Path, ...] = (trained_once, gpt2), **limits: Any) -> TestClient:
        created.append(create_api(ModelRegistry(folders, built_in=False), key=key, limits=Limits(**limits)))
        return TestClient(created[-1], raise_server_exceptions=False)

    yield make
    for api in created:
        api.state.serving.close(10)


@pytest.fixture
def jobs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """A queue that starts no run."""
    monkeypatch.setattr(Jobs, "_start", lambda *_: None)
    with Jobs(folder / "runs") as found:
        yield found
