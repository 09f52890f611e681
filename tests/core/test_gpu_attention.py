"""Attention on GPUs: which kernel runs on which of them, flash attention and its gradient, and padded attention.

The tests without the marker `gpu` run the code of a GPU on the CPU: on the meta device, where reading a number of a
tensor is an error, and with flash attention computed by its definition.
"""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from headway.core.models import attention, packing
from headway.core.models.attention import attend, attend_packed, attend_padded, choose_kernel
from headway.core.models.bert import BertConfig
from headway.core.models.gpt2 import GPT2Config
from headway.core.models.heads import new_backbone
from headway.core.models.packing import PackedBatch
from headway.core.models.padded_layout import group_similar, make_padded_layout
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

CPU = torch.device("cpu")
LENGTHS = {"mixed": [3, 1, 7, 7, 2, 7], "equal": [16, 16], "one long": [60, *[9] * 7], "any order": [2, 40, 2, 33, 5]}
HEADS, SIZE = 3, 8
CLOSE = {"rtol": 1e-5, "atol": 1e-6}
SIZES = {"hidden_size": 24, "num_layers": 2, "num_heads": 3, "intermediate_size": 48, "vocab_size": 50}


def batch_of(lengths):
    return PackedBatch.pack([[1 + i % 9 for i in range(length)] for length in lengths])


def inputs(batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch.num_tokens, 3, HEADS, SIZE, generator=generator)


def one_by_one(qkv, batch, *, causal, scale):
    """Attention of each sequence alone."""
    outputs = []
    for one in batch.split(qkv):
        q, k, v = one.permute(1, 2, 0, 3)  # (H, n, D)
        outputs.append(F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale).transpose(0, 1))
    return torch.cat(outputs)


def with_gradient(kernel, qkv):
    qkv = qkv.clone().requires_grad_()
    out = kernel(qkv)
    (out * torch.arange(out.numel()).view_as(out).cos()).sum().backward()
    return out.detach(), qkv.grad


class FlashAttention(TorchDispatchMode):
    """Computes the two operators of flash attention by their definition, with a mask drawn from the random state."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._flash_attention_forward.default:
            self.calls.append("forward")
            q, k, v, cum_q, cum_k, max_q, max_k, dropout, causal, debug = args
            assert cum_q.dtype == cum_k.dtype == torch.int32
            assert not debug
            assert max_q == max_k == int(cum_q.diff().max())
            state = torch.randint(2**40, (2,)) if dropout else torch.zeros(2, dtype=torch.int64)
            out = self.define(q, k, v, cum_q, dropout, causal, state, kwargs["scale"])
            return out, q.new_zeros(q.shape[1], len(q)), state, q.new_zeros(()), q.new_zeros(0)
        if func is torch.ops.aten._flash_attention_backward.default:
            self.calls.append("backward")
            grad, q, k, v, _, _, cum_q, _, _, _, dropout, causal, state, _ = args
            return self.gradient(grad, q, k, v, cum_q, dropout, causal, state, kwargs["scale"])
        return func(*args, **kwargs)

    @staticmethod
    def weights(q, k, v, offsets, dropout, causal, state, scale):
        """Of each sequence its queries, keys and values (H, n, D), its weights and their factors by dropout."""
        generator = torch.Generator().manual_seed(int(state[0]))
        for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            a, b, c = (x[start:stop].transpose(0, 1) for x in (q, k, v))
            scores = a @ b.transpose(1, 2) * scale
            if causal:
                scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
            kept = torch.rand(scores.shape, generator=generator) >= dropout
            yield a, b, c, scores.softmax(dim=-1), kept.to(q.dtype) / (1 - dropout)

    def define(self, *inputs):
        return torch.cat([(w * kept @ c).transpose(0, 1) for _, _, c, w, kept in self.weights(*inputs)])

    def gradient(self, grad, *inputs):
        gradients, start, scale = [], 0, inputs[-1]
        for a, b, c, w, kept in self.weights(*inputs):
            g = grad[start : start + a.shape[1]].transpose(0, 1)
            grad_w = g @ c.transpose(1, 2) * kept
            scores = w * (grad_w - (grad_w * w).sum(dim=-1, keepdim=True)) * scale
            gradients.append((scores @ b, scores.transpose(1, 2) @ a, (w * kept).transpose(1, 2) @ g))
            start += a.shape[1]
        return tuple(torch.cat([x.transpose(0, 1) for x in parts]) for parts in zip(*gradients, strict=True))


def a_gpu(monkeypatch, capability=(9, 0), *, hip=None, built=True):
    """Lets this machine answer like one with a GPU."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: built)


def chosen(size=64, dtype=torch.bfloat16, dropout=0.1, device="cuda"):
    qkv: Any = SimpleNamespace(device=torch.device(device), dtype=dtype, shape=(5, 3, 2, size), requires_grad=True)
    return choose_kernel(qkv, causal=False, dropout=dropout)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize(
    ("capability", "flash"),
    [
        ((7, 0), False),
        ((7, 5), False),
        ((8, 0), True),
        ((8, 9), True),
        ((9, 0), True),
        ((11, 0), False),
        ((12, 0), True),
    ],
)
def test_flash_attention_runs_from_compute_capability_8_on(monkeypatch, capability, flash, dropout):
    a_gpu(monkeypatch, capability)
    for dtype in (torch.bfloat16, torch.float16):
        assert chosen(dtype=dtype, dropout=dropout) is (attend_packed if flash else attend_padded)
    assert chosen(dtype=torch.float32, dropout=dropout) is attend_padded


@pytest.mark.parametrize(
    ("size", "flash"), [(64, True), (8, True), (192, True), (12, False), (200, False), (256, False)]
)
def test_flash_attention_runs_for_head_sizes_that_it_supports(monkeypatch, size, flash):
    a_gpu(monkeypatch)
    assert chosen(size) is (attend_packed if flash else attend_padded)


def test_other_devices_and_builds_of_torch_have_padded_attention(monkeypatch):
    a_gpu(monkeypatch)
    assert chosen() is attend_packed
    assert chosen(dropout=1.0) is attend_padded
    assert chosen(device="mps") is attend_padded
    with monkeypatch.context() as patch:
        patch.setattr(torch.ops, "aten", SimpleNamespace())
        assert chosen() is attend_padded
    a_gpu(monkeypatch, built=False)
    assert chosen() is attend_padded
    a_gpu(monkeypatch, (9, 4), hip="7.0")
    assert chosen() is attend_padded


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("kernel", [attend_packed, attend_padded])
def test_the_kernels_of_a_gpu_have_the_outputs_and_gradients_of_one_sequence_at_a_time(kernel, lengths, causal):
    batch = batch_of(lengths)
    expected = with_gradient(lambda qkv: one_by_one(qkv, batch, causal=causal, scale=0.3), inputs(batch))
    with FlashAttention() as flash:
        found = with_gradient(lambda qkv: kernel(qkv, batch, causal=causal, dropout=0.0, scale=0.3), inputs(batch))
    torch.testing.assert_close(found, expected, **CLOSE)
    assert flash.calls == (["forward", "backward"] if kernel is attend_packed else [])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kernel", [attend_packed, attend_padded])
def test_dropout_on_a_gpu_has_the_expected_value_and_the_gradient_of_its_output(kernel, causal):
    batch, options = batch_of([9, 4, 4]), {"causal": causal, "dropout": 0.25, "scale": 0.4}
    qkv, rounds = inputs(batch), 200

    def dropped(qkv):
        torch.manual_seed(5)
        return kernel(qkv, batch, **options)

    with FlashAttention():
        torch.manual_seed(0)
        total = sum(kernel(qkv, batch, **options) for _ in range(rounds)) / rounds
        assert torch.autograd.gradcheck(
            dropped, qkv.double().requires_grad_(), check_undefined_grad=False, fast_mode=True
        )
    expected = one_by_one(qkv, batch, causal=causal, scale=0.4)
    torch.testing.assert_close(total, expected, rtol=0, atol=0.4)
    assert (total - expected).norm() < 0.17 * expected.norm()


@pytest.mark.parametrize("kernel", [attend_packed, attend_padded])
@pytest.mark.parametrize("config", [BertConfig, GPT2Config])
def test_the_kernels_of_a_gpu_read_nothing_back_in_training(monkeypatch, config, kernel):
    monkeypatch.setattr(attention, "choose_kernel", lambda *_, **__: kernel)
    backbone = new_backbone(config(**SIZES)).to("meta", torch.bfloat16).train()
    batch = batch_of([60, *[9] * 7]).to("meta")
    hidden = backbone(batch)
    hidden.sum().backward()
    assert hidden.shape == (batch.num_tokens, 24)
    assert all(parameter.grad is not None for parameter in backbone.blocks.parameters())


@pytest.mark.parametrize(
    ("lengths", "groups"), [([512, *[24] * 31], 2), ([512, *[24] * 127], 2), ([300] * 8, 1), (list(range(1, 513)), 7)]
)
def test_padding_costs_at_most_half_as_many_positions_as_tokens(lengths, groups):
    layout = make_padded_layout(lengths, CPU)
    assert layout.num_positions <= 1.5 * sum(-(-length // 8) * 8 for length in lengths)
    assert len(layout.rectangles) <= groups
    assert sorted(index for group in group_similar(lengths) for index in group) == list(range(len(lengths)))


def test_one_long_text_among_short_ones_is_not_padded():
    assert make_padded_layout([512, *[24] * 31], CPU).num_positions == 512 + 31 * 24


def test_sequences_of_one_length_are_neither_copied_nor_masked():
    layout = make_padded_layout([16] * 4, CPU)
    (rectangle,) = layout.rectangles
    assert layout.positions is None
    assert rectangle.mask is None


def test_a_sequence_that_is_not_a_number_does_not_spoil_the_others():
    batch = batch_of([9, 7, 5])
    qkv = inputs(batch)
    qkv[9:16] = torch.nan
    found = batch.split(attend_padded(qkv, batch, causal=False, dropout=0.0, scale=0.3))
    assert [bool(one.isnan().any()) for one in found] == [False, True, False]


def test_a_layout_that_inference_made_serves_training():
    batch = batch_of(LENGTHS["mixed"])
    options: Any = {"causal": False, "dropout": 0.0, "scale": 0.3}
    with torch.inference_mode():
        expected = attend_padded(inputs(batch), batch, **options)
    found = with_gradient(lambda qkv: attend_padded(qkv, batch, **options), inputs(batch))[0]
    torch.testing.assert_close(found, expected.clone())


@pytest.mark.parametrize("misread", [False, True])
def test_devices_that_misread_strides_get_contiguous_tensors(monkeypatch, misread):
    monkeypatch.setattr(attention, "misreads_strides", lambda _: misread)
    contiguous, kernel = [], F.scaled_dot_product_attention

    def watched(*args, **options):
        contiguous.append(all(x.is_contiguous() for x in args[:3]))
        return kernel(*args, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    batch = batch_of([60, *[9] * 7])
    found = attend_padded(inputs(batch), batch, causal=False, dropout=0.0, scale=0.3)
    assert contiguous == [misread] * 2
    torch.testing.assert_close(found, one_by_one(inputs(batch), batch, causal=False, scale=0.3), **CLOSE)


def test_apples_and_amds_gpus_misread_strides(monkeypatch):
    devices = [torch.device(name) for name in ("cpu", "cuda", "mps")]
    for hip, expected in ((None, [False, False, True]), ("7.0", [False, True, True])):
        monkeypatch.setattr(torch.version, "hip", hip)
        assert [attention.misreads_strides(device) for device in devices] == expected


def test_all_layers_share_one_padded_layout(monkeypatch):
    monkeypatch.setattr(attention, "choose_kernel", lambda *_, **__: attend_padded)
    made = []
    monkeypatch.setattr(packing, "make_padded_layout", lambda *args: made.append(1) or make_padded_layout(*args))
    with torch.no_grad():  # in training, rows are appended on the CPU
        new_backbone(BertConfig(**SIZES))(batch_of(LENGTHS["mixed"]))
    assert made == [1]


@pytest.mark.gpu
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-4), (torch.bfloat16, 3e-2), (torch.float16, 5e-3)])
def test_attention_on_a_gpu_has_the_outputs_and_gradients_of_the_cpu(lengths, causal, dtype, close):
    batch = batch_of(lengths)
    qkv, weights = inputs(batch), torch.arange(batch.num_tokens * HEADS * SIZE).cos().view(-1, HEADS, SIZE)
    found = []
    for device, precision in (("cpu", torch.float32), ("cuda", dtype)):
        x = qkv.to(device, precision, copy=True).requires_grad_()
        out = attend(x, batch.to(device), causal=causal, dropout=0.0, scale=0.3)
        (out * weights.to(out)).sum().backward()
        assert x.grad is not None
        found.append((out.float().cpu(), x.grad.float().cpu()))
    for one, other in zip(*found, strict=True):
        assert (one - other).norm() < close * one.norm()


@pytest.mark.gpu
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_on_a_real_gpu_has_the_expected_value_and_one_mask_in_both_directions(causal, dtype):
    batch = batch_of([40, 24, 24]).to("cuda")
    options = {"causal": causal, "dropout": 0.25, "scale": 0.4}
    qkv = inputs(batch).to("cuda", dtype).requires_grad_()
    expected = attend(qkv, batch, **{**options, "dropout": 0.0}).detach().float()
    rounds = [attend(qkv, batch, **options).detach().float() for _ in range(300)]
    assert not torch.equal(rounds[0], rounds[1])
    assert (torch.stack(rounds).mean(0) - expected).norm() < 0.15 * expected.norm()
    # The output is linear in the values, so with the same mask <gradient, values> is the output's sum.
    out = attend(qkv, batch, **options)
    out.float().sum().backward()
    assert qkv.grad is not None
    linear = (qkv.grad[:, 2].float() * qkv.detach()[:, 2].float()).sum()
    torch.testing.assert_close(linear, out.detach().float().sum(), rtol=2e-2, atol=2e-2 * out.float().norm().item())


@pytest.mark.gpu
def test_the_default_training_of_a_gpu_takes_flash_attention(monkeypatch):
    if torch.cuda.get_device_capability()[0] not in attention.FLASH_GENERATIONS:
        pytest.fail("this GPU has no flash attention")
    calls = []
    monkeypatch.setattr(attention, "attend_packed", lambda *a, **k: calls.append(1) or attend_packed(*a, **k))
    backbone = new_backbone(BertConfig(**{**SIZES, "hidden_size": 192})).to("cuda").train()
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = batch_of([60, *[9] * 7])
        with torch.autocast("cuda", torch.bfloat16):
            backbone(batch.to("cuda")).float().sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(calls) == 2
