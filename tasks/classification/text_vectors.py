"""The vectors of texts that a classifier on frozen features reads, and which of them is the best.

Either `[CLS]` represents a text (GPT-2: its last token), or the mean of the tokens' vectors in one of the last layers,
which an additional layer computes (core/models/mean_block.py). The folder of a sentence encoder says which; for
another BERT cross-validation chooses.

The published BERT head reads `[CLS]` through a pooler, tanh(W x + b). A pretrained pooler loses information about
other tasks, so W and b are replaced: they scale the components of the vector to mean 0 and to a range in which tanh
is nearly linear, and the pooler passes the vector on. A pooler with ReLU (DistilBERT) or GELU (ELECTRA) passes on
positive numbers: their mean is 4 standard deviations. GPT-2's head reads the last token, without pooler and bias.

Shapes: E examples, B sequences, C hidden size, S kinds of vectors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ...core.errors import HeadwayError
from ...core.inference.inference import prepare_for_inference
from ...core.models.bert import Bert, BertPooler
from ...core.models.heads import Network, SequenceHead
from ...core.models.layers import ACTIVATIONS
from ...core.models.mean_block import can_average, with_mean_block
from ...core.models.packing import BatchSampler, PackedBatch
from ...core.training.distributed import gather_in_order, shard
from ..data.features import INFERENCE_BATCH_TOKENS, Features, pack
from ..embedding.pooling import Pooling
from .few_labels import CLS, MEAN
from .logistic_regression import Problem, Vectors, component_scale, leave_one_out_error

if TYPE_CHECKING:
    from .classification import TextClassification


POOLER_STD = 0.1  # standard deviation of the pooler's input to tanh, which is linear there within a third of a percent
POSITIVE_MEAN = 4.0  # mean of the pooler's input to another activation, in standard deviations of 1
LAST_LAYERS = 4  # whose means are compared (Devlin et al. 2019, section 5.3)
ROWS_TO_CHOOSE = 1000  # are enough to compare kinds of vectors
MIN_ROWS_TO_CHOOSE = 16


@dataclass(frozen=True)
class Sequences:
    """The different sequences of examples.

    Args:
        features: one for each different sequence.
        of_examples: the indices of each example's sequences; equal texts have the same.
    """

    features: list[Features]
    of_examples: list[tuple[int, ...]]

    @classmethod
    def of(cls, windows_by_example: Sequence[list[Features]]) -> "Sequences":
        """Those of the windows of each example."""
        indices: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
        found = cls([], [])
        for windows in windows_by_example:
            keys = [(tuple(one.input_ids), tuple(one.segment_ids)) for one in windows]
            for key, one in zip(keys, windows, strict=True):
                if key not in indices:
                    indices[key] = len(found.features)
                    found.features.append(one)
            found.of_examples.append(tuple(indices[key] for key in keys))
        return found

    def average(self, vectors: Vectors) -> Vectors:
        """The mean of the vectors of each example's sequences, (B, C) -> (E, C)."""
        return np.stack([vectors[list(indices)].mean(0) for indices in self.of_examples]).astype(np.float64)


def choose_pooling(
    task: "TextClassification", network: Network, windows_by_example: Sequence[list[Features]], problem: Problem
) -> tuple[int | None, str]:
    """The layer whose mean represents a text, None for `[CLS]`, and a sentence about the choice.

    Args:
        task: its `pooling` may be given.
        network: with a SequenceHead; it stays unchanged.
        windows_by_example: of the training rows.
        problem: their targets.

    Raises:
        HeadwayError: the mean is asked for, and the model cannot compute it.
    """
    backbone = network.backbone
    if not can_average(backbone) or task.pooling == CLS:
        if task.pooling == MEAN and backbone.config.family in ("albert", "gpt2"):
            raise HeadwayError("--pooling mean: GPT-2 and ALBERT have no layer for it. Omit it, or use another model.")
        return None, ""
    assert isinstance(backbone, Bert)
    depth = backbone.config.num_layers
    if task.pooling == MEAN:
        return depth, "a text is represented by the mean of its tokens' vectors (--pooling cls: by [CLS])"
    if len(windows_by_example) < MIN_ROWS_TO_CHOOSE:
        few = f"fewer than {MIN_ROWS_TO_CHOOSE} rows cannot show whether [CLS] is better: --pooling cls reads it"
        return depth, f"a text is represented by the mean of its tokens' vectors ({few})"
    rows = np.random.default_rng(problem.seed or 0).permutation(len(windows_by_example))[:ROWS_TO_CHOOSE]
    sequences = Sequences.of([windows_by_example[i] for i in rows])
    layers = range(depth, max(depth - LAST_LAYERS, 0), -1)
    kinds: list[int | None] = [*layers, None]
    errors = [
        leave_one_out_error(problem.of(rows), sequences.average(one))
        for one in _candidates(network, sequences.features, layers)
    ]
    layer = kinds[int(np.argmin(errors))]
    where = "" if layer == depth else f" of layer {layer} of {depth}"
    what = "[CLS]" if layer is None else f"the mean of its tokens' vectors{where}"
    other = "--pooling mean: by the mean" if layer is None else "--pooling cls: by [CLS]"
    return layer, f"a text is represented by {what}, the best in cross-validation ({other})"


def read_pooled(network: Network, layer: int | None) -> None:
    """Makes the head of a network read the mean of a layer; None: it reads `[CLS]`, as before."""
    if layer is not None:
        assert isinstance(network.backbone, Bert)
        network.backbone = with_mean_block(network.backbone, layer)


@torch.inference_mode()
def _candidates(network: Network, features: Sequence[Features], layers: Sequence[int]) -> list[Vectors]:
    """The means of some layers and the vectors of `[CLS]`, (B, C) each, from one pass."""
    backbone = prepare_for_inference(network).backbone
    assert isinstance(backbone, Bert)
    pooling = Pooling(layers=tuple(layers), combine="concat")

    def read(batch: PackedBatch) -> Tensor:
        states = pooling.hidden(backbone, batch).unflatten(-1, (len(layers), -1))
        means = pooling.pool(states.flatten(1), batch).unflatten(-1, (len(layers), -1))
        return torch.cat([means, states[batch.first, :1].float()], 1)  # (B, S, C)

    return list(_read_all(network, features, read).transpose(1, 0, 2))


@torch.inference_mode()
def head_vectors(network: Network, features: Sequence[Features]) -> Vectors:
    """The vector of each sequence that the head of a network reads, (B, C)."""
    backbone = prepare_for_inference(network).backbone
    reads_first = isinstance(network.head, SequenceHead) and isinstance(network.head.pooler, BertPooler)
    return _read_all(
        network, features, lambda batch: backbone.forward_at(batch, batch.first if reads_first else batch.last).float()
    )


def _read_all(network: Network, features: Sequence[Features], read: Callable[[PackedBatch], Tensor]) -> np.ndarray:
    device = next(network.parameters()).device
    vectors: dict[int, np.ndarray] = {}
    sampler = BatchSampler([len(one.input_ids) for one in features], batch_tokens=INFERENCE_BATCH_TOKENS)
    for indices in shard(sampler.by_length()):
        found = read(pack([features[i] for i in indices]).to(device))
        vectors.update(zip(indices, found.cpu().numpy(), strict=True))
    return np.stack(gather_in_order(vectors))


@torch.no_grad()
def linearize_pooler(pooler: BertPooler, vectors: Vectors, scale_each: bool) -> Vectors:
    """Sets the pooler's weights so that it passes vectors on, and returns its outputs, (B, C).

    Args:
        pooler: of the head; it is changed.
        vectors: (B, C).
        scale_each: as in `Problem`.
    """
    std, mean = (POOLER_STD, 0.0) if pooler.activation is ACTIVATIONS["tanh"] else (1.0, POSITIVE_MEAN)
    scale = std / component_scale(vectors, scale_each)
    device = pooler.dense.weight.device
    pooler.dense.weight.copy_(torch.from_numpy(scale).diag().to(device))
    pooler.dense.bias.copy_(torch.from_numpy(mean - scale * vectors.mean(0)).to(device))
    return pooler.activation(_apply(pooler.dense, vectors)).cpu().numpy()


def _apply(layer: nn.Linear, vectors: Vectors) -> Tensor:
    return layer(torch.from_numpy(vectors).to(layer.weight.device))
