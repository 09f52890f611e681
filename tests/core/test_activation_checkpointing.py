"""Training with recomputed activations gives the same numbers in less memory."""

from dataclasses import replace

import pytest
import torch
from headway.core.models.bert import BertConfig
from headway.core.models.gpt2 import GPT2Config
from headway.core.models.heads import (
    Network,
    SequenceHead,
    language_model_head,
    new_backbone,
    set_activation_checkpointing,
)
from headway.core.models.packing import PackedBatch
from headway.core.training.training import fit
from headway.core.training.training_config import TrainConfig
from headway.core.training.training_events import Step
from torch import nn
from train_worker import Data, tiny_bert, weights

SIZES = {"hidden_size": 32, "num_layers": 6, "num_heads": 2, "intermediate_size": 128, "vocab_size": 50}
DROPOUT = {"dropout": 0.2, "attention_dropout": 0.3, "head_dropout": 0.1}
CONFIGS = {"bert": BertConfig(**SIZES, **DROPOUT), "gpt2": GPT2Config(**SIZES, **DROPOUT, embedding_dropout=0.1)}
BATCH = PackedBatch.pack([[1 + i % 40 for i in range(length)] for length in (5, 9, 9, 30, 1)])
CONFIG = TrainConfig(epochs=2, batch_size=8, learning_rate=3e-3, precision="fp32", device="cpu")


def gradients(kind: str, *, checkpointed: bool, device: str = "cpu", dtype: torch.dtype | None = None, head=None):
    torch.manual_seed(0)
    backbone = new_backbone(CONFIGS[kind])
    network = Network(backbone, SequenceHead(CONFIGS[kind], 3) if head is None else head(backbone)).to(device)
    set_activation_checkpointing(network, checkpointed)
    saved = {}

    def remember(tensor):
        if not isinstance(tensor, nn.Parameter):
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor)
    with hooks, torch.autocast(device, dtype, enabled=dtype is not None):
        outputs = network(BATCH.to(device))
    outputs.float().square().sum().backward()
    after = torch.rand(3, device=device)  # the random state after the step
    return [outputs.detach(), after, *(p.grad for p in network.parameters() if p.grad is not None)], saved


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("head", [None, language_model_head], ids=["sequence", "language-model"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_outputs_gradients_and_random_states_are_the_same_to_the_last_bit(kind: str, head, dtype):
    expected, _ = gradients(kind, checkpointed=False, dtype=dtype, head=head)
    found, _ = gradients(kind, checkpointed=True, dtype=dtype, head=head)
    assert len(found) == len(expected) > 70
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_forward_pass_keeps_a_small_part_of_the_activations(kind: str):
    _, kept = gradients(kind, checkpointed=False, head=language_model_head)
    _, few = gradients(kind, checkpointed=True, head=language_model_head)
    assert sum(few.values()) < sum(kept.values()) / 4


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_loss_curve_is_the_same_and_the_network_is_as_before(precision: str):
    def curve(config: TrainConfig):
        network, data = tiny_bert(dropout=0.2), Data(40)
        events = list(fit(network, config.sampler(data.lengths), data.collate, data.loss, config))
        assert not network.backbone.checkpoint_activations
        return [one.loss for one in events if isinstance(one, Step)], weights(network)

    config = replace(CONFIG, precision=precision, tokens_at_once=30)  # several passes per step
    losses, expected = curve(config)
    found, trained = curve(replace(config, checkpoint_activations=True))
    assert found == losses
    assert all(torch.equal(tensor, expected[name]) for name, tensor in trained.items())


def test_inference_checkpoints_nothing(monkeypatch: pytest.MonkeyPatch):
    network = tiny_bert()
    set_activation_checkpointing(network, True)
    monkeypatch.setattr("headway.core.models.activation_checkpointing.checkpoint", None)
    with torch.no_grad():
        assert network(PackedBatch.pack([[1, 2, 3], [4, 5]])).isfinite().all()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_gradients_on_a_gpu_are_those_without_checkpointing(kind: str, dtype):
    expected, kept = gradients(kind, checkpointed=False, device="cuda", dtype=dtype)
    found, few = gradients(kind, checkpointed=True, device="cuda", dtype=dtype)
    assert all(torch.allclose(one, two, rtol=1e-4, atol=1e-5) for one, two in zip(found, expected, strict=True))
    assert torch.equal(found[1], expected[1])
    assert sum(few.values()) < sum(kept.values()) / 4
