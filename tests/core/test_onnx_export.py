"""ONNX files give the outputs of the packed model, for every head, with mixed lengths and padding."""

import logging
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from headway.core.errors import HeadwayError
from headway.core.inference import onnx_export
from headway.core.inference.onnx_export import (
    INPUTS,
    OPSET,
    PaddedBert,
    as_packed,
    expected_outputs,
    random_inputs,
    run_onnx,
    write_onnx,
)
from headway.core.models.bert import Bert, BertConfig, BertPooler
from headway.core.models.heads import Network, SequenceHead, SpanHead, TokenHead, language_model_head
from parity import stir

CONFIG = BertConfig(
    vocab_size=60, hidden_size=32, num_layers=1, num_heads=2, intermediate_size=64, max_positions=40, norm_eps=1e-6
)
HEADS = {
    "bare": (lambda _: None, ("last_hidden_state",)),
    "pooler": (lambda b: BertPooler(b.config), ("last_hidden_state", "pooler_output")),
    "sequence": (lambda b: SequenceHead(b.config, 3), ("logits",)),
    "one number": (lambda b: SequenceHead(b.config, 1), ("logits",)),
    "token": (lambda b: TokenHead(b.config, 5), ("logits",)),
    "span": (lambda b: SpanHead(b.config), ("start_logits", "end_logits")),
    "masked words": (language_model_head, ("logits",)),
    "pretraining": (lambda b: language_model_head(b, True), ("prediction_logits", "seq_relationship_logits")),
}
OTHER_SHAPES = [(1,), (40, 1, 17), (3, 3)]


def network(head: str, config: BertConfig = CONFIG) -> Network:
    torch.manual_seed(0)
    backbone = Bert(config)
    return stir(Network(backbone, HEADS[head][0](backbone)))


def assert_same(found: dict[str, torch.Tensor], plain: Network, lengths: tuple[int, ...]) -> None:
    batch, _ = random_inputs(CONFIG, lengths)
    with torch.inference_mode():
        expected = expected_outputs(plain, batch)
    assert found.keys() == expected.keys()
    for name, ours in expected.items():
        torch.testing.assert_close(as_packed(found[name], ours, batch), ours, atol=1e-4, rtol=1e-4)


def assert_file_same(path: Path, plain: Network, outputs: tuple[str, ...]) -> None:
    for lengths in OTHER_SHAPES:
        _, padded = random_inputs(CONFIG, lengths)
        _, found = run_onnx(path, dict(zip(INPUTS, padded, strict=True)), outputs)
        assert_same(found, plain, lengths)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a pretraining head: it has every kind of output."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(network("pretraining"), path)
    return path


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("lengths", OTHER_SHAPES)
def test_the_padded_model_gives_the_outputs_of_the_packed_one(head: str, lengths: tuple[int, ...]):
    plain, outputs = network(head), HEADS[head][1]
    module = PaddedBert(plain).eval()
    _, padded = random_inputs(CONFIG, lengths)
    with torch.inference_mode():
        found = module(*padded)
    assert module.outputs == outputs
    assert_same(dict(zip(outputs, found, strict=True)), plain, lengths)


@pytest.mark.parametrize("activation", ["gelu_tanh", "relu", "silu"])
def test_every_activation_works_in_the_padded_model(activation: str):
    plain = network("token", replace(CONFIG, activation=activation))
    _, padded = random_inputs(CONFIG, (7, 3))
    with torch.inference_mode():
        assert_same({"logits": PaddedBert(plain)(*padded)[0]}, plain, (7, 3))


def test_padding_does_not_change_the_outputs():
    module = PaddedBert(network("sequence")).eval()
    _, (ids, mask, kinds) = random_inputs(CONFIG, (9, 4))
    with torch.inference_mode():
        (expected,) = module(ids, mask, kinds)
        (found,) = module(torch.where(mask == 1, ids, 59), mask, torch.where(mask == 1, kinds, 1))
    torch.testing.assert_close(found, expected)


def test_the_file_gives_the_outputs_of_the_model_at_other_sizes(written: Path):
    assert_file_same(written, network("pretraining"), HEADS["pretraining"][1])


def test_the_file_declares_its_inputs_and_outputs(written: Path):
    model = onnx.load(written)
    onnx.checker.check_model(model)
    shapes = {
        one.name: [axis.dim_param or axis.dim_value for axis in one.type.tensor_type.shape.dim]
        for one in (*model.graph.input, *model.graph.output)
    }
    free = ["batch_size", "sequence_length"]
    assert shapes == {
        **dict.fromkeys(INPUTS, free),
        "prediction_logits": [*free, 60],
        "seq_relationship_logits": ["batch_size", 2],
    }
    assert [(one.domain, one.version) for one in model.opset_import] == [("", OPSET)]


def test_the_file_has_no_trace_of_the_machine_it_was_made_on(written: Path):
    content = written.read_bytes()
    assert not any(part in content for part in (b".py", b"forward", b"stack_trace", str(Path.home()).encode()))


def test_without_onnxruntime_the_reference_evaluator_runs_the_file(written: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    _, padded = random_inputs(CONFIG, (6, 2))
    outputs = HEADS["pretraining"][1]
    ran_by, found = run_onnx(written, dict(zip(INPUTS, padded, strict=True)), outputs)
    assert ran_by.startswith("the reference evaluator of onnx")
    assert_same(found, network("pretraining"), (6, 2))


@pytest.mark.parametrize("name", ["onnx", "onnxscript"])
def test_a_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(HeadwayError, match=rf'needs the package {name}, .*pip install "headway\[onnx\]"'):
        write_onnx(network("bare"), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_file_with_other_outputs_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(onnx_export, "write_graph", lambda *_: None)
    _, padded = random_inputs(CONFIG)
    wrong = PaddedBert(network("token"))(*padded)[0].detach() + 0.01
    monkeypatch.setattr(onnx_export, "run_onnx", lambda *_: ("a runtime", {"logits": wrong}))
    with pytest.raises(HeadwayError, match=r"a runtime computes logits up to 1\.0e-02 away from the model's"):
        write_onnx(network("token"), tmp_path / "model.onnx")


def test_the_log_level_of_the_exporter_is_restored(written: Path):
    assert logging.getLogger("torch.onnx").level == logging.NOTSET


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_the_file_of_every_head_gives_the_outputs_of_the_model(head: str, tmp_path: Path):
    plain = network(head)
    file = write_onnx(plain, tmp_path / "model.onnx")
    assert file.outputs == HEADS[head][1]
    assert file.checked_with.startswith("onnxruntime")
    assert file.max_difference < 1e-4
    assert_file_same(tmp_path / "model.onnx", plain, file.outputs)


@pytest.mark.slow
def test_a_tied_matrix_is_stored_once(tmp_path: Path):
    plain = network("masked words", replace(CONFIG, vocab_size=20_000))
    write_onnx(plain, tmp_path / "model.onnx")
    weights = sum(parameter.nbytes for parameter in plain.parameters())
    assert weights < (tmp_path / "model.onnx").stat().st_size < 1.1 * weights


@pytest.mark.slow
def test_shared_layers_are_stored_once(tmp_path: Path):
    sizes = {"hidden_size": 128, "intermediate_size": 512, "embedding_size": 64, "num_layers": 4}
    plain = network("pretraining", replace(CONFIG, share_layers=True, **sizes))
    file = write_onnx(plain, tmp_path / "model.onnx")
    assert file.max_difference < 1e-4
    weights = sum(parameter.nbytes for parameter in plain.parameters())
    assert weights < (tmp_path / "model.onnx").stat().st_size < 1.2 * weights


@pytest.mark.slow
def test_large_weights_are_stored_in_a_second_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnx_export, "MAX_FILE_BYTES", 1000)
    write_onnx(network("token"), tmp_path / "model.onnx")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert_file_same(tmp_path / "model.onnx", network("token"), ("logits",))


@pytest.mark.slow
@pytest.mark.parametrize("head", ["sequence", "pretraining"])
def test_onnxruntime_quantizes_the_file(head: str, tmp_path: Path):
    from onnxruntime.quantization import quantize_dynamic

    whole, small = tmp_path / "model.onnx", tmp_path / "small.onnx"
    file = write_onnx(network(head), whole)
    quantize_dynamic(whole, small)
    _, padded = random_inputs(CONFIG)
    given = dict(zip(INPUTS, padded, strict=True))
    expected, found = (run_onnx(path, given, file.outputs)[1] for path in (whole, small))
    for name in file.outputs:
        inside = padded[1] == 1 if found[name].shape[:2] == padded[1].shape else slice(None)
        assert torch.corrcoef(torch.stack([expected[name][inside].ravel(), found[name][inside].ravel()]))[0, 1] > 0.98
