"""Linear layers in training have the outputs and gradients of `nn.Linear`, with oneDNN and without it."""

import pytest
import torch
from headway.core.cpu import has_onednn
from headway.core.models import linear
from headway.core.models.linear import Linear, product, uses_onednn
from torch import nn


@pytest.fixture(params=[True, False], ids=["oneDNN", "without oneDNN"])
def fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param and not has_onednn():
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(linear, "_is_fast", lambda: request.param)
    return request.param


@pytest.mark.parametrize("frozen", [None, "x", "weight", "bias"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("rows", [1, 7, 32, 447])
def test_outputs_and_gradients_are_those_of_nn_linear(fast: bool, rows: int, bias: bool, frozen: str | None):
    torch.manual_seed(0)
    layer, expected = Linear(24, 40, bias=bias), nn.Linear(24, 40, bias=bias).double()
    expected.load_state_dict(layer.state_dict())
    x = torch.randn(rows, 48)[:, ::2].requires_grad_(frozen != "x")  # not contiguous
    leaf = x.detach().double().requires_grad_(frozen != "x")
    for module in (layer, expected):
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name != frozen)
    grad = torch.randn(40, rows).T
    y, wanted = layer(x), expected(leaf)
    assert uses_onednn(x) == fast
    torch.testing.assert_close(y, wanted.float(), rtol=1e-5, atol=1e-5)
    y.backward(grad)
    wanted.backward(grad.double())
    pairs = [(x, leaf), *zip(layer.parameters(), expected.parameters(), strict=True)]
    for found, other in pairs:
        assert (found.grad is None) == (other.grad is None)
        if other.grad is not None:
            torch.testing.assert_close(found.grad, other.grad.float(), rtol=1e-5, atol=1e-4)


def test_products_without_rows_are_empty_or_zero(fast: bool):
    assert product(torch.ones(0, 3), torch.ones(4, 3)).shape == (0, 4)
    assert torch.equal(product(torch.ones(2, 0), torch.ones(4, 0)), torch.zeros(2, 4))


def test_only_training_in_fp32_uses_onednn(fast: bool):
    layer, x = Linear(8, 8), torch.ones(2, 8)
    trained = "_LinearBackward" if fast else "AddmmBackward0"
    assert type(layer(x).grad_fn).__name__ == trained
    assert type(layer.eval()(x).grad_fn).__name__ == "AddmmBackward0"
    layer.train()
    assert not uses_onednn(x.double())
    assert not uses_onednn(x.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    with torch.no_grad():
        assert layer(x).grad_fn is None
