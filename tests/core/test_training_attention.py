"""Attention in training on the CPU equals its definition, sequence by sequence, with given dropout."""

import pytest
import torch
from headway.core.models import attention_layout, cross_attention, training_attention
from headway.core.models.attention_layout import VECTOR
from headway.core.models.dropout import keep_mask
from headway.core.models.packing import PackedBatch
from headway.core.models.training_attention import attend_across_in_training, attend_in_training
from torch import Tensor

HEADS, SIZE, SCALE = 3, 5, 0.4
PAIRS = {
    "mixed": [(3, 9), (1, 2), (17, 4), (3, 8), (40, 70), (16, 5), (2, 17), (1, 33), (33, 1)],
    "single tokens": [(1, 1), (1, 1), (1, 1)],
    "one pair": [(19, 31)],
    "one length": [(7, 5)] * 9,
}
BITS = torch.randint(-(2**15), 2**15, (128, 128), generator=torch.Generator().manual_seed(0)).short()


def batch_of(pairs: list[tuple[int, int]]) -> PackedBatch:
    source = PackedBatch.pack([[1] * length for _, length in pairs])
    return PackedBatch.pack([[1] * length for length, _ in pairs], source=source)


@pytest.fixture(autouse=True)
def same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dropout of a query and a key depends on their positions alone, however sequences are grouped."""
    monkeypatch.setattr(
        training_attention, "random_bits", lambda shape: BITS[: shape[1], : shape[2]].expand(shape).clone()
    )


def definition(q: Tensor, kv: Tensor, batch: PackedBatch, source: PackedBatch, dropout: float, causal: bool) -> Tensor:
    """A loop over sequences and heads: (T', H, D) and (S', 2, H, D) -> (T', H, D)."""
    outputs = []
    for one, read in zip(batch.split(q[: batch.num_tokens]), source.split(kv[: source.num_tokens]), strict=True):
        keep = keep_mask(BITS[: len(one), : len(read)], dropout, q.dtype) / (1 - dropout)
        heads = []
        for head in range(HEADS):
            scores = one[:, head] @ read[:, 0, head].T * SCALE
            if causal:
                scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
            heads.append((scores.softmax(dim=-1) * keep) @ read[:, 1, head])
        outputs.append(torch.stack(heads, dim=1))
    return torch.cat([*outputs, torch.zeros_like(q[batch.num_tokens :])])


@pytest.mark.parametrize("small", [False, True], ids=["whole groups", "divided groups"])
@pytest.mark.parametrize("appended", [(0, 0), (5, 2)], ids=["tokens only", "appended rows"])
@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize("kind", ["across", "within", "causal"])
@pytest.mark.parametrize("pairs", PAIRS)
def test_outputs_and_gradients_are_those_of_the_definition(pairs, kind, dropout, appended, small, monkeypatch):
    if small:
        monkeypatch.setattr(attention_layout, "GROUP_SCORES", 2 * HEADS * VECTOR**2)
    torch.manual_seed(0)
    batch, causal = batch_of(PAIRS[pairs]), kind == "causal"
    rows, source_rows = batch.num_tokens + appended[0], batch.source.num_tokens + appended[1]
    shapes = [(rows, HEADS, SIZE), (source_rows, 2, HEADS, SIZE)] if kind == "across" else [(rows, 3, HEADS, SIZE)]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    if kind == "across":
        out = attend_across_in_training(*inputs, batch, dropout=dropout, scale=SCALE)
        expected = definition(*inputs, batch, batch.source, dropout, causal)
        layout = batch.cross_training_layout(rows, source_rows, HEADS)
    else:
        out = attend_in_training(*inputs, batch, causal=causal, dropout=dropout, scale=SCALE)
        expected = definition(inputs[0][:, 0], inputs[0][:, 1:], batch, batch, dropout, causal)
        layout = batch.training_layout(rows, HEADS, causal)
    one_group = pairs == "one pair" or (pairs != "mixed" and not small)
    assert (len(layout.groups) == 1) == one_group
    torch.testing.assert_close(out, expected)
    grad = torch.randn_like(out)
    for found, wanted in zip(
        torch.autograd.grad(out, inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True
    ):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_attention_across_in_half_precision_is_close_to_the_definition(dropout: float):
    torch.manual_seed(0)
    batch = batch_of(PAIRS["mixed"])
    shapes = (batch.num_tokens, HEADS, SIZE), (batch.source.num_tokens, 2, HEADS, SIZE)
    inputs = [torch.randn(shape, dtype=torch.bfloat16, requires_grad=True) for shape in shapes]
    exact = [one.detach().double().requires_grad_() for one in inputs]
    with torch.autocast("cpu", torch.bfloat16):
        out = attend_across_in_training(*inputs, batch, dropout=dropout, scale=SCALE)
    expected = definition(*exact, batch, batch.source, dropout, causal=False)
    assert out.dtype == torch.bfloat16
    grad = torch.randn_like(out)
    found = [out, *torch.autograd.grad(out, inputs, grad)]
    wanted = [expected, *torch.autograd.grad(expected, exact, grad.double())]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0.02, atol=0.02 * other.abs().max().item())


def test_cross_attention_is_computed_in_groups_in_training_only(monkeypatch: pytest.MonkeyPatch):
    called = []
    for name in ("attend_across_in_training", "_across_by_pairs"):
        monkeypatch.setattr(cross_attention, name, lambda q, *_args, name=name, **_options: called.append(name) or q)
    batch = batch_of(PAIRS["mixed"])
    q, kv = torch.randn(batch.num_tokens, 2, 4), torch.randn(batch.source.num_tokens, 2, 2, 4)
    cross_attention.attend_across(q, kv, batch, dropout=0.0, scale=1.0)
    cross_attention.attend_across(q.requires_grad_(), kv, batch, dropout=0.0, scale=1.0)
    with torch.no_grad():
        cross_attention.attend_across(q, kv, batch, dropout=0.0, scale=1.0)
    assert called == ["_across_by_pairs", "attend_across_in_training", "_across_by_pairs"]


def test_the_layers_of_a_decoder_share_one_layout_of_pairs():
    batch = batch_of(PAIRS["mixed"])
    assert batch.cross_training_layout(120, 160, 2) is batch.cross_training_layout(120, 160, 2)
    assert batch.cross_training_layout(120, 192, 2) is not batch.cross_training_layout(120, 160, 2)
