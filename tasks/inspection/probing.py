"""Linear probes: how well the vectors of each layer, and a mix of all layers, predict labels.

A probe is scikit-learn's logistic regression (Alain & Bengio 2016, https://arxiv.org/abs/1610.01644) on the vectors of
a frozen model: of a text (the mean of its tokens, or its summary token) or of a word (its first token). The mix is
that of ELMo (Peters et al. 2018, https://arxiv.org/abs/1802.05365, equation 1), used as in Tenney et al. 2019
(https://arxiv.org/abs/1905.05950): a softmax over the layers that is fitted with the probe. Its weights show which
layers are informative. ELMo's scale is left to the weights of the probe.

Shapes: T tokens, L layers and the embeddings below them, C hidden size, R rows (texts or words), K labels.
"""

import statistics
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.checkpoints.checkpoint import load_backbone
from ...core.errors import HeadwayError
from ...core.models.activations import record_activations
from ...core.models.gpt2 import GPT2
from ...core.models.heads import Backbone
from ...core.models.packing import BatchSampler, PackedBatch
from ...core.tokenizers.tokenizer import Tokenizer
from ...core.training.distributed import inference_device
from .. import TASKS
from ..base.explanation import ProbeTargets
from ..base.inference import Encoder
from ..base.left_out import usable_rows
from ..base.precision import AUTO
from ..base.task import Task
from ..data.features import INFERENCE_BATCH_TOKENS, Features, num_truncated_tokens, pack
from ..data.groups import example_groups
from ..data.read import read_table
from ..data.rows import Table
from ..data.split import split_rows

HELD_OUT = 0.2  # of the examples, to evaluate the probes
INVERSE_REGULARIZATION = 1.0  # scikit-learn's C, for standardized vectors
MIX_REGULARIZATION = 0.001  # of the softmax logits: lambda of Peters et al., small enough for layers to differ
MAX_ITERATIONS = 300  # of L-BFGS


@dataclass(frozen=True)
class LayerScore:
    """The scores of the probes on one layer."""

    layer: int | None  # 0: the embeddings; None: the mix
    scores: tuple[float, ...]  # by seed

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return statistics.fmean(self.scores)

    @property
    def std(self) -> float:
        """The standard deviation over the seeds; 0 for one seed."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else 0.0


@dataclass(frozen=True)
class ProbeScore:
    """The score of one probe."""

    seed: int
    layer: int | None  # 0: the embeddings; None: the mix
    score: float


@dataclass(frozen=True)
class ProbeResult:
    """The scores of the probes on all layers."""

    task: str
    metric: str
    layers: tuple[LayerScore, ...]  # from the embeddings up
    mix: LayerScore
    mix_weights: tuple[float, ...]  # of the layers, mean over the seeds; they sum to 1
    majority: LayerScore  # of always predicting the most common label
    examples: int
    notes: tuple[str, ...]

    @property
    def center_of_gravity(self) -> float:
        """The mean layer, weighted by the mix (Tenney et al., equation 2)."""
        return sum(layer * weight for layer, weight in enumerate(self.mix_weights))


def probe(
    name: str | Path,
    data: Any,
    *,
    task: Task[Any, Any] | None = None,
    columns: Mapping[str, Any] | None = None,
    seeds: int = 3,
    most: int | None = 2000,
    pooling: str = "mean",
    device: str = AUTO,
    **reading: Any,
) -> Iterator[ProbeScore | ProbeResult]:
    """Probes every layer of a model that is not trained for the task; the result comes last.

    Each seed is another random split: the probes are fitted to four fifths of the examples and evaluated on the rest.

    Args:
        name: any model: a folder, a built-in name or a hub id.
        data: labelled rows, as for training.
        task: text or token classification, or another task with `probe_targets`. Default: inferred from the columns.
        columns: field name or "label" -> column, where the inferred one is wrong.
        seeds: number of random splits.
        most: maximum number of examples, sampled in the proportions of their labels; None: all.
        pooling: the vector of a text: "mean" of its tokens, or "summary": BERT's first token, GPT-2's last.
        device: auto (the accelerator if there is one), cpu, cuda, cuda:1, mps or xpu.
        **reading: fields of ReadOptions: header, encoding, ...

    Raises:
        HeadwayError: the model or the data cannot be read, or the data does not give each text or word one label.
    """
    if pooling not in ("mean", "summary"):
        raise HeadwayError(f"--pooling {pooling}: say mean or summary.")
    if seeds < 1:
        raise HeadwayError(f"--seeds {seeds}: at least 1.")
    chosen = inference_device(device)
    table = read_table(data, **reading)
    task, examples, notes = _read_examples(task, table, columns or {}, most)
    checkpoint = load_backbone(name)
    backbone = checkpoint.network.backbone
    encoder = Encoder(str(name), Tokenizer.load(checkpoint.folder), backbone.config)
    windows_by_example = encoder.encode(task, examples)
    features = [one for windows in windows_by_example for one in windows]
    if cut := sum(num_truncated_tokens(windows) > 0 for windows in windows_by_example):
        notes.append(f"{cut} of {len(examples)} texts are cut")
    if task.probe_targets(features[0]) is None:
        raise HeadwayError(
            f"{table.source}: a probe predicts one label of several for each text or word. Give other data. "
            f"What was read: {'; '.join(notes)}."
        )
    backbone.to(chosen).eval()
    vectors = _compute_vectors(backbone, task, features, pooling)
    rounds = []
    for seed in range(seeds):
        train, test = split_rows([one.stratum for one in examples], HELD_OUT, seed, example_groups(examples)[0])
        if not test:
            raise HeadwayError(f"{table.source}: {len(examples)} examples are too few to hold some out. Give more.")
        split = _Split(task, examples, vectors, train, test)
        rounds.append((yield from _probe_split(split, seed)))
    yield _summarize(task.name, rounds, len(examples), notes)


def _summarize(task: str, rounds: "Sequence[_Round]", examples: int, notes: Sequence[str]) -> ProbeResult:
    layers = (tuple(one.layers[i] for one in rounds) for i in range(len(rounds[0].layers)))
    return ProbeResult(
        task,
        rounds[0].metric,
        tuple(LayerScore(i, scores) for i, scores in enumerate(layers)),
        LayerScore(None, tuple(one.mix for one in rounds)),
        tuple(torch.stack([one.weights for one in rounds]).mean(0).tolist()),
        LayerScore(None, tuple(one.majority for one in rounds)),
        examples,
        tuple(notes),
    )


def _read_examples(
    task: Task[Any, Any] | None, table: Table, chosen: Mapping[str, Any], most: int | None
) -> tuple[Task[Any, Any], Sequence[Any], list[str]]:
    """The task with its labels, the examples, and what was inferred."""
    probed = {name: one for name, one in TASKS.items() if one.probe_targets is not Task.probe_targets}
    if task is None:
        task = next((one for one in probed.values() if one.recognizes(table)), next(iter(probed.values())))()
    if task.name not in probed:
        raise HeadwayError(f"{task.name} cannot be probed: say {' or '.join(probed)}.")
    columns = task.columns(table, chosen, need_label=True)
    table = usable_rows(task, table, columns)
    task, decided = task.infer_labels(table, columns)
    examples = task.examples(table, columns)
    notes = [*table.notes, *columns.notes, *decided]
    if most is not None and most < len(examples):
        _, drawn = split_rows([one.stratum for one in examples], most / len(examples), seed=0)
        notes.append(f"{len(drawn):,} of {len(examples):,} examples, drawn with seed 0")
        examples = [examples[i] for i in drawn]
    return task, examples, notes


# Vectors.


@dataclass(frozen=True, eq=False)
class _Vectors:
    """The inputs and classes of the probes, a row each, and the rows that belong to each of the features."""

    features: Sequence[Features]
    targets: list[ProbeTargets]  # of each of the features
    rows: list[Tensor]  # of each of the features; the windows of a text that is one row share it
    inputs: Tensor  # (R, L + 1, C), fp32 on the CPU
    classes: Tensor  # (R,)
    examples: Tensor  # (R,), the example of each row


def _compute_vectors(backbone: Backbone, task: Task[Any, Any], features: Sequence[Features], pooling: str) -> _Vectors:
    """One row per text, the mean over its windows; or one per token that has a class."""
    targets = [one for one in map(task.probe_targets, features) if one is not None]
    pooled = _pool_layers(backbone, features, targets, pooling)
    windows = torch.tensor([one.example for one in features])  # -> example
    if targets[0].positions is None:
        counts = windows.bincount().tolist()
        inputs = torch.stack([part.mean(0) for part in torch.cat(pooled).split(counts)])
        classes = dict(zip(windows.tolist(), (one.classes[0] for one in targets), strict=True))
        rows = list(windows[:, None])
        return _Vectors(features, targets, rows, inputs, torch.tensor([*classes.values()]), torch.arange(len(inputs)))
    counts = [len(one.classes) for one in targets]
    classes = torch.tensor([label for one in targets for label in one.classes])
    rows = list(torch.arange(len(classes)).split(counts))
    examples = windows.repeat_interleave(torch.tensor(counts))
    return _Vectors(features, targets, rows, torch.cat(pooled), classes, examples)


@torch.inference_mode()
def _pool_layers(
    backbone: Backbone, features: Sequence[Features], targets: Sequence[ProbeTargets], pooling: str
) -> list[Tensor]:
    """The vectors of each sequence that are probed, (1 or positions, L + 1, C)."""
    found: dict[int, Tensor] = {}
    device = next(backbone.parameters()).device
    sampler = BatchSampler([len(one.input_ids) for one in features], batch_tokens=INFERENCE_BATCH_TOKENS)
    for indices in sampler.by_length():
        batch = pack([features[i] for i in indices]).to(device)
        for i, states in zip(indices, batch.split(layer_states(backbone, batch).float().cpu()), strict=True):
            if targets[i].positions is not None:
                found[i] = states[targets[i].positions]
            elif pooling == "mean":
                found[i] = states.mean(0, keepdim=True)
            else:
                found[i] = states[-1:] if isinstance(backbone, GPT2) else states[:1]
    return [found[i] for i in range(len(features))]


def layer_states(backbone: Backbone, batch: PackedBatch) -> Tensor:
    """The input of the first layer and the output of every layer, (T, L + 1, C); GPT-2's last is normalized."""
    with record_activations(backbone, attentions=False) as activations:
        backbone(batch)
    return torch.stack(activations.hidden_states, dim=1)


# Probes.


class _Split:
    """One random split: the rows of the training examples, standardized, and those of the test examples."""

    def __init__(
        self,
        task: Task[Any, Any],
        examples: Sequence[Any],
        vectors: _Vectors,
        train: Sequence[int],
        test: Sequence[int],
    ) -> None:
        self._task, self._vectors = task, vectors
        self._examples = {i: examples[i] for i in sorted(test)}
        fitted = torch.isin(vectors.examples, torch.tensor(train)) & (vectors.classes >= 0)
        self._tested = torch.isin(vectors.examples, torch.tensor(test))
        inputs = vectors.inputs[fitted]
        mean, std = inputs.mean(0), inputs.std(0).clamp_min(1e-6)
        self.train, self.test = (inputs - mean) / std, (vectors.inputs[self._tested] - mean) / std
        self.classes = vectors.classes[fitted]
        self.num_classes = vectors.targets[0].num_classes

    def score(self, probabilities: Tensor) -> tuple[str, float]:
        """The task's first metric for the probabilities of the test rows, (R, K), decoded as outputs of a head."""
        logits = torch.full((len(self._tested), self.num_classes), -torch.inf)
        logits[self._tested] = probabilities.log()
        outputs, features = [], []
        for one, targets, rows in zip(self._vectors.features, self._vectors.targets, self._vectors.rows, strict=True):
            if one.example not in self._examples:
                continue
            features.append(one)
            if targets.positions is None:
                outputs.append(logits[rows[0]])
            else:
                outputs.append(torch.zeros(len(one.input_ids), self.num_classes))
                outputs[-1][targets.positions] = logits[rows]
        predictions = self._task.decode(outputs, features)
        return next(iter(self._task.score(predictions, [*self._examples.values()]).items()))


@dataclass(frozen=True)
class _Round:
    """The scores of one split."""

    metric: str
    layers: list[float]
    mix: float
    weights: Tensor  # (L + 1,), of the layers in the mix
    majority: float


def _probe_split(split: _Split, seed: int) -> Generator[ProbeScore, None, _Round]:
    """Fits and scores a probe on every layer, one on the mix, and the most common label."""
    layers = []
    for layer in range(split.train.shape[1]):
        layers.append(split.score(_regress(split, layer))[1])
        yield ProbeScore(seed, layer, layers[-1])
    probabilities, weights = _regress_mix(split)
    metric, mix = split.score(probabilities)
    yield ProbeScore(seed, None, mix)
    return _Round(metric, layers, mix, weights, split.score(_majority(split))[1])


def _regress(split: _Split, layer: int) -> Tensor:
    """The probabilities that logistic regression on one layer gives the test rows, (R, K)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    probabilities = torch.zeros(len(split.test), split.num_classes)
    known = split.classes.unique()
    if len(known) == 1:
        probabilities[:, known] = 1.0
        return probabilities
    regression = LogisticRegression(C=INVERSE_REGULARIZATION, max_iter=MAX_ITERATIONS, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # further iterations do not change the scores
        regression.fit(split.train[:, layer].numpy(), split.classes.numpy())
    found = np.asarray(regression.predict_proba(split.test[:, layer].numpy()))
    probabilities[:, torch.as_tensor(regression.classes_)] = torch.as_tensor(found, dtype=torch.float)
    return probabilities


def _regress_mix(split: _Split) -> tuple[Tensor, Tensor]:
    """The probabilities from a mix of all layers, (R, K), and the mix's weights, (L + 1,)."""
    rows, depth, size = split.train.shape
    mix = torch.zeros(depth, requires_grad=True)
    weight = torch.zeros(split.num_classes, size, requires_grad=True)
    bias = torch.zeros(split.num_classes, requires_grad=True)

    def logits(vectors: Tensor) -> Tensor:
        return F.linear(torch.einsum("rlc,l->rc", vectors, mix.softmax(0)), weight, bias)

    optimizer = torch.optim.LBFGS([mix, weight, bias], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")

    def step() -> Tensor:
        optimizer.zero_grad()
        penalty = weight.square().sum() / (2 * INVERSE_REGULARIZATION * rows)  # scikit-learn's
        penalty = penalty + MIX_REGULARIZATION * mix.square().sum()
        loss = F.cross_entropy(logits(split.train), split.classes) + penalty
        loss.backward()
        return loss

    optimizer.step(step)  # pyright: ignore[reportArgumentType] - takes a closure that gives a tensor
    with torch.no_grad():
        return logits(split.test).softmax(-1), mix.softmax(0)


def _majority(split: _Split) -> Tensor:
    """The most common label with probability 1."""
    probabilities = torch.zeros(len(split.test), split.num_classes)
    probabilities[:, split.classes.mode().values] = 1.0
    return probabilities
