"""Model folders with damaged files: each opens, or is refused with one message, within seconds."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from campaign_options import cases, random_of
from children import failures, summary
from headway.core.errors import HeadwayError
from headway.tasks import load
from headway.tasks.embedding.embedder import Embedder
from mutations import damage

pytestmark = pytest.mark.campaign
CASES = 1_000  # of each model
SECONDS = 10.0
INPUTS: dict[str, Any] = {
    "question-answering": ("who", "the quick brown fox"),
    "multiple-choice": ("the fox", ["is here", "a dog"]),
    "sentence-similarity": ("the fox", "a dog"),
    "next-sentence-prediction": ("the fox", "a dog"),
    "fill-mask": "the [MASK] fox",
}


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
