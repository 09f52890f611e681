"""Model folders with damaged files: each opens, or is refused with one message, within seconds."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from campaign_options import cases, random_of
from children import failures, summary
from headway.core.errors import HeadwayError
from headway.tasks import TASKS, load
from headway.tasks.embedding.embedder import Embedder
from mutations import damage

pytestmark = pytest.mark.campaign
CASES = 1_000  # of each model
SECONDS = 10.0
TEXTS = ["the fox is here", "my parcel, please", "the cat sat", "a dog"] * 3
ROWS: dict[str, list[dict[str, Any]]] = {
    "text-classification": [{"text": t, "label": "xy"[i % 2]} for i, t in enumerate(TEXTS)],
    "token-classification": [{"tokens": t.split(), "tags": ["B-X"] + ["O"] * t.count(" ")} for t in TEXTS],
    "question-answering": [
        {"question": "who", "context": t, "answers": {"text": [t[:3]], "answer_start": [0]}} for t in TEXTS
    ],
    "sentence-similarity": [{"sentence1": t, "sentence2": t, "label": float(i % 2)} for i, t in enumerate(TEXTS)],
    "fill-mask": [{"text": t} for t in TEXTS],
    "text-generation": [{"text": t} for t in TEXTS],
}
INPUTS: dict[str, Any] = {
    "question-answering": ("who", "the quick brown fox"),
    "sentence-similarity": ("the fox", "a dog"),
    "fill-mask": "the [MASK] fox",
}


@pytest.fixture(scope="module", params=ROWS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny trained model of each task."""
    name = request.param
    kind = "gpt2_folder" if name in ("text-generation", "text-classification") else "bert_folder"
    output = tmp_path_factory.mktemp("models") / name
    base, task = request.getfixturevalue(kind), TASKS[name]()
    options = {"output": output, "max_steps": 1, "eval_fraction": 0}
    # In another process, because this one must not start threads.
    assert not failures([0], lambda _: task.on(base).fit(ROWS[name], **options), 60)
    return output


def test_a_damaged_model_folder_opens_or_is_refused(model: Path, tmp_path: Path):
    files = sorted(
        path.relative_to(model) for path in model.rglob("*.*") if path.suffix not in (".md", ".yaml", ".jsonl")
    )
    assert len(files) >= 4

    def check(number: int) -> None:
        random = random_of(model.name, number)
        folder = tmp_path / "model"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(model, folder)
        damage(folder / random.choice(files), random)
        opened_or_refused(lambda: use(folder, model.name))

    found = failures(cases(CASES), check, SECONDS)
    assert not found, summary(found)


def use(folder: Path, name: str) -> None:
    """Predicts with a model, and embeds with one for similarity."""
    load(folder).predict(INPUTS.get(name, "the fox is here"))
    if name == "sentence-similarity":
        Embedder(folder).embed(["the fox"])


def opened_or_refused(action: Callable[[], object]) -> None:
    """Raises if an action fails in another way than with one message."""
    try:
        action()
    except HeadwayError as error:
        message = str(error)
        assert "\n" not in message, message
        assert len(message) < 2_000, message
