"""Models readied for inference: the same outputs, faster, and the model they were made from untouched."""

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
from headway.core.inference.inference import (
    Int8Linear,
    MappedEmbedding,
    PackedLinear,
    RowLinear,
    TiledInt8Linear,
    load_for_inference,
    prepare_for_inference,
)
from headway.core.models import layers
from headway.core.models.bert import Bert, BertConfig
from headway.core.models.gpt2 import GPT2, GPT2Config
from headway.core.models.heads import Network, SequenceHead, language_model_head
from headway.core.models.packing import PackedBatch

SIZES = {"vocab_size": 60, "hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}


def network(kind: str, activation: str) -> Network:
    torch.manual_seed(0)
    if kind == "bert":
        backbone = Bert(BertConfig(**SIZES, max_positions=40, activation=activation))
        return Network(backbone, SequenceHead(backbone.config, 3)).eval()
    backbone = GPT2(GPT2Config(**SIZES, max_positions=40, activation=activation))
    return Network(backbone, language_model_head(backbone)).eval()


@pytest.fixture(params=[False, True], ids=["without tiles", "with tiles"])
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """The processor is taken for one with or without AMX; the other's ways work on it as well, only slower."""
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: request.param)
    return request.param


def batch() -> PackedBatch:
    draw = torch.Generator().manual_seed(1)
    return PackedBatch.pack([torch.randint(60, (n,), generator=draw).tolist() for n in (1, 7, 7, 30, 40)])


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu", "silu"])
@pytest.mark.parametrize(("precision", "apart"), [("fp32", 1e-5), ("bf16", 0.05), ("int8", 0.1)])
@pytest.mark.usefixtures("tiles")
def test_the_outputs_are_those_of_the_plain_network(kind: str, activation: str, precision: str, apart: float):
    plain = network(kind, activation)
    with torch.inference_mode():
        expected = plain(batch())
        found = prepare_for_inference(plain, precision)(batch())
    torch.testing.assert_close(found.float(), expected, atol=apart, rtol=apart)


def test_the_plain_network_stays_as_it_was():
    plain = network("bert", "gelu")
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    made = prepare_for_inference(plain, "bf16")
    assert all(torch.equal(tensor, before[name]) for name, tensor in plain.state_dict().items())
    assert not any(isinstance(part, PackedLinear) for part in plain.modules())
    assert any(isinstance(part, PackedLinear) for part in made.modules())
    assert made.backbone.token_embedding.weight is plain.backbone.token_embedding.weight, "not held twice"
    plain(batch()).sum().backward()  # and can still be trained


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_a_readied_gpt2_generates(precision: str):
    made = prepare_for_inference(network("gpt2", "gelu_tanh"), precision)
    config = GenerationConfig(max_new_tokens=6)
    together = generate_ids(made, [[1, 2, 3], [4]], config)
    alone = [generate_ids(made, [prompt], config)[0] for prompt in ([1, 2, 3], [4])]
    assert [one[0].token_ids for one in together] == [one[0].token_ids for one in alone]
    assert isinstance(made.backbone, GPT2)


@pytest.mark.parametrize("kind", [Int8Linear, TiledInt8Linear, partial(PackedLinear, dtype=torch.float32)])
def test_no_rows_are_no_matter(kind: Callable[..., torch.nn.Module]):
    assert kind(torch.nn.Linear(8, 4), "gelu")(torch.zeros(0, 8)).shape == (0, 4)


@pytest.mark.parametrize("kind", [Int8Linear, TiledInt8Linear])
def test_int8_is_the_product_of_rounded_weights_and_rows(kind: Callable[..., torch.nn.Module]):
    torch.manual_seed(0)
    linear = torch.nn.Linear(32, 48)
    x = torch.randn(1100, 32)  # more rows than are computed at once
    x[3] *= 1000  # whose scale is no other row's
    x[4] = 0

    weight = linear.weight.detach()
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    weight = (weight / scale).round() * scale
    layer = kind(linear, "none")
    # Each number of a row is off by half a step at most, of 255 that its row's smallest and largest are apart.
    step = (2 * x.abs().amax(dim=1, keepdim=True) / 255).clamp_min(1e-5)
    most = 0.51 * step * weight.abs().sum(dim=1)
    expected = x @ weight.T + linear.bias.detach()
    assert ((layer(x) - expected).abs() <= most).all()
    alone = torch.cat([layer(row[None]) for row in x[:9]])
    assert ((alone - expected[:9]).abs() <= most[:9]).all()


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_tiles_serve_many_rows_and_no_single_ones(kind: str, tiles: bool):
    made = prepare_for_inference(network(kind, "gelu"), "int8")
    assert any(isinstance(part, TiledInt8Linear) for part in made.modules()) == (tiles and kind == "bert")


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_single_rows_have_a_layout_of_their_own_where_it_is_faster(kind: str, tiles: bool):
    made = prepare_for_inference(network(kind, "gelu"), "fp32")
    assert any(isinstance(part, RowLinear) for part in made.modules()) == (tiles and kind == "gpt2")


def test_int8_without_its_instructions_computes_in_fp32(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    plain = network("bert", "gelu")
    with torch.inference_mode():
        torch.testing.assert_close(prepare_for_inference(plain, "int8")(batch()), plain(batch()), atol=1e-5, rtol=1e-5)


def test_a_precision_that_is_none_is_refused():
    with pytest.raises(HeadwayError, match="--precision int4: say fp32, bf16 or int8"):
        prepare_for_inference(network("bert", "gelu"), "int4")


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_rows_that_are_added_for_the_kernels_change_nothing(kind: str, precision: str, monkeypatch):
    made = prepare_for_inference(network(kind, "gelu"), precision)
    with torch.inference_mode():
        padded = made(batch())  # 85 tokens: 128 rows
        monkeypatch.setattr(layers, "INFERENCE_MULTIPLE", 1)
        exact = made(batch())
    assert padded.shape == exact.shape
    torch.testing.assert_close(padded, exact, atol=1e-5 if precision == "fp32" else 0.05, rtol=1e-3)


def test_a_long_prompt_is_read_as_without_added_rows(monkeypatch):
    made = prepare_for_inference(network("gpt2", "gelu_tanh"), "fp32")
    config = GenerationConfig(max_new_tokens=3)
    prompts = [[5, 6, 7] * 12, [8] * 33]  # 69 tokens at once
    padded = generate_ids(made, prompts, config)
    monkeypatch.setattr(layers, "INFERENCE_MULTIPLE", 1)
    assert [one[0].token_ids for one in padded] == [one[0].token_ids for one in generate_ids(made, prompts, config)]


# Weights that are read while they are packed.


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
def test_weights_in_their_files_give_what_weights_in_memory_give(kind, precision, stored, tmp_path: Path):
    save_checkpoint(tmp_path, network(kind, "gelu"), dtype=stored)
    checkpoint = load_checkpoint(tmp_path, filled=False)
    assert all(parameter.is_meta for parameter in checkpoint.network.parameters())
    made = load_for_inference(checkpoint, precision, torch.device("cpu"))
    assert isinstance(made.backbone.token_embedding, MappedEmbedding)
    assert made.backbone.token_embedding.weight.dtype == stored
    with torch.inference_mode():
        expected = prepare_for_inference(load_checkpoint(tmp_path).network, precision)(batch())
        assert torch.equal(made(batch()), expected)
    if kind == "gpt2":
        (found,) = generate_ids(made, [[1, 2, 3]], GenerationConfig(max_new_tokens=4))
        (same,) = generate_ids(load_checkpoint(tmp_path).network, [[1, 2, 3]], GenerationConfig(max_new_tokens=4))
        assert precision != "fp32" or found[0].token_ids == same[0].token_ids


@pytest.mark.parametrize("change", ["replaced", "removed", "written over"])
def test_weights_of_another_file_are_never_mixed_in(change, tmp_path: Path):
    save_checkpoint(tmp_path, network("bert", "gelu"))
    checkpoint = load_checkpoint(tmp_path, filled=False)
    path = tmp_path / "model.safetensors"
    content = path.read_bytes()
    if change == "written over":
        path.write_bytes(content + b" ")
    else:
        path.rename(tmp_path / "old")
        if change == "replaced":
            path.write_bytes(content)
    with pytest.raises(HeadwayError, match=r"model\.safetensors was replaced or removed .* Open the model again"):
        prepare_for_inference(checkpoint.network, "fp32", checkpoint.weights)


def test_a_table_that_was_mapped_outlives_its_files_name(tmp_path: Path):
    plain = network("bert", "gelu")
    save_checkpoint(tmp_path, plain)
    made = load_for_inference(load_checkpoint(tmp_path, filled=False), "fp32", torch.device("cpu"))
    (tmp_path / "model.safetensors").unlink()
    with torch.inference_mode():
        torch.testing.assert_close(made(batch()), plain(batch()), atol=1e-5, rtol=1e-5)


PEAK = """
import resource, sys, torch
from pathlib import Path
from headway.core.checkpoints.checkpoint import load_checkpoint
from headway.core.inference.inference import PackedLinear, load_for_inference
from headway.core.models.packing import PackedBatch
PackedLinear(torch.nn.Linear(64, 64), "none", torch.float32)(torch.zeros(64, 64))  # starts the threads
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
made = load_for_inference(load_checkpoint(Path(sys.argv[1]), filled=False), sys.argv[2], torch.device("cpu"))
made(PackedBatch.pack([[1, 2, 3]]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The folder of a BERT of 58 million parameters, and their number."""
    folder = tmp_path_factory.mktemp("large")
    sizes = {"vocab_size": 20_000, "hidden_size": 768, "num_layers": 6, "num_heads": 12, "intermediate_size": 3072}
    made = Network(Bert(BertConfig(**sizes)))
    save_checkpoint(folder, made)
    return folder, sum(parameter.numel() for parameter in made.parameters())


@pytest.mark.parametrize(("precision", "size"), [("fp32", 4), ("bf16", 2), ("int8", 1)])
def test_a_model_is_readied_in_little_more_memory_than_its_packed_weights_take(precision, size, large):
    folder, count = large
    command = [sys.executable, "-c", PEAK, str(folder), precision]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1.3 * size * count
