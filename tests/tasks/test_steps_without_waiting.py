"""No training step of any task makes the host wait for the device.

A device computes behind the host. A step that reads a number of a tensor, or copies a list to the device, waits until
the device has caught up. Tensors on the meta device have no numbers: reading one is an error there.
"""

import copy
import traceback
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from headway.core.checkpoints.joining import join_models
from headway.core.new_model import learn_tokenizer, write_new_model
from headway.core.training import training
from headway.core.training.optimization import accumulate_embedding_rows
from headway.core.training.training_step import TrainingStep
from headway.tasks import FillMask, TextToText
from headway.tasks.base.task import Task
from headway.tasks.language_modeling.distillation import load_teacher
from test_contract import CASES, CONFIG, ON_BERT_AND_GPT2
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")


class Stepped(Exception):
    """The first step was made."""


class NoWaiting(TorchDispatchMode):
    """Allows no copy between the host and the meta device that would wait."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor) and one.dim()]
        devices = {one.device.type for one in tensors}
        if func is torch.ops.aten._to_copy.default and kwargs.get("device", args[0].device) != args[0].device:
            assert args[0].device.type == "cpu", "a tensor of the device is read"
            by_pinned_memory = any(frame.name == "to_device" for frame in traceback.extract_stack())
            assert kwargs.get("non_blocking") or by_pinned_memory, "a copy to the device waits"
        else:
            assert len(devices) < 2, f"{func} reads tensors of the host and of the device"
        return func(*args, **kwargs)


class NoLists(TorchFunctionMode):
    """Allows no list of numbers to become a tensor of the meta device: it would be copied from memory that waits."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.tensor:
            device = kwargs.get("device")
            assert device is None or torch.device(device) != META, "torch.tensor on a device copies a list"
        return func(*args, **kwargs)


class Descent(torch.optim.Optimizer):
    """Takes the gradients as they are; the optimizer of training does not exist for the meta device."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # noqa: ARG002 - that of every optimizer
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.requires_grad:
                    parameter -= parameter.grad


class StepOnMeta(TrainingStep):
    """Makes the first step on the meta device."""

    calls: ClassVar[list[int]] = []

    def run(self, *args: Any, **more: Any) -> Tensor:
        accumulate_embedding_rows(self.network, False)
        self.network = self.wrapped = copy.deepcopy(self.network).to(META)
        self.accumulate_rows, self.device = False, META
        self.optimizer = Descent(self.network.parameters(), {})
        with NoWaiting(), NoLists():
            results = super().run(*args, **more)
        assert results.shape == (4,)
        assert results.is_meta
        self.calls.append(1)
        raise Stepped


@pytest.fixture
def _on_meta(monkeypatch: pytest.MonkeyPatch):
    autocast = torch.autocast

    def autocast_elsewhere(device: str, *args: Any, **more: Any) -> Any:
        return nullcontext() if device == "meta" else autocast(device, *args, **more)

    monkeypatch.setattr(torch, "autocast", autocast_elsewhere)  # the meta device has none
    monkeypatch.setattr(training, "TrainingStep", StepOnMeta)


def first_step(task: Task[Any, Any], folder: Path, rows: list[dict[str, Any]]) -> None:
    """The first step of a run, on the meta device."""
    with pytest.raises(Stepped):
        for _ in task.on(folder).train(rows, eval_fraction=0, config=CONFIG, tokens_at_once=40):
            pass


@pytest.mark.usefixtures("_on_meta")
@pytest.mark.parametrize("max_length", [None, 8])
@pytest.mark.parametrize(("name", "kind"), ON_BERT_AND_GPT2, ids=[f"{name}-{kind}" for name, kind in ON_BERT_AND_GPT2])
def test_a_step_of_no_task_waits_for_the_device(name: str, kind: str, max_length: int | None, request):
    case = CASES[name]
    first_step(replace(case.task, max_length=max_length), request.getfixturevalue(f"{kind}_folder"), case.rows)


@pytest.mark.usefixtures("_on_meta")
def test_a_step_with_weights_of_labels_does_not_wait(bert_folder: Path):
    for name in ("text-classification", "text-classification, several labels"):
        case = CASES[name]
        first_step(replace(case.task, class_weight="balanced"), bert_folder, case.rows)


@pytest.mark.usefixtures("_on_meta")
def test_a_step_with_a_teacher_does_not_wait(bert_folder: Path):
    teacher = load_teacher(str(bert_folder))
    teacher.model.to(META)  # where it stays after the first step
    first_step(FillMask(teacher=str(bert_folder)), bert_folder, CASES["fill-mask"].rows)


@pytest.mark.usefixtures("_on_meta")
@pytest.mark.parametrize("kind", ["joined", "Transformer"])
def test_a_step_of_an_encoder_decoder_does_not_wait(kind: str, bert_folder: Path, gpt2_folder: Path, tmp_path: Path):
    rows = CASES["text-to-text"].rows
    if kind == "joined":
        join_models(bert_folder, gpt2_folder, tmp_path)
    else:
        texts = [text for row in rows for text in row.values()]
        write_new_model(tmp_path / "new", "encoder-decoder", "tiny", learn_tokenizer(texts, "encoder-decoder", 300))
    folder = tmp_path if kind == "joined" else tmp_path / "new"
    first_step(TextToText(label_smoothing=0.1), folder, rows)


def test_what_waits_is_found(bert_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training, "TrainingStep", StepOnMeta)
    case = CASES["text-classification"]
    wrong = [
        lambda outputs, _: outputs.sum().item(),
        lambda outputs, _: outputs[torch.zeros(1, dtype=torch.int64)].sum(),
        lambda outputs, _: outputs[outputs > 0].sum(),
        lambda outputs, _: outputs.sum() + torch.ones(3).to(outputs.device).sum(),
        lambda outputs, _: outputs.cpu().sum(),
    ]
    for loss in wrong:
        monkeypatch.setattr(
            type(case.task), "loss", lambda _, outputs, targets, loss=loss: (loss(outputs, targets), 8)
        )
        with pytest.raises((AssertionError, RuntimeError)) as error:  # NotImplementedError is a RuntimeError
            for _ in case.task.on(bert_folder).train(case.rows, eval_fraction=0, config=CONFIG):
                pass
        assert not isinstance(error.value, Stepped)
