"""Attention gives the same in all its forms, and dropout drops what it says."""

import pytest
import torch
from headway.core.models import attention, layers
from headway.core.models.attention import attend, attention_weights
from headway.core.models.bert import BertConfig
from headway.core.models.dropout import Dropout
from headway.core.models.gpt2 import GPT2Config
from headway.core.models.heads import new_backbone
from headway.core.models.layers import ACTIVATIONS, FeedForward, SelfAttention, Trace
from headway.core.models.packing import PackedBatch

LENGTHS = {
    "mixed": [3, 1, 7, 7, 2, 7],
    "equal": [4, 4, 4],
    "one sequence": [9],
    "single tokens": [1, 1],
}
HEADS, SIZE = 3, 5
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def batch_of(lengths):
    return PackedBatch.pack([[1] * length for length in lengths])


def qkv(batch, requires_grad=False):
    generator = torch.Generator().manual_seed(0)
    shape = (batch.num_tokens, HEADS, SIZE)
    return [torch.randn(shape, generator=generator).requires_grad_(requires_grad) for _ in range(3)]


def plain_attention(q, k, v, batch, causal, scale):
    """The definition, one sequence and one head at a time."""
    rows = []
    for one_q, one_k, one_v in zip(batch.split(q), batch.split(k), batch.split(v), strict=True):
        heads = []
        for h in range(q.shape[1]):
            scores = one_q[:, h] @ one_k[:, h].T * scale
            if causal:
                seen = torch.ones(len(one_q), len(one_q)).tril() > 0
                scores = torch.where(seen, scores, -torch.inf)
            heads.append(scores.exp() / scores.exp().sum(-1, keepdim=True) @ one_v[:, h])
        rows.append(torch.stack(heads, dim=1))
    return torch.cat(rows)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_every_form_of_attention_is_the_definition(lengths, causal):
    batch, scale = batch_of(lengths), 0.3
    q, k, v = qkv(batch)
    expected = plain_attention(q, k, v, batch, causal, scale)
    together = torch.stack([q, k, v], dim=1)
    for found in (
        attention._attend_by_run(together, batch, causal, 0.0, scale),
        attention._attend_padded(q, k, v, batch, causal, 0.0, scale),
        attend(together, batch, causal=causal, dropout=0.0, scale=scale),
    ):
        torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [attention.SHORT - 1, attention.SHORT, 300])
@pytest.mark.parametrize("tiles", [False, True])
def test_attention_in_half_precision_is_nearly_the_definition(monkeypatch, tiles, length, causal):
    monkeypatch.setattr(attention, "has_amx", lambda: tiles)
    monkeypatch.setattr(attention, "PRODUCT_SCORES", 3 * length**2)  # several parts, the last one smaller
    batch = batch_of([length] * 2 + [5])
    inputs = torch.stack(qkv(batch), dim=1).bfloat16()
    expected = plain_attention(*inputs.float().unbind(1), batch, causal, 0.3)
    found = attention._attend_by_run(inputs, batch, causal, 0.0, 0.3)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_every_form_of_attention_has_the_gradients_of_the_definition(lengths, causal):
    batch, scale = batch_of(lengths), 0.3
    forms = [
        lambda q, k, v: plain_attention(q, k, v, batch, causal, scale),
        lambda *qkv: attention._attend_by_run(torch.stack(qkv, dim=1), batch, causal, 0.0, scale),
        lambda q, k, v: attention._attend_padded(q, k, v, batch, causal, 0.0, scale),
        lambda *qkv: attend(torch.stack(qkv, dim=1), batch, causal=causal, dropout=0.0, scale=scale),
    ]
    gradients = []
    for form in forms:
        inputs = qkv(batch, requires_grad=True)
        out = form(*inputs)
        (out * torch.arange(out.numel()).view_as(out).cos()).sum().backward()
        gradients.append([x.grad for x in inputs])
    for found in gradients[1:]:
        torch.testing.assert_close(found, gradients[0], **CLOSE)


@pytest.mark.parametrize("causal", [False, True])
def test_rows_that_no_sequence_owns_stay_out_of_attention(causal):
    batch = batch_of(LENGTHS["mixed"])
    exact, longer = torch.stack(qkv(batch), dim=1), torch.randn(batch.num_tokens + 5, 3, HEADS, SIZE)
    longer[: batch.num_tokens] = exact
    found = []
    for inputs in (exact.requires_grad_(), longer.requires_grad_()):
        out = attend(inputs, batch, causal=causal, dropout=0.0, scale=0.3)
        (out * torch.arange(out.numel()).view_as(out).cos()).sum().backward()
        found.append((out, inputs.grad))
    for one, more in zip(*found, strict=True):
        assert torch.equal(one, more[: batch.num_tokens])
        assert not more[batch.num_tokens :].any()


def test_rows_are_added_in_training_in_half_precision_and_to_many_in_prediction():
    x = torch.randn(37, 4, requires_grad=True)
    assert layers.pad_rows(x) is x
    with torch.autocast("cpu", torch.bfloat16):
        assert layers.pad_rows(x).shape == (64, 4)
        assert layers.pad_rows(x.detach()).shape == (37, 4)
    assert layers.pad_rows(x).shape == (37, 4)
    assert layers.pad_rows(torch.ones(70, 4)).shape == (128, 4)
    assert layers.pad_rows(torch.ones(128, 4)).shape == (128, 4)


SIZES = {"hidden_size": 12, "num_layers": 2, "num_heads": 3, "intermediate_size": 24, "vocab_size": 50}


@pytest.mark.parametrize("config", [BertConfig, GPT2Config])
def test_the_rows_that_are_added_change_neither_vectors_nor_gradients(config, monkeypatch):
    torch.manual_seed(0)
    backbone = new_backbone(config(**SIZES)).eval()
    batch = PackedBatch.pack([[1, 2, 3, 4], [5], [6, 7, 8, 9, 10, 11, 12]])
    found = []
    for rows in (1, 32):
        monkeypatch.setattr(layers, "TRAINING_ROWS", rows)
        backbone.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            hidden = backbone(batch)
        hidden.float().pow(3).sum().backward()
        found.append([hidden, *(parameter.grad for parameter in backbone.parameters())])
    assert found[1][0].shape == (batch.num_tokens, 12)
    for one, more in zip(*found, strict=True):
        torch.testing.assert_close(more, one, rtol=1e-2, atol=1e-2 * one.abs().max().item())


@pytest.mark.parametrize("causal", [False, True])
def test_attention_weights_sum_to_one_and_see_no_future(causal):
    q, k, _ = qkv(batch_of([6]))
    weights = attention_weights(q, k, causal=causal, scale=0.5)
    assert weights.shape == (HEADS, 6, 6)
    torch.testing.assert_close(weights.sum(-1), torch.ones(HEADS, 6))
    assert bool((weights.triu(1) == 0).all()) == causal


@pytest.mark.parametrize("causal", [False, True])
def test_a_trace_keeps_one_square_of_weights_a_sequence_and_changes_nothing(causal):
    torch.manual_seed(0)
    attention = SelfAttention(12, 3, 0.1, causal=causal).eval()
    batch = batch_of(LENGTHS["mixed"])
    x = torch.randn(batch.num_tokens, 12)
    trace = Trace()
    torch.testing.assert_close(attention(x, batch, trace), attention(x, batch), **CLOSE)
    assert [tuple(weights.shape) for weights in trace.attentions[0]] == [(3, n, n) for n in batch.lengths]


def test_dropped_attention_is_right_on_average_in_value_and_gradient():
    batch = batch_of([4, 2])
    torch.manual_seed(0)
    rounds = 1500
    expected_inputs = qkv(batch, requires_grad=True)
    expected = plain_attention(*expected_inputs, batch, False, 0.4)
    expected.sum().backward()
    inputs = qkv(batch, requires_grad=True)
    together = torch.stack(inputs, dim=1)
    total = sum(attend(together, batch, causal=False, dropout=0.25, scale=0.4) for _ in range(rounds)) / rounds
    total.sum().backward()
    torch.testing.assert_close(total, expected, rtol=0, atol=0.1)
    torch.testing.assert_close(inputs[2].grad, expected_inputs[2].grad, rtol=0, atol=0.1)


def test_dropped_attention_has_the_gradient_of_what_it_computed():
    batch = batch_of([4, 2, 2])

    def dropped(*inputs):
        torch.manual_seed(5)  # the same weights dropped in every call
        return attend(torch.stack(inputs, dim=1), batch, causal=True, dropout=0.3, scale=0.4)

    inputs = [x.detach().double().requires_grad_() for x in qkv(batch)]
    assert torch.autograd.gradcheck(dropped, inputs)


def test_the_scale_is_one_over_the_root_of_the_head_size_unless_given():
    assert SelfAttention(12, 3, 0.0, causal=False).scale == 0.5
    assert SelfAttention(12, 3, 0.0, causal=False, scale=1.0).scale == 1.0


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_feed_forward_is_two_linear_layers_with_an_activation_between(activation):
    torch.manual_seed(0)
    mlp = FeedForward(6, 10, activation)
    x = torch.randn(4, 6)
    between = {
        "gelu": lambda y: y * 0.5 * (1 + torch.erf(y / 2**0.5)),
        "gelu_tanh": lambda y: y * 0.5 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (y + 0.044715 * y**3))),
        "relu": lambda y: y.clamp(min=0),
        "silu": lambda y: y * torch.sigmoid(y),
    }[activation]
    torch.testing.assert_close(mlp(x), mlp.down(between(mlp.up(x))))


@pytest.mark.parametrize("chance", [0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_scales_the_rest(chance, dtype):
    torch.manual_seed(0)
    dropout = Dropout(chance).train()
    x = torch.ones(400, 251, dtype=dtype, requires_grad=True)
    y = dropout(x)
    kept = y != 0
    assert y.dtype == dtype
    assert abs(kept.float().mean().item() - (1 - chance)) < 0.005
    torch.testing.assert_close(y[kept].float(), torch.full_like(y[kept].float(), 1 / (1 - chance)), rtol=1e-2, atol=0)
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach())  # the same elements, by the same factor


@pytest.mark.parametrize("shape", [(1,), (3,), (7, 5), (0, 4)])
def test_dropout_takes_any_shape(shape):
    assert Dropout(0.3).train()(torch.ones(shape)).shape == shape


def test_dropout_repeats_with_the_seed_and_sleeps_outside_training():
    dropout, x = Dropout(0.4), torch.randn(50)
    draws = []
    for _ in range(2):
        torch.manual_seed(7)
        draws.append(dropout.train()(x))
    assert torch.equal(*draws)
    assert not torch.equal(draws[0], dropout.train()(x))
    assert torch.equal(dropout.eval()(x), x)
    assert torch.equal(Dropout(0.0).train()(x), x)


@pytest.mark.gpu
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_attention_on_a_gpu_is_that_of_the_cpu(causal, dtype, tolerance):
    batch = batch_of(LENGTHS["mixed"])
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(batch.num_tokens, 3, HEADS, 64, generator=generator)
    expected = attend(qkv, batch, causal=causal, dropout=0.0, scale=0.125)
    found = attend(qkv.to("cuda", dtype), batch.to("cuda"), causal=causal, dropout=0.0, scale=0.125)
    torch.testing.assert_close(found.float().cpu(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("config", [BertConfig, GPT2Config])
def test_the_vectors_of_some_tokens_are_those_among_all(config):
    torch.manual_seed(0)
    backbone = new_backbone(config(**SIZES)).eval()
    batch = PackedBatch.pack([[1, 2, 3, 4], [5, 2, 7, 4], [5], [6, 7, 8, 9, 10, 11, 12], *([[8] * 9] * 8)])
    for only in (batch.first, batch.last) if config is BertConfig else (batch.last,):
        torch.testing.assert_close(backbone(batch, only=only), backbone(batch)[only], **CLOSE)
        with torch.inference_mode():  # attention of these tokens alone, and rows that no sequence owns
            torch.testing.assert_close(backbone(batch, only=only), backbone(batch)[only], **CLOSE)
        alone = batch.alone(only)
        assert alone.input_ids.tolist() == batch.input_ids[only].tolist()
        assert alone.first.tolist() == alone.last.tolist() == list(range(12))
