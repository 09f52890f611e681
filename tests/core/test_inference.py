"""Models prepared for inference give the outputs of the plain model and leave it unchanged."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from headway.core.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from headway.core.errors import HeadwayError
from headway.core.generation.generation import generate_ids
from headway.core.generation.generation_config import GenerationConfig
from headway.core.inference.inference import MappedEmbedding, load_for_inference, prepare_for_inference
from headway.core.inference.linears import Int8Linear, PackedLinear, RowLinear, TiledInt8Linear
from headway.core.models import layers
from headway.core.models.bert import Bert, BertConfig
from headway.core.models.gpt2 import GPT2, GPT2Config
from headway.core.models.heads import Network, SequenceHead, language_model_head
from headway.core.models.packing import PackedBatch
from headway.core.models.transformer import Transformer, TransformerConfig
from parity import stir

SIZES = {"vocab_size": 60, "hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}
TOLERANCES = {"fp32": 2e-5, "bf16": 0.02, "int8": 0.05}  # for `distance`


def network(kind: str, activation: str) -> Network:
    torch.manual_seed(0)
    if kind == "bert":
        backbone = Bert(BertConfig(**SIZES, max_positions=40, activation=activation))
        return stir(Network(backbone, SequenceHead(backbone.config, 3)))
    if kind == "transformer":
        backbone = Transformer(
            TransformerConfig(**SIZES, num_encoder_layers=1, num_encoder_heads=2, activation=activation)
        )
        return stir(Network(backbone, language_model_head(backbone)))
    backbone = GPT2(GPT2Config(**SIZES, max_positions=40, activation=activation))
    return stir(Network(backbone, language_model_head(backbone)))


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The root mean square of the difference, as a part of the spread of the expected values over the rows."""
    assert found.shape == expected.shape
    return float((found.float() - expected).norm() / (expected - expected.mean(0)).norm())


@pytest.fixture(params=[False, True], ids=["without AMX", "with AMX"])
def amx(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """The processor reports AMX or not; the layers for the other kind work as well, only slower."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: request.param)
    return request.param


def batch() -> PackedBatch:
    draw = torch.Generator().manual_seed(1)
    return PackedBatch.pack([torch.randint(60, (n,), generator=draw).tolist() for n in (1, 7, 7, 30, 40)])


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu", "silu"])
@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.usefixtures("amx")
def test_the_outputs_are_those_of_the_plain_network(kind: str, activation: str, precision: str):
    plain = network(kind, activation)
    with torch.inference_mode():
        expected = plain(batch())
        found = prepare_for_inference(plain, precision)(batch())
    assert distance(found, expected) < TOLERANCES[precision]


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_the_tolerances_reject_outputs_that_do_not_depend_on_the_input(kind: str):
    with torch.inference_mode():
        expected = network(kind, "gelu")(batch())
        of_another_model = network(kind, "relu")(batch())
    constant = expected.mean(0).expand_as(expected)
    for wrong in (torch.zeros_like(expected), constant, expected.roll(1, 0), of_another_model):
        assert distance(wrong, expected) > 2 * max(TOLERANCES.values())


def test_the_plain_network_is_unchanged():
    plain = network("bert", "gelu")
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    prepared = prepare_for_inference(plain, "bf16")
    assert all(torch.equal(tensor, before[name]) for name, tensor in plain.state_dict().items())
    assert not any(isinstance(part, PackedLinear) for part in plain.modules())
    assert any(isinstance(part, PackedLinear) for part in prepared.modules())
    assert prepared.backbone.token_embedding.weight is plain.backbone.token_embedding.weight
    plain(batch()).sum().backward()  # and can still be trained


@pytest.mark.usefixtures("amx")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_prepared_gpt2_generates(precision: str):
    prepared = prepare_for_inference(network("gpt2", "gelu_tanh"), precision)
    config = GenerationConfig(max_new_tokens=6)
    together = generate_ids(prepared, [[1, 2, 3], [4]], config)
    alone = [generate_ids(prepared, [prompt], config)[0] for prompt in ([1, 2, 3], [4])]
    assert [one[0].token_ids for one in together] == [one[0].token_ids for one in alone]
    assert isinstance(prepared.backbone, GPT2)


@pytest.mark.parametrize("kind", [Int8Linear, TiledInt8Linear, partial(PackedLinear, dtype=torch.float32)])
def test_an_input_without_rows_gives_an_output_without_rows(kind: Callable[..., torch.nn.Module]):
    assert kind(torch.nn.Linear(8, 4), "gelu")(torch.zeros(0, 8)).shape == (0, 4)


@pytest.mark.parametrize("kind", [Int8Linear, TiledInt8Linear])
def test_int8_computes_the_product_of_rounded_weights_and_rounded_rows(kind: Callable[..., torch.nn.Module]):
    torch.manual_seed(0)
    linear = torch.nn.Linear(32, 48)
    x = torch.randn(1100, 32)  # several chunks
    x[3] *= 1000  # this row needs another scale
    x[4] = 0

    weight = linear.weight.detach()
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    weight = (weight / scale).round() * scale
    layer = kind(linear, "none")
    # Rounding moves each number of a row by at most half a step; 255 steps cover the row's range.
    step = (2 * x.abs().amax(dim=1, keepdim=True) / 255).clamp_min(1e-5)
    largest_error = 0.51 * step * weight.abs().sum(dim=1)
    expected = x @ weight.T + linear.bias.detach()
    assert ((layer(x) - expected).abs() <= largest_error).all()
    alone = torch.cat([layer(row[None]) for row in x[:9]])
    assert ((alone - expected[:9]).abs() <= largest_error[:9]).all()


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_int8_uses_amx_for_models_that_do_not_generate(kind: str, amx: bool):
    prepared = prepare_for_inference(network(kind, "gelu"), "int8")
    assert any(isinstance(part, TiledInt8Linear) for part in prepared.modules()) == (amx and kind == "bert")


@pytest.mark.parametrize("kind", ["bert", "gpt2", "transformer"])
def test_fp32_uses_the_layout_for_single_rows_on_amx_for_models_that_generate(kind: str, amx: bool):
    prepared = prepare_for_inference(network(kind, "gelu"), "fp32")
    assert any(isinstance(part, RowLinear) for part in prepared.modules()) == (amx and kind != "bert")


def test_int8_falls_back_to_fp32_on_a_processor_without_int8_instructions(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    plain = network("bert", "gelu")
    with torch.inference_mode():
        assert distance(prepare_for_inference(plain, "int8")(batch()), plain(batch())) < TOLERANCES["fp32"]


def test_an_unknown_precision_is_refused():
    with pytest.raises(HeadwayError, match="--precision int4: say fp32, bf16 or int8"):
        prepare_for_inference(network("bert", "gelu"), "int4")


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_appended_rows_do_not_change_the_outputs(kind: str, precision: str, monkeypatch):
    prepared = prepare_for_inference(network(kind, "gelu"), precision)
    with torch.inference_mode():
        padded = prepared(batch())  # 85 tokens: 128 rows
        monkeypatch.setattr(layers, "INFERENCE_MULTIPLE", 1)
        exact = prepared(batch())
    assert distance(padded, exact.float()) < TOLERANCES[precision]


def test_appended_rows_do_not_change_generated_texts(monkeypatch):
    prepared = prepare_for_inference(network("gpt2", "gelu_tanh"), "fp32")
    config = GenerationConfig(max_new_tokens=3)
    prompts = [[5, 6, 7] * 12, [8] * 33]  # 69 tokens at once
    padded = generate_ids(prepared, prompts, config)
    monkeypatch.setattr(layers, "INFERENCE_MULTIPLE", 1)
    assert [one[0].token_ids for one in padded] == [
        one[0].token_ids for one in generate_ids(prepared, prompts, config)
    ]


# Weights that are read and packed one by one


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
def test_weights_in_files_give_the_outputs_of_weights_in_memory(kind, precision, stored, tmp_path: Path):
    save_checkpoint(tmp_path, network(kind, "gelu"), dtype=stored)
    checkpoint = load_checkpoint(tmp_path, filled=False)
    assert all(parameter.is_meta for parameter in checkpoint.network.parameters())
    prepared = load_for_inference(checkpoint, precision, torch.device("cpu"))
    assert isinstance(prepared.backbone.token_embedding, MappedEmbedding)
    assert prepared.backbone.token_embedding.weight.dtype == stored
    with torch.inference_mode():
        expected = prepare_for_inference(load_checkpoint(tmp_path).network, precision)(batch())
        assert torch.equal(prepared(batch()), expected)
    if kind == "gpt2":
        (found,) = generate_ids(prepared, [[1, 2, 3]], GenerationConfig(max_new_tokens=4))
        (same,) = generate_ids(load_checkpoint(tmp_path).network, [[1, 2, 3]], GenerationConfig(max_new_tokens=4))
        assert precision != "fp32" or found[0].token_ids == same[0].token_ids


@pytest.mark.parametrize("change", ["replaced", "removed", "overwritten"])
def test_weights_of_a_file_that_changed_after_it_was_opened_are_refused(change, tmp_path: Path):
    save_checkpoint(tmp_path, network("bert", "gelu"))
    checkpoint = load_checkpoint(tmp_path, filled=False)
    path = tmp_path / "model.safetensors"
    content = path.read_bytes()
    if change == "overwritten":
        path.write_bytes(content + b" ")
    else:
        path.rename(tmp_path / "old")
        if change == "replaced":
            path.write_bytes(content)
    with pytest.raises(HeadwayError, match=r"model\.safetensors was replaced or removed .* Open the model again"):
        prepare_for_inference(checkpoint.network, "fp32", checkpoint.weights)


@pytest.mark.posix
def test_a_mapped_embedding_works_after_its_file_is_removed(tmp_path: Path):
    plain = network("bert", "gelu")
    save_checkpoint(tmp_path, plain)
    prepared = load_for_inference(load_checkpoint(tmp_path, filled=False), "fp32", torch.device("cpu"))
    (tmp_path / "model.safetensors").unlink()
    with torch.inference_mode():
        assert distance(prepared(batch()), plain(batch())) < TOLERANCES["fp32"]


PEAK = """
import resource, sys, torch
from pathlib import Path
from headway.core.checkpoints.checkpoint import load_checkpoint
from headway.core.cpu import use_huge_pages
from headway.core.inference.inference import load_for_inference
from headway.core.inference.linears import PackedLinear
from headway.core.models.packing import PackedBatch
from headway.core.models.transformer import Transformer, TransformerConfig
use_huge_pages()
PackedLinear(torch.nn.Linear(64, 64), "none", torch.float32)(torch.zeros(64, 64))  # starts the threads
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
prepared = load_for_inference(load_checkpoint(Path(sys.argv[1]), filled=False), sys.argv[2], torch.device("cpu"))
prepared(PackedBatch.pack([[1, 2, 3]]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The folder of a BERT of 58 million parameters, and their number."""
    folder = tmp_path_factory.mktemp("large")
    sizes = {"vocab_size": 20_000, "hidden_size": 768, "num_layers": 6, "num_heads": 12, "intermediate_size": 3072}
    network = Network(Bert(BertConfig(**sizes)))
    save_checkpoint(folder, network)
    return folder, sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.linux
@pytest.mark.parametrize(("precision", "size"), [("fp32", 4), ("bf16", 2), ("int8", 1)])
def test_preparing_a_model_takes_little_more_memory_than_its_packed_weights(precision, size, large):
    folder, count = large
    command = [sys.executable, "-c", PEAK, str(folder), precision]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1.3 * size * count
