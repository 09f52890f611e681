"""Every task on a GPU: what it computes, how it trains and what it predicts there, beside the CPU."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from headway.core.models.layers import set_dropout
from headway.core.models.vocabulary_loss import TokenLosses
from headway.core.training import training
from headway.core.training.training_events import Saved, Started, Step
from headway.core.training.training_inputs import TrainingInputs
from headway.core.training.training_step import TrainingStep
from headway.tasks import TaskModel, TextGeneration, load
from test_contract import CASES, CONFIG, ON_BERT_AND_GPT2, TEXTS, Case, assert_same, numbers, training_features
from torch import Tensor
from torch.utils._pytree import tree_leaves

pytestmark = pytest.mark.gpu

CUDA = "cuda"
ON_GPU = replace(CONFIG, device=CUDA)
CURVE = {"fp32": 5e-3, "bf16": 0.05, "fp16": 0.05}
CLOSE = {"fp32": 1e-3, "bf16": 0.05, "fp16": 0.02}  # outputs, relative to their spread
CLOSE_GRADIENTS = {"fp32": 2e-3, "bf16": 0.25, "fp16": 0.05}  # in bf16 the rounding of an output is that of its error
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Trained:
    """A task that was trained on the CPU for a few steps, with noise on its weights."""

    case: Case
    folder: Path  # of the model that it started from
    output: Path
    model: TaskModel


@pytest.fixture(scope="module", params=ON_BERT_AND_GPT2, ids=[f"{name}-{kind}" for name, kind in ON_BERT_AND_GPT2])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    name, kind = request.param
    case, folder = CASES[name], request.getfixturevalue(f"{kind}_folder")
    output = tmp_path_factory.mktemp("trained") / "model"
    model = case.task.on(folder)
    model.fit(case.rows, eval_fraction=0, config=CONFIG, max_steps=20, learning_rate=case.learning_rate)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    model.save(output)
    yield Trained(case, folder, output, model)
    torch.cuda.empty_cache()


def losses(trained: Trained, **options: Any) -> list[float]:
    """The losses of a run from the untrained model on."""
    given = {"eval_fraction": 0, "config": CONFIG, "learning_rate": 1e-3, "max_steps": 8, **options}
    events = trained.case.task.on(trained.folder).train(trained.case.rows, **given)
    return [event.loss for event in events if isinstance(event, Step)]


def outputs_and_gradients(trained: Trained, device: str, precision: str) -> tuple[Tensor, dict[str, Tensor]]:
    """What the network computes for the eight examples, and the gradients of the task's loss."""
    task, network = trained.model.task, copy.deepcopy(trained.model.network).to(device).train()
    set_dropout(network, 0.0)
    groups = training_features(SimpleNamespace(model=trained.model, rows=trained.case.rows))  # pyright: ignore[reportArgumentType]
    features = [one for group in groups for one in group]
    inputs = TrainingInputs(task.pack(features), task.targets(features)).to(torch.device(device))
    with torch.autocast(device, DTYPES[precision], enabled=precision != "fp32"):
        outputs = task.pool(network(inputs.batch), inputs.batch)
        loss, _ = task.loss(outputs, inputs.targets)
    loss.backward()
    gradients = {name: one.grad.float().cpu() for name, one in network.named_parameters() if one.grad is not None}
    found = [one.losses if isinstance(one, TokenLosses) else one for one in tree_leaves(outputs)]
    return torch.cat([one.detach().float().cpu().flatten() for one in found]), gradients


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_computes_the_outputs_and_gradients_of_the_cpu(trained: Trained, precision: str):
    expected, expected_gradients = outputs_and_gradients(trained, "cpu", "fp32")
    found, gradients = outputs_and_gradients(trained, CUDA, precision)
    rounding = torch.finfo(DTYPES[precision]).eps * expected.norm()  # of outputs that are far from zero
    assert (found - expected).norm() < CLOSE[precision] * (expected - expected.mean()).norm() + rounding
    assert gradients.keys() == expected_gradients.keys()
    floor = 0.01 * torch.cat([one.flatten() for one in expected_gradients.values()]).norm()
    for name, one in expected_gradients.items():
        apart = (gradients[name] - one).norm()
        assert apart < CLOSE_GRADIENTS[precision] * max(one.norm(), floor), f"{name}: {apart:.2e} of {one.norm():.2e}"


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_on_a_gpu_has_the_loss_curve_of_the_cpu(trained: Trained, precision: str):
    expected = losses(trained, dropout=0.0)
    found = losses(trained, dropout=0.0, device=CUDA, precision=precision)
    assert found == pytest.approx(expected, rel=CURVE[precision], abs=CURVE[precision])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_with_recomputed_activations_has_the_same_loss_curve(trained: Trained, precision: str):
    options = {"device": CUDA, "precision": precision}
    expected = losses(trained, **options)  # with dropout: the random states are restored
    found = losses(trained, checkpoint_activations=True, **options)
    assert found == pytest.approx(expected, rel=CURVE["fp32"], abs=CURVE["fp32"])


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_no_step_of_a_task_makes_the_host_wait_for_the_gpu(trained: Trained, precision: str, monkeypatch):
    steps = []

    class Watched(TrainingStep):
        def run(self, *args: Any, **more: Any) -> Tensor:
            steps.append(1)
            if len(steps) > 2:  # the first ones allocate and initialize
                torch.cuda.set_sync_debug_mode("error")
            try:
                return super().run(*args, **more)
            finally:
                torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(training, "TrainingStep", Watched)
    # Parts of a batch, the dropout of the model, and every option of a default run.
    found = losses(trained, device=CUDA, precision=precision, tokens_at_once=40)
    assert len(found) == len(steps) == 8
    assert all(torch.tensor(found).isfinite())


def test_a_gpu_predicts_what_the_cpu_predicts(trained: Trained):
    exact, there = load(trained.output, device="cpu"), load(trained.output, device=CUDA)
    exact.precision = there.precision = "fp32"
    assert next(there.network.parameters()).is_cuda
    assert_same(there.predict(trained.case.inputs), exact.predict(trained.case.inputs), 1e-3)
    assert_same(there.predict(trained.case.inputs[::-1])[::-1], exact.predict(trained.case.inputs), 1e-3)
    evaluations = [model.evaluate(trained.case.rows).metrics for model in (exact, there)]
    assert evaluations[1] == pytest.approx(evaluations[0], rel=1e-2, abs=1e-2)


def test_a_gpu_predicts_in_bf16(trained: Trained):
    exact, there = load(trained.output, device="cpu"), load(trained.output, device=CUDA)
    exact.precision, there.precision = "fp32", "bf16"
    for one, other in zip(there.predict(trained.case.inputs), exact.predict(trained.case.inputs), strict=True):
        if len(numbers(one)) == len(numbers(other)):  # chosen labels, words and spans may differ
            assert sorted(numbers(one)) == pytest.approx(sorted(numbers(other)), rel=0.2, abs=0.1)
    assert next(there._for_inference.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_an_interrupted_run_on_a_gpu_goes_on(trained: Trained, precision: str, tmp_path: Path):
    options = {"eval_fraction": 0, "config": ON_GPU, "precision": precision, "learning_rate": 1e-3, "max_steps": 6}
    unbroken = list(trained.case.task.on(trained.folder).train(trained.case.rows, output=tmp_path / "one", **options))
    options |= {"output": tmp_path / "two", "save_steps": 3}
    run = trained.case.task.on(trained.folder).train(trained.case.rows, **options)
    while not isinstance(next(run), Saved):
        pass
    run.close()
    resumed = list(trained.case.task.on(trained.folder).train(trained.case.rows, resume=True, **options))
    assert [event.resumed_from for event in resumed if isinstance(event, Started)] == [3]
    expected = [event.loss for event in unbroken if isinstance(event, Step)][3:]
    # The dropout of a GPU is restored with its random state; sums in another order remain.
    assert [event.loss for event in resumed if isinstance(event, Step)] == pytest.approx(expected, rel=0.02, abs=0.02)


def test_a_gpu_generates_the_texts_of_the_cpu(gpt2_folder: Path, tmp_path: Path):
    model = TextGeneration(max_new_tokens=8).on(gpt2_folder)
    model.fit([{"text": text} for text in TEXTS], eval_fraction=0, config=CONFIG, max_steps=100, output=tmp_path / "m")
    prompts = ["my", "please send", "the quick brown", "where is my money, my", "Ada"]
    exact, there = load(tmp_path / "m", device="cpu"), load(tmp_path / "m", device=CUDA)
    exact.precision = there.precision = "fp32"
    assert there.predict(prompts) == exact.predict(prompts)
    assert [there.predict([one])[0] for one in prompts] == exact.predict(prompts)
