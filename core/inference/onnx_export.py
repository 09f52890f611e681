"""A BERT with its head as an ONNX file, which runtimes in other languages and in browsers read.

ONNX (https://onnx.ai) knows no packed batches: here the same layers stand in a module that reads padded ones, with the
inputs and outputs that published exports have. torch writes the file, and the outputs that the file gives are held
against those of the model itself before anybody sees it.

Shapes: B sequences, n tokens of the longest of them, T tokens in all, C hidden size, H heads, D head size, V
vocabulary, L labels.
"""

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import HeadwayError
from ..models.bert import Bert, BertBlock, BertConfig, BertPooler, MaskedLMHead, PretrainingHead
from ..models.heads import Network, SequenceHead, SpanHead, TokenHead
from ..models.layers import SelfAttention
from ..models.packing import PackedBatch

OPSET = 18  # the oldest that torch's exporter writes by itself: LayerNormalization is one operator in it
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
EXTRA = "pip install 'headway[onnx]'"
APART = 1e-4  # that the file's outputs may be from the model's own, absolutely and relatively
LENGTHS = (1, 5, 24, 13, 2)  # tokens of the sequences that this is tried with
LARGEST = 2**31 - 2**24  # bytes of weights in one file: protobuf ends at 2 GiB


@dataclass(frozen=True)
class Vectors:
    """How a sequence's vector is made of its tokens', for padded batches and for packed ones."""

    padded: nn.Module  # (B, n, C) and the mask (B, n) -> (B, D)
    packed: Callable[[Tensor, PackedBatch], Tensor]  # (T, C) -> (B, D)


@dataclass(frozen=True)
class OnnxFile:
    """What was written."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opset: int
    checked_with: str  # what ran the file, with its version
    apart: float  # the largest difference from the model's own outputs


class PaddedBert(nn.Module):
    """BERT and its head over batches that are padded on the right.

    Args:
        network: whose layers it takes.
        vectors: make sentence vectors, whatever the head.
    """

    def __init__(self, network: Network, vectors: Vectors | None = None) -> None:
        super().__init__()
        assert isinstance(network.backbone, Bert)
        self.backbone = network.backbone
        self.head = vectors.padded if vectors else network.head
        self.pools = vectors is not None

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what it gives, as published exports have them."""
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

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, ...]:
        """Ids, a mask that is 1 for tokens and 0 for padding, and segment ids, (B, n) each -> the outputs."""
        bert = self.backbone
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = bert.token_embedding(input_ids) + bert.position_embedding(positions)
        x = bert.embedding_norm(x + bert.segment_embedding(token_type_ids))
        nowhere = (1 - attention_mask[:, None, None].to(x.dtype)) * torch.finfo(x.dtype).min  # (B, 1, 1, n)
        for block in bert.blocks:
            assert isinstance(block, BertBlock)
            x = block.norm1(x + _attend(block.attn, x, nowhere))
            x = block.norm2(x + block.mlp(x))
        return self._answer(x, attention_mask)

    def _answer(self, hidden: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        head = self.head
        if self.pools and head is not None:
            return hidden, head(hidden, mask)
        match head:
            case BertPooler():
                return hidden, _summary(head, hidden).squeeze(1)
            case SequenceHead(pooler=BertPooler() as pooler):
                return (head.classifier(_summary(pooler, hidden)).squeeze(1),)
            case TokenHead():
                return (head.classifier(hidden),)
            case SpanHead():
                return head.classifier(hidden).unbind(-1)
            case MaskedLMHead():
                return (head(hidden),)
            case PretrainingHead():
                return head.masked_lm(hidden), head.next_sentence(_summary(head.pooler, hidden)).squeeze(1)
        return (hidden,)


def _attend(attention: SelfAttention, x: Tensor, nowhere: Tensor) -> Tensor:
    """Self-attention of padded sequences, (B, n, C) -> (B, n, C); `nowhere` is added to the scores."""
    q, k, v = (
        part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)  # (B, H, n, D)
        for part in attention.qkv(x).chunk(3, -1)
    )
    weights = (q @ k.transpose(-1, -2) * attention.scale + nowhere).softmax(-1)
    return attention.out((weights @ v).transpose(1, 2).flatten(-2))


def _summary(pooler: BertPooler, hidden: Tensor) -> Tensor:
    """(B, n, C) -> (B, 1, C): with two dimensions a linear layer is a Gemm, on which onnxruntime's quantiser fails."""
    return torch.tanh(pooler.dense(hidden[:, :1]))


def refuse_without_exporter() -> None:
    """Raises HeadwayError if the packages that torch needs for writing ONNX are missing."""
    for name in ("onnx", "onnxscript"):
        if importlib.util.find_spec(name) is None:
            raise HeadwayError(f"Writing ONNX needs the package {name}, which is not installed: {EXTRA}")


def write_onnx(network: Network, path: Path, vectors: Vectors | None = None) -> OnnxFile:
    """Writes a network as an ONNX file and runs it once: what it gives must be what the network gives.

    Batch size and length are free, up to the positions that the model has. More than 2 GB of weights go into a file
    of their own beside it, NAME.data.

    Args:
        network: a BERT on the CPU, in eval mode.
        path: of the new file, usually in a temporary folder.
        vectors: give the tokens' and the sequences' vectors, whatever the head.

    Raises:
        HeadwayError: a package is missing, or the file gives other numbers than the network.
    """
    refuse_without_exporter()
    module = PaddedBert(network, vectors).eval()
    batch, padded = samples(module.backbone.config)
    write_graph(module, padded, path)
    with torch.inference_mode():
        expected = expected_outputs(network, batch, vectors)
    checked_with, found = run_onnx(path, dict(zip(INPUTS, padded, strict=True)), module.outputs)
    apart = 0.0
    for name, ours in expected.items():
        theirs = as_packed(found[name], ours, batch)
        apart = max(apart, float((ours - theirs).abs().max()))
        if not torch.allclose(theirs, ours, rtol=APART, atol=APART):
            raise HeadwayError(
                f"The exported model is wrong: {checked_with} computes {name} up to {apart:.1e} away from the model "
                "itself. Nothing was written. Update torch, onnxscript and onnxruntime."
            )
    return OnnxFile(INPUTS, module.outputs, OPSET, checked_with, apart)


def write_graph(module: PaddedBert, inputs: tuple[Tensor, ...], path: Path) -> None:
    """Writes the graph that torch draws of a module, with nothing in it of the machine where that was done."""
    size = sum(parameter.nbytes for parameter in module.parameters())
    shape = {0: torch.export.Dim("batch_size"), 1: torch.export.Dim("sequence_length")}
    with _quiet(), torch.inference_mode():
        program = torch.onnx.export(
            module,
            inputs,
            input_names=INPUTS,
            output_names=module.outputs,
            dynamic_shapes=dict.fromkeys(INPUTS, shape),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        graph = program.model.graph
        for part in (program.model, graph, *graph, *graph.inputs, *graph.outputs, *graph.initializers.values()):
            part.metadata_props.clear()  # else lines of source code and the folders that they are in
        program.save(path, external_data=size > LARGEST)


def expected_outputs(network: Network, batch: PackedBatch, vectors: Vectors | None = None) -> dict[str, Tensor]:
    """What the network itself gives, by the names of the file: a row for each token (T, ...) or sequence (B, ...)."""
    hidden = network.backbone(batch)
    if vectors is not None:
        return {"last_hidden_state": hidden, "sentence_embedding": vectors.packed(hidden, batch)}
    if network.head is None:
        return {"last_hidden_state": hidden}
    answer = network.head(hidden, batch)
    match network.head:
        case BertPooler():
            return {"last_hidden_state": hidden, "pooler_output": answer}
        case SpanHead():
            return {"start_logits": answer[:, 0], "end_logits": answer[:, 1]}
        case PretrainingHead():
            return {"prediction_logits": answer[0], "seq_relationship_logits": answer[1]}
    return {"logits": answer}


def samples(config: BertConfig, lengths: Sequence[int] = LENGTHS) -> tuple[PackedBatch, tuple[Tensor, ...]]:
    """Random sequences, packed and as the file reads them; none is longer than the model's positions."""
    draw = torch.Generator().manual_seed(0)
    lengths = [min(length, config.max_positions) for length in lengths]
    ids = [torch.randint(config.vocab_size, (length,), generator=draw) for length in lengths]
    segments = [torch.arange(length) * config.num_segments // length for length in lengths]
    batch = PackedBatch.pack([one.tolist() for one in ids], [one.tolist() for one in segments])
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return batch, (_pad(ids), mask, _pad(segments))


def _pad(sequences: list[Tensor]) -> Tensor:
    """(B, n), zeros on the right."""
    return nn.utils.rnn.pad_sequence(sequences, batch_first=True)


def as_packed(found: Tensor, like: Tensor, batch: PackedBatch) -> Tensor:
    """An output of the file as the network gives it: (B, n, ...) -> (T, ...), or (B, ...) as it is."""
    if found.shape == like.shape:
        return found
    return torch.cat([row[:length] for row, length in zip(found, batch.lengths, strict=True)])


def run_onnx(path: Path, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> tuple[str, dict[str, Tensor]]:
    """What runs a file, and the outputs that it gives: onnxruntime, or the slow reference of onnx without it."""
    given = {name: tensor.numpy() for name, tensor in inputs.items()}
    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        with_what, found = f"onnxruntime {onnxruntime.__version__}", session.run(list(outputs), given)
    else:
        import onnx
        from onnx.reference import ReferenceEvaluator

        with_what = f"the reference evaluator of onnx {onnx.__version__}"
        found = ReferenceEvaluator(str(path)).run(list(outputs), given)
    return with_what, {name: torch.tensor(value) for name, value in zip(outputs, found, strict=True)}


@contextmanager
def _quiet() -> Iterator[None]:
    """What torch's exporter says of itself is for those who write exporters."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
