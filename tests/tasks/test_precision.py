"""The precision of predictions: bf16 is chosen only if it was measured that the score does not change."""

import json
from pathlib import Path

import pytest
import torch
from headway.core import cpu
from headway.core.device import has_fast_bf16
from headway.core.errors import HeadwayError
from headway.core.inference.linears import PackedLinear
from headway.tasks import Embedder, TextClassification, load
from headway.tasks.base import precision
from headway.tasks.base.precision import choose_precision, worth_comparing
from headway.tasks.language_modeling.loading import load_language_model

CPU = torch.device("cpu")
OPTIONS = {"epochs": 1, "batch_size": 16, "device": "cpu", "precision": "fp32", "save_steps": 1000}


def rows(count: int) -> list[dict[str, str]]:
    return [
        {"text": f"my {'parcel' if i % 2 else 'money'} {i}", "label": "post" if i % 2 else "bank"}
        for i in range(count)
    ]


@pytest.fixture
def fast_bf16(monkeypatch):
    monkeypatch.setattr(precision, "has_fast_bf16", lambda _: True)


@pytest.fixture(scope="module")
def folder(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "has_fast_bf16", lambda _: True)
        TextClassification().on(bert_folder).fit(rows(40), rows(100), output=output, **OPTIONS)
    return output


def dtype_of(model) -> str:
    kept = [part for part in model.modules() if isinstance(part, PackedLinear)]
    return str(kept[0].dtype)


def test_training_measures_the_score_in_fp32_and_bf16(folder: Path, fast_bf16):
    measured = json.loads((folder / "headway.json").read_text())["score_by_precision"]
    model = load(folder)
    for name, figure in measured.items():
        model.precision = name
        assert model.evaluate(rows(100)).metrics["accuracy"] == figure
    assert measured.keys() == {"fp32", "bf16"}


@pytest.mark.parametrize(("change", "expected"), [(0.0, "torch.bfloat16"), (0.02, "torch.float32")])
def test_bf16_is_chosen_if_the_score_does_not_change(folder: Path, fast_bf16, change: float, expected: str):
    model = load(folder)
    model.info["score_by_precision"] = {"fp32": 0.9, "bf16": 0.9 - change}
    model.predict("my parcel")
    assert dtype_of(model._for_inference) == expected
    model.precision = "fp32"
    model.predict("my parcel")
    assert dtype_of(model._for_inference) == "torch.float32"


def test_an_embedder_uses_the_precision_that_was_measured(folder: Path, fast_bf16):
    info = json.loads((folder / "headway.json").read_text())
    assert (
        dtype_of(Embedder(folder).backbone)
        == f"torch.{'bfloat16' if choose_precision('auto', info, CPU) == 'bf16' else 'float32'}"
    )


def test_bf16_is_not_chosen_without_a_measurement(fast_bf16):
    measured = {"score_by_precision": {"fp32": 0.9, "bf16": 0.9}}
    assert choose_precision("auto", measured, CPU) == "bf16"
    assert choose_precision("auto", {}, CPU) == "fp32"
    assert choose_precision("auto", {"score_by_precision": {}}, CPU) == "fp32"
    assert choose_precision("int8", measured, CPU) == "int8"
    assert worth_comparing(100, CPU)
    assert not worth_comparing(99, CPU)


def test_a_measurement_counts_on_the_kind_of_device_on_which_it_was_made(fast_bf16):
    scores = {"fp32": 0.9, "bf16": 0.9}
    for measured_on in ("cpu", "cuda", "cuda:1"):
        info = {"score_by_precision": scores, "training": {"device": measured_on}}
        kind = measured_on.partition(":")[0]
        for device in ("cpu", "cuda", "cuda:0"):
            expected = "bf16" if device.startswith(kind) else "fp32"
            assert choose_precision("auto", info, torch.device(device)) == expected, (measured_on, device)


def test_a_gpu_is_fast_in_bf16_if_it_does_not_emulate_it(monkeypatch):
    for supported in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda supported=supported, **_: supported)
        assert has_fast_bf16(torch.device("cuda:0")) == supported
        assert worth_comparing(100, torch.device("cuda")) == supported
    assert not has_fast_bf16(torch.device("mps"))


def test_a_metric_above_1_may_change_by_a_thousandth_of_itself(fast_bf16):
    assert choose_precision("auto", {"score_by_precision": {"fp32": 60.0, "bf16": 60.05}}, CPU) == "bf16"
    assert choose_precision("auto", {"score_by_precision": {"fp32": 60.0, "bf16": 60.2}}, CPU) == "fp32"


def test_a_processor_without_fast_bf16_uses_fp32(monkeypatch):
    monkeypatch.setattr(cpu, "has_fast_bf16", lambda: False)
    assert choose_precision("auto", {"score_by_precision": {"fp32": 0.9, "bf16": 0.9}}, CPU) == "fp32"
    assert not worth_comparing(1000, CPU)


def test_an_unknown_precision_is_refused(gpt2_folder: Path, bert_folder: Path):
    with pytest.raises(HeadwayError, match="--precision int4: say fp32, bf16 or int8"):
        load_language_model(gpt2_folder, "int4")
    with pytest.raises(HeadwayError, match="int4"):
        Embedder(bert_folder, precision="int4")
