"""Every attention kernel computes the definition of attention, and dropout drops the stated share."""

import pytest
import torch
from headway.core.models import attention, layers, linear
from headway.core.models.activations import record_activations
from headway.core.models.attention import attend, attend_at, attention_weights, choose_kernel
from headway.core.models.bert import BertConfig
from headway.core.models.dropout import Dropout
from headway.core.models.gpt2 import GPT2Config
from headway.core.models.heads import Network, SequenceHead, new_backbone
from headway.core.models.layers import ACTIVATIONS, FeedForward, SelfAttention
from headway.core.models.packing import PackedBatch

LENGTHS = {
    "mixed": [3, 1, 7, 7, 2, 7],
    "equal": [4, 4, 4],
    "one sequence": [9],
    "single tokens": [1, 1],
}
HEADS, SIZE = 3, 5
SIZES = {"hidden_size": 12, "num_layers": 2, "num_heads": 3, "intermediate_size": 24, "vocab_size": 50}
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
def test_every_kernel_computes_the_definition_of_attention(lengths, causal):
    batch, options = batch_of(lengths), {"causal": causal, "dropout": 0.0, "scale": 0.3}
    q, k, v = qkv(batch)
    expected = plain_attention(q, k, v, batch, causal, 0.3)
    together = torch.stack([q, k, v], dim=1)
    for kernel in (attention.attend_by_runs, attention.attend_padded, attention.attend_in_training, attend):
        torch.testing.assert_close(kernel(together, batch, **options), expected, **CLOSE)
    with torch.inference_mode():
        found = attend_at(together, batch, batch.last, **options)
    torch.testing.assert_close(found, expected[batch.last], **CLOSE)


def test_the_kernel_follows_from_precision_training_and_processor(monkeypatch):
    plain, half = torch.zeros(1, 3, 1, 1), torch.zeros(1, 3, 1, 1, dtype=torch.bfloat16)
    training = torch.zeros(1, 3, 1, 1, requires_grad=True)

    def chosen(qkv, **options):
        return choose_kernel(qkv, **{"causal": False, "dropout": 0.0, **options}).__name__

    for amx in (False, True):
        monkeypatch.setattr(attention, "has_amx", lambda amx=amx: amx)
        assert chosen(training) == chosen(training, single_query=True) == "attend_in_training"
        assert chosen(plain) == chosen(half, causal=True) == chosen(half, dropout=0.1) == "attend_by_runs"
        assert chosen(half) == ("attend_by_runs" if amx else "attend_by_products")
        with torch.inference_mode():
            assert chosen(training, single_query=True) == chosen(half, single_query=True) == "attend_single_query"
            assert chosen(training, dropout=0.1, single_query=True) == "attend_by_runs"
    assert chosen(torch.zeros(1, 3, 1, 1, device="meta")) == "attend_padded"


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [attention.SHORT - 1, attention.SHORT, 300])
@pytest.mark.parametrize("amx", [False, True])
def test_attention_in_half_precision_is_close_to_the_definition(monkeypatch, amx, length, causal):
    monkeypatch.setattr(attention, "has_amx", lambda: amx)
    monkeypatch.setattr(attention, "PRODUCT_SCORES", 3 * length**2)  # several products, the last one smaller
    batch = batch_of([length] * 2 + [5])
    inputs = torch.stack(qkv(batch), dim=1).bfloat16()
    expected = plain_attention(*inputs.float().unbind(1), batch, causal, 0.3)
    found = attend(inputs, batch, causal=causal, dropout=0.0, scale=0.3)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_every_kernel_has_the_gradients_of_the_definition(lengths, causal):
    batch, options = batch_of(lengths), {"causal": causal, "dropout": 0.0, "scale": 0.3}
    gradients = []
    for kernel in (None, attention.attend_by_runs, attention.attend_padded, attend):
        inputs = qkv(batch, requires_grad=True)
        if kernel is None:
            out = plain_attention(*inputs, batch, causal, 0.3)
        else:
            out = kernel(torch.stack(inputs, dim=1), batch, **options)
        (out * torch.arange(out.numel()).view_as(out).cos()).sum().backward()
        gradients.append([x.grad for x in inputs])
    for found in gradients[1:]:
        torch.testing.assert_close(found, gradients[0], **CLOSE)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_ignores_appended_rows(causal):
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


def test_rows_are_appended_in_training_with_onednn_and_to_large_batches_in_inference(monkeypatch: pytest.MonkeyPatch):
    x = torch.randn(37, 4, requires_grad=True)
    monkeypatch.setattr(linear, "_is_fast", lambda: True)
    assert layers.pad_rows(x).shape == (64, 4)
    monkeypatch.setattr(linear, "_is_fast", lambda: False)
    assert layers.pad_rows(x) is x
    with torch.autocast("cpu", torch.bfloat16):
        assert layers.pad_rows(x).shape == (64, 4)
        assert layers.pad_rows(x.detach()).shape == (37, 4)
    assert layers.pad_rows(x).shape == (37, 4)
    assert layers.pad_rows(torch.ones(70, 4)).shape == (128, 4)
    assert layers.pad_rows(torch.ones(128, 4)).shape == (128, 4)


@pytest.mark.parametrize("config", [BertConfig, GPT2Config])
def test_appended_rows_change_neither_outputs_nor_gradients(config, monkeypatch):
    torch.manual_seed(0)
    backbone = new_backbone(config(**SIZES)).eval()
    batch = PackedBatch.pack([[1, 2, 3, 4], [5], [6, 7, 8, 9, 10, 11, 12]])
    found = []
    for rows in (1, 32):
        monkeypatch.setattr(layers, "TRAINING_MULTIPLE", rows)
        backbone.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            hidden = backbone(batch)
        hidden.float().pow(3).sum().backward()
        found.append([hidden, *(parameter.grad for parameter in backbone.parameters())])
    assert found[1][0].shape == (batch.num_tokens, 12)
    for one, more in zip(*found, strict=True):
        torch.testing.assert_close(more, one, rtol=1e-2, atol=1e-2 * one.abs().max().item())


@pytest.mark.parametrize("causal", [False, True])
def test_attention_weights_sum_to_one_and_are_zero_for_later_tokens_if_causal(causal):
    q, k, _ = qkv(batch_of([6]))
    weights = attention_weights(q, k, causal=causal, scale=0.5)
    assert weights.shape == (HEADS, 6, 6)
    torch.testing.assert_close(weights.sum(-1), torch.ones(HEADS, 6))
    assert bool((weights.triu(1) == 0).all()) == causal


@pytest.mark.parametrize("config", [BertConfig, GPT2Config])
@pytest.mark.parametrize("copies", [1, 9], ids=["few rows", "appended rows"])
def test_activations_are_recorded_for_the_tokens_of_the_batch_only(config, copies):
    backbone = new_backbone(config(**SIZES)).eval()
    batch = batch_of(LENGTHS["mixed"] * copies)
    with torch.inference_mode(), record_activations(backbone) as activations:
        output = backbone(batch)
    assert len(activations.hidden_states) == 3
    assert {tuple(states.shape) for states in activations.hidden_states} == {(batch.num_tokens, 12)}
    assert torch.equal(activations.hidden_states[0], backbone.embed(batch))
    assert torch.equal(activations.hidden_states[-1], output)
    for weights in activations.attentions:
        assert [tuple(one.shape) for one in weights] == [(3, n, n) for n in batch.lengths]


def test_attention_with_dropout_has_the_expected_value_and_gradient():
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


def test_attention_with_dropout_has_the_gradient_of_its_output():
    batch = batch_of([4, 2, 2])

    def dropped(*inputs):
        torch.manual_seed(5)  # every call drops the same weights
        return attend(torch.stack(inputs, dim=1), batch, causal=True, dropout=0.3, scale=0.4)

    inputs = [x.detach().double().requires_grad_() for x in qkv(batch)]
    assert torch.autograd.gradcheck(dropped, inputs)


def test_the_default_scale_is_one_over_the_square_root_of_the_head_size():
    assert SelfAttention(12, 3, 0.0, causal=False).scale == 0.5
    assert SelfAttention(12, 3, 0.0, causal=False, scale=1.0).scale == 1.0


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_feed_forward_is_two_linear_layers_with_an_activation_in_between(activation):
    torch.manual_seed(0)
    mlp = FeedForward(6, 10, activation)
    x = torch.randn(4, 6)
    between = {
        "gelu": lambda y: y * 0.5 * (1 + torch.erf(y / 2**0.5)),
        "gelu_tanh": lambda y: y * 0.5 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (y + 0.044715 * y**3))),
        "relu": lambda y: y.clamp(min=0),
        "silu": lambda y: y * torch.sigmoid(y),
        "tanh": torch.tanh,
    }[activation]
    torch.testing.assert_close(mlp(x), mlp.down(between(mlp.up(x))))


@pytest.mark.parametrize("chance", [0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_the_stated_share_and_scales_the_rest(chance, dtype):
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


@pytest.mark.parametrize("chance", [1e-9, 2**-18, 2**-17, 2**-16, 0.9, 1 - 2**-15, 1 - 2**-18])
def test_dropout_keeps_the_mean_of_its_input_for_every_probability(chance):
    torch.manual_seed(0)
    y = Dropout(chance).train()(torch.ones(2**12, 2**12))
    kept = max(1 - chance, 2**-16)
    assert y.mean().item() == pytest.approx(1, abs=5 * (1 / kept - 1 + 1e-9) ** 0.5 / 2**12)
    assert (y != 0).float().mean().item() == pytest.approx(kept, rel=0.5)


def test_attention_with_a_tiny_dropout_equals_attention_without():
    batch = batch_of([4, 2])
    together = torch.stack(qkv(batch, requires_grad=True), dim=1)
    found, expected = (attend(together, batch, causal=True, dropout=p, scale=0.4) for p in (2**-18, 0.0))
    torch.testing.assert_close(found, expected)
    assert found.std() > 0.1


@pytest.mark.parametrize("shape", [(1,), (3,), (7, 5), (0, 4)])
def test_dropout_accepts_any_shape(shape):
    assert Dropout(0.3).train()(torch.ones(shape)).shape == shape


def test_dropout_depends_on_the_seed_and_is_the_identity_outside_training():
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
def test_attention_on_a_gpu_equals_attention_on_the_cpu(causal, dtype, tolerance):
    batch = batch_of(LENGTHS["mixed"])
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(batch.num_tokens, 3, HEADS, 64, generator=generator)
    expected = attend(qkv, batch, causal=causal, dropout=0.0, scale=0.125)
    found = attend(qkv.to("cuda", dtype), batch.to("cuda"), causal=causal, dropout=0.0, scale=0.125)
    torch.testing.assert_close(found.float().cpu(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("config", [BertConfig, GPT2Config])
def test_the_outputs_at_some_tokens_are_those_of_the_whole_batch(config):
    torch.manual_seed(0)
    backbone = new_backbone(config(**SIZES)).eval()
    batch = PackedBatch.pack([[1, 2, 3, 4], [5, 2, 7, 4], [5], [6, 7, 8, 9, 10, 11, 12], *([[8] * 9] * 8)])
    for rows in (batch.first, batch.last) if config is BertConfig else (batch.last,):
        torch.testing.assert_close(backbone.forward_at(batch, rows), backbone(batch)[rows], **CLOSE)
        with torch.inference_mode():  # single queries, and appended rows
            torch.testing.assert_close(backbone.forward_at(batch, rows), backbone(batch)[rows], **CLOSE)


@pytest.mark.parametrize("config", [BertConfig, GPT2Config])
def test_a_sequence_head_reads_one_token_of_the_whole_batch(config):
    torch.manual_seed(0)
    backbone = new_backbone(config(**SIZES))
    network = Network(backbone, SequenceHead(backbone.config, 3)).eval()
    batch = PackedBatch.pack([[1, 2, 3, 4], [5], [6, 7, 8]])
    assert network.head.rows(batch).tolist() == ([0, 4, 5] if config is BertConfig else [3, 4, 7])
    torch.testing.assert_close(network(batch), network.head(backbone(batch), batch), **CLOSE)


def test_the_layers_of_a_network_share_one_training_layout():
    backbone = new_backbone(BertConfig(**SIZES)).train()
    batch = batch_of(LENGTHS["mixed"])
    backbone(batch).sum().backward()
    assert len(batch._training_layouts) == 1
    (layout,) = batch._training_layouts.values()
    rows = len(layers.pad_rows(torch.ones(batch.num_tokens, 1, requires_grad=True)))
    assert batch.training_layout(rows, 3, False) is layout
