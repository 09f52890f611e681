"""Where the fused optimizer ignores the scale and the guard, plain operators give its results."""

import copy
from typing import Any

import pytest
import torch
from headway.core.training import optimization
from headway.core.training.guarded_adamw import GuardedAdamW, fused_reads_scale
from headway.core.training.optimization import adamw, apply_gradients
from headway.core.training.training_config import TrainConfig
from torch import Tensor, nn
from torch.optim import AdamW

CONFIG = TrainConfig(learning_rate=0.01, weight_decay=0.1)
CPU = torch.device("cpu")


@pytest.fixture
def ignoring_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fused kernel as that of MPS before torch 2.13."""
    kernel = torch._fused_adamw_

    def ignoring(*tensors: Any, grad_scale: Any, found_inf: Any, **options: Any) -> None:
        kernel(*tensors, grad_scale=None, found_inf=None, **options)

    monkeypatch.setattr(torch, "_fused_adamw_", ignoring)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.Linear(7, 3))


def run(optimizer: AdamW, module: nn.Module, *, broken_steps: tuple[int, ...] = (), fp16: bool = False) -> list[float]:
    """Ten steps; the gradients of some are not finite. Returns the norms."""
    draw = torch.Generator().manual_seed(1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0) if fp16 else None
    norms = []
    for step in range(10):
        loss = module(torch.randn(4, 5, generator=draw) * 3).square().sum() * (
            torch.inf if step in broken_steps else 1
        )
        (loss if scaler is None else scaler.scale(loss)).backward()
        totals = torch.tensor([float(loss.detach()), 4.0])
        norms.append(float(apply_gradients(optimizer, totals, scaler=scaler, world_size=1, max_norm=1.0)))
    return norms


def state(optimizer: AdamW, module: nn.Module) -> dict[str, Tensor]:
    found = {f"parameter {i}": parameter.detach().clone() for i, parameter in enumerate(module.parameters())}
    for i, parameter in enumerate(module.parameters()):
        found |= {f"{name} {i}": value.clone() for name, value in optimizer.state[parameter].items()}
    return found


def test_a_kernel_that_ignores_the_scale_or_the_guard_is_recognized(monkeypatch):
    assert fused_reads_scale(CPU)
    kernel = torch._fused_adamw_
    for ignored in ("grad_scale", "found_inf"):

        def ignoring(*tensors: Any, without: str = ignored, **options: Any) -> None:
            kernel(*tensors, **{**options, without: None})

        monkeypatch.setattr(torch, "_fused_adamw_", ignoring)
        assert not fused_reads_scale(CPU), ignored


@pytest.mark.usefixtures("ignoring_kernel")
def test_the_plain_optimizer_is_used_where_the_kernel_ignores_them():
    assert isinstance(adamw(network(), CONFIG), GuardedAdamW)


def test_the_fused_optimizer_is_used_where_it_can_be():
    optimizer = adamw(network(), CONFIG)
    assert type(optimizer) is AdamW
    assert optimizer.defaults["fused"]


@pytest.mark.parametrize("broken_steps", [(), (0,), (4, 5)], ids=["finite", "first step", "later steps"])
@pytest.mark.parametrize("fp16", [False, True], ids=["fp32", "fp16"])
def test_the_plain_optimizer_gives_the_results_of_the_fused_one(
    broken_steps: tuple[int, ...], fp16: bool, monkeypatch
):
    expected_network, found_network = network(), network()
    expected = adamw(expected_network, CONFIG)
    monkeypatch.setattr(optimization, "fused_reads_scale", lambda _: False)
    found = adamw(found_network, CONFIG)
    assert isinstance(found, GuardedAdamW)
    norms = [
        run(optimizer, module, broken_steps=broken_steps, fp16=fp16)
        for optimizer, module in ((expected, expected_network), (found, found_network))
    ]
    torch.testing.assert_close(norms[1], norms[0], rtol=1e-5, atol=0, equal_nan=True)
    for name, value in state(expected, expected_network).items():
        torch.testing.assert_close(state(found, found_network)[name], value, rtol=2e-6, atol=2e-7, msg=name)


def test_a_step_with_gradients_that_are_not_finite_changes_nothing(monkeypatch):
    monkeypatch.setattr(optimization, "fused_reads_scale", lambda _: False)
    module = network()
    optimizer = adamw(module, CONFIG)
    run(optimizer, module)
    before = state(optimizer, module)
    run(optimizer, module, broken_steps=tuple(range(10)))
    for name, value in state(optimizer, module).items():
        assert torch.equal(value, before[name]), name


def test_the_plain_optimizer_reads_nothing_from_the_device(monkeypatch):
    monkeypatch.setattr(optimization, "fused_reads_scale", lambda _: False)
    module = network().to("meta")  # reading a number of this device is an error
    optimizer = adamw(module, CONFIG)
    for _ in range(2):
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
        apply_gradients(optimizer, torch.ones(2, device="meta"), scaler=None, world_size=1, max_norm=1.0)


def test_a_state_continues_in_the_other_optimizer(monkeypatch):
    module = network()
    fused = adamw(module, CONFIG)
    run(fused, module)
    monkeypatch.setattr(optimization, "fused_reads_scale", lambda _: False)
    other_module = network()
    other_module.load_state_dict(module.state_dict())
    other = adamw(other_module, CONFIG)
    other.load_state_dict(copy.deepcopy(fused.state_dict()))
    run(fused, module)
    run(other, other_module)
    for name, value in state(fused, module).items():
        torch.testing.assert_close(state(other, other_module)[name], value, rtol=2e-6, atol=2e-7, msg=name)
