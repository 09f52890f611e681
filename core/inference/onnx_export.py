"""Exports an encoder and its head as an ONNX file for runtimes in other languages and in browsers.

ONNX (https://onnx.ai) has no packed batches: a module with the same layers reads padded ones, with the inputs and
outputs of published exports. torch writes the file, and its outputs are compared with the model's before it is kept.

B batch, T tokens, n tokens of the longest sequence, C hidden, H heads, D head size.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import HeadwayError
from ..extras import is_installed, require
from ..models.bert import Bert, BertBlock, BertConfig, BertPooler, MaskedLMHead, PretrainingHead
from ..models.heads import Network, SequenceHead, SpanHead, TokenHead, reads_segments
from ..models.layers import SelfAttention
from ..models.packing import PackedBatch

OPSET = 18  # the oldest one that torch's exporter writes directly; LayerNormalization is a single operator in it
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
TOLERANCE = 1e-4  # absolute and relative, of the file's outputs
LENGTHS = (1, 5, 24, 13, 2)  # tokens of the sequences that the file is checked with
MAX_FILE_BYTES = 2**31 - 2**24  # of weights in one file: protobuf is limited to 2 GiB


@dataclass(frozen=True)
class VectorPooling:
    """How a sequence's vector is computed from those of its tokens, for padded and for packed batches."""

    padded: nn.Module  # (B, n, C) and the mask (B, n) -> (B, size of a vector)
    packed: Callable[[Tensor, PackedBatch], Tensor]  # (T, C) -> (B, size of a vector)


@dataclass(frozen=True)
class OnnxFile:
    """A written file."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opset: int
    checked_with: str  # the runtime that computed its outputs, with its version
    max_difference: float  # of its outputs from the model's


class PaddedBert(nn.Module):
    """BERT and its head for batches that are padded on the right.

    Args:
        network: the network whose layers it uses.
        pooling: compute sentence vectors instead of the head's outputs.
    """

    def __init__(self, network: Network, pooling: VectorPooling | None = None) -> None:
        super().__init__()
        assert isinstance(network.backbone, Bert)
        self.backbone = network.backbone
        self.head = pooling.padded if pooling else network.head
        self.pools = pooling is not None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs, as in published exports: without segments if the model does not read them."""
        return INPUTS if reads_segments(self.backbone.config) else INPUTS[:2]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, as in published exports."""
        if self.pools:
            return ("last_hidden_state", "sentence_embedding")
        match self.head:
            case None:
                return ("last_hidden_state",)
            case BertPooler():
                return ("last_hidden_state", "pooler_output")
            case SpanHead():
                return ("start_logits", "end_logits")
            case PretrainingHead():
                return ("prediction_logits", "seq_relationship_logits")
            case SequenceHead() | TokenHead() | MaskedLMHead():
                return ("logits",)
        raise ValueError(f"no padded form of {type(self.head).__name__}")

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Ids, a mask that is 1 for tokens and 0 for padding, and segment ids, (B, n) each -> the outputs."""
        bert = self.backbone
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        segments = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        x = bert.embed_ids(input_ids, positions, segments)
        bias = (1 - attention_mask[:, None, None].to(x.dtype)) * torch.finfo(x.dtype).min  # (B, 1, 1, n)
        for block in bert.blocks:
            assert isinstance(block, BertBlock)
            x = block.norm1(x + _attend(block.attn, x, bias))
            x = block.norm2(x + block.mlp(x))
        return self._apply_head(x, attention_mask)

    def _apply_head(self, hidden: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        head = self.head
        if self.pools and head is not None:
            return hidden, head(hidden, mask)
        match head:
            case BertPooler():
                return hidden, _pool_first(head, hidden).squeeze(1)
            case SequenceHead(pooler=BertPooler() as pooler):
                return (head.classifier(_pool_first(pooler, hidden)).squeeze(1),)
            case TokenHead():
                return (head.classifier(hidden),)
            case SpanHead():
                return head.classifier(hidden).unbind(-1)
            case MaskedLMHead():
                return (head(hidden),)
            case PretrainingHead():
                return head.masked_lm(hidden), head.next_sentence(_pool_first(head.pooler, hidden)).squeeze(1)
        return (hidden,)


def _attend(attention: SelfAttention, x: Tensor, bias: Tensor) -> Tensor:
    """Self-attention of padded sequences, (B, n, C) -> (B, n, C); `bias` is added to the scores."""
    q, k, v = (
        part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)  # (B, H, n, D)
        for part in attention.qkv(x).chunk(3, -1)
    )
    weights = (q @ k.transpose(-1, -2) * attention.scale + bias).softmax(-1)
    return attention.out((weights @ v).transpose(1, 2).flatten(-2))


def _pool_first(pooler: BertPooler, hidden: Tensor) -> Tensor:
    """(B, n, C) -> (B, 1, C). With two dimensions the linear layer is a Gemm, which onnxruntime cannot quantize."""
    return pooler.forward_at(hidden[:, :1])


def refuse_without_exporter() -> None:
    """Raises HeadwayError if a package that torch needs to write ONNX is missing."""
    require("onnx", "Writing ONNX")


def write_onnx(network: Network, path: Path, pooling: VectorPooling | None = None) -> OnnxFile:
    """Writes a network as an ONNX file, runs the file once and compares its outputs with the network's.

    Batch size and length are free, up to the model's number of positions. More than 2 GB of weights go into a separate
    file, NAME.data.

    Args:
        network: with an encoder, on the CPU, in eval mode.
        path: the new file, usually in a temporary folder.
        pooling: output the vectors of tokens and of sequences instead of the head's outputs.

    Raises:
        HeadwayError: a package is missing, or the file's outputs differ from the network's.
    """
    refuse_without_exporter()
    module = PaddedBert(network, pooling).eval()
    batch, padded = random_inputs(module.backbone.config)
    given = dict(zip(module.inputs, padded, strict=False))
    write_graph(module, tuple(given.values()), path)
    with torch.inference_mode():
        expected = expected_outputs(network, batch, pooling)
    checked_with, found = run_onnx(path, given, module.outputs)
    max_difference = 0.0
    for name, ours in expected.items():
        theirs = as_packed(found[name], ours, batch)
        max_difference = max(max_difference, float((ours - theirs).abs().max()))
        if not torch.allclose(theirs, ours, rtol=TOLERANCE, atol=TOLERANCE):
            raise HeadwayError(
                f"The exported model is wrong: {checked_with} computes {name} up to {max_difference:.1e} away "
                "from the model's. Nothing was written. Update torch, onnxscript and onnxruntime."
            )
    return OnnxFile(module.inputs, module.outputs, OPSET, checked_with, max_difference)


def write_graph(module: PaddedBert, inputs: tuple[Tensor, ...], path: Path) -> None:
    """Writes the graph of a module, without any trace of the machine it was made on."""
    size = sum(parameter.nbytes for parameter in module.parameters())
    shape = {0: torch.export.Dim("batch_size"), 1: torch.export.Dim("sequence_length")}
    with _quiet(), torch.inference_mode():
        program = torch.onnx.export(
            module,
            inputs,
            input_names=module.inputs,
            output_names=module.outputs,
            dynamic_shapes=dict.fromkeys(module.inputs, shape),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        graph = program.model.graph
        for part in (program.model, graph, *graph, *graph.inputs, *graph.outputs, *graph.initializers.values()):
            part.metadata_props.clear()  # they name source files with their folders
        program.save(path, external_data=size > MAX_FILE_BYTES)


def expected_outputs(network: Network, batch: PackedBatch, pooling: VectorPooling | None = None) -> dict[str, Tensor]:
    """The network's outputs by their names in the file: a row per token (T, ...) or per sequence (B, ...)."""
    hidden = network.backbone(batch)
    if pooling is not None:
        return {"last_hidden_state": hidden, "sentence_embedding": pooling.packed(hidden, batch)}
    if network.head is None:
        return {"last_hidden_state": hidden}
    outputs = network.head(hidden, batch)
    match network.head:
        case BertPooler():
            return {"last_hidden_state": hidden, "pooler_output": outputs}
        case SpanHead():
            return {"start_logits": outputs[:, 0], "end_logits": outputs[:, 1]}
        case PretrainingHead():
            return {"prediction_logits": outputs[0], "seq_relationship_logits": outputs[1]}
    return {"logits": outputs}


def random_inputs(config: BertConfig, lengths: Sequence[int] = LENGTHS) -> tuple[PackedBatch, tuple[Tensor, ...]]:
    """Random sequences of up to `config.max_positions` tokens, as a packed batch and as the file's inputs."""
    generator = torch.Generator().manual_seed(0)
    lengths = [min(length, config.max_positions) for length in lengths]
    ids = [torch.randint(config.vocab_size, (length,), generator=generator) for length in lengths]
    segments = [torch.arange(length) * config.num_segments // length for length in lengths]
    batch = PackedBatch.pack([one.tolist() for one in ids], [one.tolist() for one in segments])
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return batch, (_pad(ids), mask, _pad(segments))


def _pad(sequences: list[Tensor]) -> Tensor:
    """Sequences -> (B, n), zeros on the right."""
    return nn.utils.rnn.pad_sequence(sequences, batch_first=True)


def as_packed(found: Tensor, like: Tensor, batch: PackedBatch) -> Tensor:
    """Brings an output of the file to the shape of the network's: (B, n, ...) -> (T, ...), (B, ...) unchanged."""
    if found.shape == like.shape:
        return found
    return torch.cat([row[:length] for row, length in zip(found, batch.lengths, strict=True)])


def run_onnx(path: Path, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> tuple[str, dict[str, Tensor]]:
    """The outputs of a file by onnxruntime, or by onnx's slow reference without it; the runtime's name comes first."""
    given = {name: tensor.numpy() for name, tensor in inputs.items()}
    if is_installed("onnxruntime"):
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        runtime, found = f"onnxruntime {onnxruntime.__version__}", session.run(list(outputs), given)
    else:
        import onnx
        from onnx.reference import ReferenceEvaluator

        runtime = f"the reference evaluator of onnx {onnx.__version__}"
        found = ReferenceEvaluator(str(path)).run(list(outputs), given)
    return runtime, {name: torch.tensor(value) for name, value in zip(outputs, found, strict=True)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences torch's exporter, whose messages are for developers of exporters."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
