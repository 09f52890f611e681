"""Embedding, prompting, inspection and probes on a GPU give what they give on the CPU."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from headway.tasks import Embedder, Prompt, TextClassification
from headway.tasks.inspection import (
    ProbeResult,
    apply_logit_lens,
    attention_maps,
    choose_output,
    explainable_outputs,
    integrated_gradients,
    leave_one_out,
    open_model,
    probe,
    rank_components,
)
from test_contract import CASES, CONFIG, TEXTS

pytestmark = pytest.mark.gpu

CUDA = "cuda"
CLOSE = {"rtol": 1e-3, "atol": 1e-3}


def both(compute: Callable[[str], Any]) -> tuple[Any, Any]:
    """What is computed on the CPU and on the GPU."""
    return compute("cpu"), compute(CUDA)


@pytest.fixture(scope="module")
def classifier(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("classifier") / "model"
    model = TextClassification().on(bert_folder)
    model.fit(CASES["text-classification"].rows, eval_fraction=0, config=CONFIG, max_steps=30, output=output)
    return output


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "max", "mean_sqrt", "weighted_mean"])
def test_vectors_of_texts_and_words(tiny_model: Path, pooling: str):
    texts = [*TEXTS, "the parcel " * 60]  # of several windows
    embedders = both(lambda device: Embedder(tiny_model, precision="fp32", device=device, pooling=pooling))
    expected, found = (one.embed(texts) for one in embedders)
    np.testing.assert_allclose(found, expected, **CLOSE)
    expected, found = (one.embed_words(TEXTS[0]).vectors for one in embedders)
    np.testing.assert_allclose(found, expected, **CLOSE)


def test_probabilities_of_labels_after_a_prompt(gpt2_folder: Path):
    labels, examples = ("a", "the"), [{"text": "my card", "label": "a"}, {"text": "the fox", "label": "the"}]
    prompts = both(lambda device: Prompt(labels=labels, shots=1).on(gpt2_folder, device=device))
    expected, found = ([list(answer.scores.values()) for answer in one.predict(TEXTS, examples)] for one in prompts)
    np.testing.assert_allclose(found, expected, **CLOSE)


def test_attributions_and_attention(classifier: Path):
    def compute(device: str) -> list[torch.Tensor]:
        model = open_model(classifier, device)
        text = model.encode(TEXTS[0])
        output = choose_output(explainable_outputs(model, text), None)
        maps = attention_maps(model, text)
        values = [integrated_gradients(model, text, output).by_token, leave_one_out(model, text, output).by_word]
        return [torch.as_tensor(one, dtype=torch.float) for one in (maps.weights, *values)]

    torch.testing.assert_close(*both(compute), **CLOSE)


def test_the_predictions_of_every_layer(gpt2_folder: Path):
    def compute(device: str) -> list[float]:
        model = open_model(gpt2_folder, device)
        lens = apply_logit_lens(model, model.encode(TEXTS[0]))
        return [one.probability for layer in lens.layers for row in layer.candidates for one in row]

    expected, found = both(compute)
    assert found == pytest.approx(expected, rel=1e-3)


def test_the_importance_of_components(classifier: Path):
    def compute(device: str) -> list[float]:
        model = open_model(classifier, device).model
        assert model is not None
        *_, ranking = rank_components(model, CASES["text-classification"].rows)
        return [row.score for row in ranking.rows]  # pyright: ignore[reportAttributeAccessIssue]

    expected, found = both(compute)
    assert found == pytest.approx(expected, abs=1e-3)


def test_the_scores_of_probes(bert_folder: Path):
    rows = [{"text": f"{TEXTS[i % 8]} {'money' if i % 2 else 'parcel'}", "label": "ab"[i % 2]} for i in range(40)]

    def compute(device: str) -> list[float]:
        *_, last = probe(bert_folder, rows, seeds=1, device=device)
        assert isinstance(last, ProbeResult)
        return [score for layer in last.layers for score in layer.scores]

    expected, found = both(compute)
    assert found == pytest.approx(expected, abs=0.1)


def test_a_head_that_is_fitted_without_training_steps(bert_folder: Path):
    rows = CASES["text-classification"].rows

    def compute(device: str) -> list[float]:
        model = TextClassification(frozen=True).on(bert_folder)
        model.fit(rows, eval_fraction=0, config=replace(CONFIG, device=device))
        return [score for one in model.predict(TEXTS) for score in one.scores.values()]

    expected, found = both(compute)
    assert found == pytest.approx(expected, abs=1e-2)
