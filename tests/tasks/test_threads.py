"""Models that were just opened answer 16 threads at once as they answer one."""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from headway.core.training.training_config import TrainConfig
from headway.tasks import Embedder, Prompt, SentenceSimilarity, TextClassification, load
from headway.ui.model_registry import ModelRegistry

THREADS = 16
ROWS = [(f"the {animal} sat on the {thing}", animal) for thing in ("mat", "hill", "roof") for animal in ("cat", "dog")]
TEXTS = [text for text, _ in ROWS]
FAST = TrainConfig(max_steps=2, batch_size=4, precision="fp32", device="cpu")


@pytest.fixture(autouse=True)
def _change_threads_often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(function: Callable[[int], Any]) -> list[Any]:
    """What a function returns in each of the threads, which start together."""
    barrier = threading.Barrier(THREADS)

    def run(number: int) -> Any:
        barrier.wait()
        return function(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


@pytest.fixture(scope="module")
def classifier(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "model"
    TextClassification().on(bert_folder).fit(ROWS, output=folder, config=FAST, eval_fraction=0)
    return folder


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_the_first_predictions_of_a_loaded_model(classifier: Path, precision: str):
    def scores(model: Any) -> list[list[float]]:
        return [list(one.scores.values()) for one in model.predict(TEXTS)]

    alone, together = load(classifier), load(classifier)
    alone.precision = together.precision = precision
    expected = np.array(scores(alone))
    for found in at_once(lambda _: scores(together)):
        np.testing.assert_array_equal(found, expected)


def test_predictions_while_the_plain_weights_are_read(classifier: Path):
    alone, together = load(classifier), load(classifier)
    alone.precision = together.precision = "fp32"
    expected = [one.scores["cat"] for one in alone.predict(TEXTS)]

    def predict_or_read(number: int) -> list[float] | None:
        if number % 4 == 0:
            assert not next(together.network.parameters()).is_meta
            return None
        return [one.scores["cat"] for one in together.predict(TEXTS)]

    for found in at_once(predict_or_read):
        assert found is None or found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("published", [False, True])
def test_the_first_vectors_of_an_embedder(bert_folder: Path, tmp_path: Path, published: bool):
    folder = bert_folder
    if published:
        folder = tmp_path / "similarity"
        pairs = [(TEXTS[0], text, number / 10) for number, text in enumerate(TEXTS)]
        SentenceSimilarity().on(bert_folder).fit(pairs, output=folder, config=FAST, eval_fraction=0)
    expected, together = Embedder(folder).embed(TEXTS), Embedder(folder)
    for found in at_once(lambda _: together.embed(TEXTS)):
        np.testing.assert_array_equal(found, expected)
    assert together.num_texts == THREADS * len(TEXTS)


@pytest.mark.parametrize("demonstrations", ["balanced", "nearest"])
def test_the_first_answers_of_a_prompt(gpt2_folder: Path, demonstrations: str):
    prompt = Prompt(labels=("cat", "dog"), shots=2, choice=demonstrations, calibration="contextual")
    expected = prompt.on(gpt2_folder).predict(TEXTS, ROWS)
    together = prompt.on(gpt2_folder)
    prepared = together.prepare(ROWS)
    texts = prepared.reader.texts(TEXTS)

    def predict(number: int) -> list[Any]:
        found = [prepared.predict(texts[number % 3 :]) for _ in range(4)][-1] if number % 2 else None
        return found or together.predict(TEXTS[number % 3 :], ROWS)

    for number, found in enumerate(at_once(predict)):
        for one, other in zip(found, expected[number % 3 :], strict=True):
            assert list(one.scores.values()) == pytest.approx(list(other.scores.values()), rel=1e-4)


def test_a_registry_opens_a_model_once(classifier: Path, gpt2_folder: Path):
    registry = ModelRegistry([classifier, gpt2_folder], built_in=False)
    models = at_once(lambda _: registry.task_model("model"))
    assert len({id(model) for model in models}) == 1
    networks = at_once(lambda _: registry.language_model(gpt2_folder.name)[0])
    assert len({id(network) for network in networks}) == 1
    found = at_once(lambda number: registry.embedder(("model", gpt2_folder.name)[number % 2]).embed(TEXTS))
    for number, vectors in enumerate(found):
        np.testing.assert_array_equal(vectors, found[number % 2])
