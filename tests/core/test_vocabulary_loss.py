"""The cross-entropy over a vocabulary, computed in chunks, equals that of all logits at once."""

import pytest
import torch
from headway.core.models import vocabulary_loss
from headway.core.models.bert import BertConfig
from headway.core.models.gpt2 import GPT2Config
from headway.core.models.heads import Network, language_model_head, new_backbone
from headway.core.models.packing import PackedBatch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

VOCABULARY = 60
SIZES = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "intermediate_size": 64, "vocab_size": VOCABULARY}
MODELS = {
    "bert": (BertConfig(**SIZES, init_std=0.3), False),
    "bert, next sentences": (BertConfig(**SIZES, init_std=0.3), True),
    "bert, untied": (BertConfig(**SIZES, init_std=0.3, tie_embeddings=False), False),
    "gpt2": (GPT2Config(**SIZES, init_std=0.3), False),
    "gpt2, untied": (GPT2Config(**SIZES, init_std=0.3, tie_embeddings=False), False),
}
SEQUENCES = [[1 + (7 * i + length) % 50 for i in range(length)] for length in (5, 9, 14, 1)]
POSITIONS = {"selected": [[0, 4], [], [1, 2, 3, 13], [0]], "all": [list(range(len(one))) for one in SEQUENCES]}


def network_of(name: str) -> Network:
    torch.manual_seed(0)
    config, next_sentence = MODELS[name]
    backbone = new_backbone(config)
    return Network(backbone, language_model_head(backbone, next_sentence)).eval()


def batch_of(positions: str, *, with_targets: bool) -> PackedBatch:
    batch = PackedBatch.pack(SEQUENCES)
    if positions == "selected":
        batch = batch.select(POSITIONS[positions])
    ids = torch.tensor([(11 * i) % VOCABULARY for i in range(sum(map(len, POSITIONS[positions])))])
    return PackedBatch(**{**vars(batch), "target_ids": ids}) if with_targets else batch, ids


def backward(network: nn.Module, total: torch.Tensor, outputs: object) -> dict[str, torch.Tensor]:
    if isinstance(outputs, tuple):
        total = total + outputs[1].square().sum()
    (total * 3).backward()
    found = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    return found


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("at_once", [1, 3, 1000], ids=["one token", "three tokens", "all tokens"])
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("name", MODELS)
def test_losses_and_gradients_are_those_of_all_logits(name, positions, at_once, dtype, monkeypatch):
    monkeypatch.setattr(vocabulary_loss, "MIN_ROWS", 1)
    monkeypatch.setitem(vocabulary_loss.LOGITS_AT_ONCE, "cpu", at_once * VOCABULARY)
    network = network_of(name)
    plain, ids = batch_of(positions, with_targets=False)
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        outputs = network(plain)
        logits = (outputs[0] if isinstance(outputs, tuple) else outputs).float()
    total = F.cross_entropy(logits, ids, reduction="sum")
    expected = backward(network, total, outputs)

    batch, _ = batch_of(positions, with_targets=True)
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        outputs = network(batch)
    losses = outputs[0] if isinstance(outputs, tuple) else outputs
    found = backward(network, losses.total, outputs)
    rounding = 1e-6 if dtype is None else 2e-2
    assert losses.total.item() == pytest.approx(total.item(), rel=rounding)
    assert torch.allclose(losses.losses, F.cross_entropy(logits, ids, reduction="none"), atol=10 * rounding)
    assert found.keys() == expected.keys()
    for parameter, gradient in expected.items():
        assert (found[parameter] - gradient).abs().max() <= rounding * gradient.abs().max(), parameter

    with torch.no_grad():  # as in an evaluation
        outputs = network(batch)
    losses = outputs[0] if isinstance(outputs, tuple) else outputs
    assert losses.total.item() == pytest.approx(total.item(), rel=rounding)
    if dtype is None:
        assert losses.correct.tolist() == (logits.argmax(dim=-1) == ids).tolist()


def test_no_more_logits_exist_at_once_than_a_chunk_has(monkeypatch: pytest.MonkeyPatch):
    class Largest(TorchDispatchMode):
        rows = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if (
                isinstance(out, torch.Tensor) and out.dim() == 2 and out.shape[1] == VOCABULARY and out.shape[0] != 32
            ):  # not the matrix
                self.rows = max(self.rows, out.shape[0])
            return out

    monkeypatch.setattr(vocabulary_loss, "MIN_ROWS", 1)
    monkeypatch.setattr(vocabulary_loss, "MULTIPLE", 1)
    monkeypatch.setitem(vocabulary_loss.LOGITS_AT_ONCE, "cpu", 4 * VOCABULARY)
    network = network_of("gpt2, untied")
    batch, _ = batch_of("all", with_targets=True)
    with Largest() as largest:
        network(batch).total.backward()
        with torch.no_grad():
            network(batch)
    assert largest.rows == 4


@pytest.mark.parametrize("part", ["backbone", "head"])
def test_a_frozen_part_gets_no_gradient(part: str):
    network = network_of("bert, untied")
    getattr(network, part).requires_grad_(False)
    batch, _ = batch_of("selected", with_targets=True)
    found = backward(network, network(batch).total, None)
    assert found
    assert not any(name.startswith(part) for name in found)


@pytest.mark.parametrize("positions", POSITIONS)
def test_the_parts_of_a_batch_have_its_losses(positions: str):
    network = network_of("bert")
    batch, _ = batch_of(positions, with_targets=True)
    parts = batch.parts(14)
    assert [len(part) for part in parts] == [2, 1, 1]
    assert torch.allclose(torch.cat([network(part).losses for part in parts]), network(batch).losses, atol=1e-5)


def test_a_batch_without_target_tokens_has_a_loss_of_zero():
    network = network_of("bert")
    batch = PackedBatch.pack([[1, 2, 3]]).select([[]])
    batch = PackedBatch(**{**vars(batch), "target_ids": torch.tensor([], dtype=torch.int64)})
    losses = network(batch)
    losses.total.backward()
    assert (losses.total.item(), len(losses)) == (0, 0)
    with torch.no_grad():
        assert len(network(batch)) == 0


@pytest.mark.parametrize("name", MODELS)
def test_the_host_reads_no_number_of_an_accelerator(name: str):
    network = network_of(name).to("meta")  # where reading a number is an error
    outputs = network.head(torch.empty(29, 32, device="meta"), batch_of("selected", with_targets=True)[0].to("meta"))
    (outputs[0] if isinstance(outputs, tuple) else outputs).total.backward()
    assert network.head.get_parameter(
        "lm_head.weight" if "next" not in name else "masked_lm.lm_head.weight"
    ).grad.is_meta


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", MODELS)
def test_losses_and_gradients_on_a_gpu_are_those_of_the_cpu(name: str, dtype):
    found = {}
    for device in ("cpu", "cuda"):
        network = network_of(name).to(device)
        batch = batch_of("selected", with_targets=True)[0].to(device)
        with torch.autocast(device, dtype, enabled=dtype is not None):
            outputs = network(batch)
        losses = outputs[0] if isinstance(outputs, tuple) else outputs
        gradients = backward(network, losses.total, outputs)
        found[device] = {"loss": losses.losses, **gradients}
    for key, tensor in found["cpu"].items():
        difference = (found["cuda"][key].cpu() - tensor).abs().max()
        assert difference <= (1e-3 if dtype is None else 5e-2) * tensor.abs().max(), key


@pytest.mark.parametrize("at_once", [3, 1000], ids=["three tokens", "all tokens"])
@pytest.mark.parametrize("name", MODELS)
def test_smoothed_losses_and_gradients_are_those_of_torch(name, at_once, monkeypatch):
    monkeypatch.setattr(vocabulary_loss, "MIN_ROWS", 1)
    monkeypatch.setitem(vocabulary_loss.LOGITS_AT_ONCE, "cpu", at_once * VOCABULARY)
    network = network_of(name)
    plain, ids = batch_of("all", with_targets=False)
    logits = network(plain)
    logits, expected_outputs = (logits[0], logits) if isinstance(logits, tuple) else (logits, logits)
    expected = F.cross_entropy(logits, ids, reduction="sum", label_smoothing=0.1)
    gradients = backward(network, expected, expected_outputs)
    (network.head.masked_lm if isinstance(expected_outputs, tuple) else network.head).label_smoothing = 0.1
    outputs = network(batch_of("all", with_targets=True)[0])
    losses = outputs[0] if isinstance(outputs, tuple) else outputs
    torch.testing.assert_close(losses.total, expected)
    torch.testing.assert_close(losses.losses, F.cross_entropy(logits, ids, reduction="none"))
    found = backward(network, losses.total, outputs)
    assert found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6 * float(gradient.abs().max()))
    with torch.no_grad():  # scores are those of the targets alone
        outputs = network(batch_of("all", with_targets=True)[0])
        scored = outputs[0] if isinstance(outputs, tuple) else outputs
    torch.testing.assert_close(scored.total, F.cross_entropy(logits, ids, reduction="sum"))
