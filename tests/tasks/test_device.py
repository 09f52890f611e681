"""Every way to open a model takes the device, and refuses one that this machine does not have."""

import copy
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from headway.core.device import check_device
from headway.core.errors import HeadwayError
from headway.core.training.distributed import inference_device
from headway.tasks import Embedder, Prompt, SentenceSimilarity, TextClassification, load
from headway.tasks.inspection import open_model, probe
from headway.tasks.language_modeling.loading import load_language_model

ROWS = [{"text": f"the {'cat' if i % 2 else 'dog'} {i}", "label": "ab"[i % 2]} for i in range(20)]


@pytest.fixture(scope="module")
def trained(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "model"
    TextClassification().on(bert_folder).fit(ROWS, output=output, max_steps=1, device="cpu", precision="fp32")
    return output


@pytest.fixture
def has_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine has an accelerator: torch's meta device, whose tensors have no content."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("meta"))


def openers(trained: Path, bert_folder: Path, gpt2_folder: Path) -> dict[str, Callable[[str], Any]]:
    """Ways to open a model, by name; each gives something that has the weights."""
    return {
        "load": lambda device: load(trained, device=device).network,
        "Embedder": lambda device: Embedder(bert_folder, device=device).backbone,
        "load_language_model": lambda device: load_language_model(gpt2_folder, "fp32", device)[0],
        "Prompt": lambda device: Prompt(labels=("a", "b")).on(gpt2_folder, device=device).network,
        "open_model": lambda device: open_model(trained, device).network,
        "open_model without a head": lambda device: open_model(gpt2_folder, device).network,
        "probe": lambda device: list(probe(bert_folder, ROWS, seeds=1, device=device)),
    }


NAMES = list(openers(Path(), Path(), Path()))


@pytest.mark.parametrize("name", NAMES)
def test_a_device_that_does_not_exist_is_refused_as_in_training(name, trained, bert_folder, gpt2_folder):
    opened = openers(trained, bert_folder, gpt2_folder)[name]
    with pytest.raises(HeadwayError, match=r"device='cuda:97' is not on this machine \(.+\). Use device=auto"):
        opened("cuda:97")
    with pytest.raises(HeadwayError, match="device='gpu' is invalid; it must be auto, cpu, cuda"):
        opened("gpu")


@pytest.mark.usefixtures("has_accelerator")
@pytest.mark.parametrize("name", NAMES[:-1])
def test_the_cpu_is_used_on_request(name, trained, bert_folder, gpt2_folder):
    devices = {
        parameter.device.type for parameter in openers(trained, bert_folder, gpt2_folder)[name]("cpu").parameters()
    }
    assert devices <= {"cpu", "meta" if name == "load" else "cpu"}
    if name != "load":
        return
    model = load(trained, device="cpu")
    assert model._unread  # its weights are read from their file as they are packed
    assert model.predict("the cat").label in "ab"
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert next(copied.network.parameters()).device.type == "cpu"


@pytest.mark.usefixtures("has_accelerator")
def test_auto_is_the_accelerator():
    assert inference_device().type == "meta"
    assert inference_device("cpu").type == "cpu"


def test_the_names_of_devices(monkeypatch):
    for name in ("auto", "cpu"):
        check_device(name)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    for name in ("cuda", "cuda:0", "cuda:1"):
        check_device(name)
        assert inference_device(name) == torch.device(name)
    for name in ("cuda:2", "mps", "xpu:0"):
        with pytest.raises(HeadwayError, match=r"found: 2 x cuda"):
            check_device(name)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 0)  # torch for CUDA on a machine without a GPU
    with pytest.raises(HeadwayError, match="no accelerator found"):
        check_device("cuda")


def test_a_task_without_a_head_takes_the_device(bert_folder: Path, tmp_path: Path):
    SentenceSimilarity().on(bert_folder).fit(
        [("a cat", "the cat")] * 4, output=tmp_path / "model", eval_fraction=0, max_steps=1, device="cpu"
    )
    assert load(tmp_path / "model", device="cpu").predict(("a cat", "a dog")) is not None


NO_NAMES = [
    "",
    "CPU",
    "cpu:0",
    "auto\n",
    "cuda:",
    "cuda:-1",
    "cuda:01",
    "cuda:200",
    "cuda:" + 30 * "9",
    "cuda:\N{ARABIC-INDIC DIGIT ONE}",
]


@pytest.mark.parametrize("name", [*NO_NAMES, None, 0, torch.device("cpu"), ["cpu"]])
def test_what_is_no_name_of_a_device_is_refused(name: Any, has_accelerator: None):
    with pytest.raises(HeadwayError, match=re.escape(f"device={name!r} is invalid; it must be auto, cpu, cuda")):
        check_device(name)
