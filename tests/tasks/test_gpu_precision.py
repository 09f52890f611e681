"""On a GPU, evaluation during training and prediction are in the precision that they should be in."""

import json
from pathlib import Path

import pytest
import torch
from headway.tasks import Embedder, TextClassification, load
from headway.tasks.base import training_run

pytestmark = pytest.mark.gpu

ROWS = [{"text": f"my {'parcel' if i % 2 else 'money'} {i}", "label": "ab"[i % 2]} for i in range(120)]
OPTIONS = {"max_steps": 20, "eval_steps": 10, "learning_rate": 1e-3, "device": "cuda"}


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16), ("fp32", None)])
def test_evaluation_during_training_has_the_precision_of_training(
    bert_folder: Path, precision: str, dtype: torch.dtype | None, monkeypatch
):
    found = []
    evaluate = training_run.evaluate_examples

    def watched(*arguments):
        mixed = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None
        found.append((mixed, torch.backends.cuda.matmul.fp32_precision == "tf32"))
        return evaluate(*arguments)

    monkeypatch.setattr(training_run, "evaluate_examples", watched)
    TextClassification().on(bert_folder).fit(ROWS, ROWS[:20], precision=precision, **OPTIONS)
    *during, after = found
    assert during == [(dtype, dtype is not None)] * 2
    assert after == (None, False)  # the scores that are shown at the end


def test_bf16_is_measured_on_the_gpu_and_then_used_for_predictions(bert_folder: Path, tmp_path: Path):
    TextClassification().on(bert_folder).fit(ROWS, ROWS[:100], output=tmp_path / "model", **OPTIONS)
    info = json.loads((tmp_path / "model" / "headway.json").read_text())
    assert info["score_by_precision"].keys() == {"fp32", "bf16"}
    model = load(tmp_path / "model", device="cuda")
    model.info["score_by_precision"] = {"fp32": 0.9, "bf16": 0.9}
    found = model.predict([row["text"] for row in ROWS])
    assert next(model._for_inference.parameters()).dtype == torch.bfloat16
    exact = load(tmp_path / "model", device="cpu")
    exact.precision = "fp32"
    for one, other in zip(found, exact.predict([row["text"] for row in ROWS]), strict=True):
        assert one.scores == pytest.approx(other.scores, abs=0.03)
    model.info["score_by_precision"] = {"fp32": 0.9, "bf16": 0.8}
    model.predict("my parcel")
    assert next(model._for_inference.parameters()).dtype == torch.float32


def test_vectors_in_bf16_are_those_in_fp32_up_to_its_precision():
    texts = [row["text"] for row in ROWS]
    exact = Embedder("mini-bert", precision="fp32", device="cpu").embed(texts)
    found = Embedder("mini-bert", precision="bf16", device="cuda").embed(texts)
    lengths = [(one * one).sum(1) ** 0.5 for one in (exact, found)]
    assert ((exact * found).sum(1) / lengths[0] / lengths[1]).min() > 0.999
