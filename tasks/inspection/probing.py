"""Which layer knows: a linear probe on every layer's vectors, and on a mix of all layers that is learnt with it.

The probe is scikit-learn's logistic regression (Alain & Bengio 2016, https://arxiv.org/abs/1610.01644) on what a
frozen model makes of a text (the mean of its tokens, or the token that stands for it) or of a word (its first token).
The mix is that of ELMo (Peters et al. 2018, https://arxiv.org/abs/1802.05365, equation 1), as Tenney et al. 2019
(https://arxiv.org/abs/1905.05950) read it: a softmax over the layers, whose weights say where the knowledge is. Its
scale is left to the probe's own weights.

Shapes: L layers and the embeddings below them, C hidden size, R rows (texts or words), K labels.
"""

import statistics
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.checkpoints.checkpoint import load_backbone
from ...core.errors import HeadwayError
from ...core.models.gpt2 import GPT2
from ...core.models.heads import Backbone
from ...core.models.packing import BatchSampler, PackedBatch
from ...core.tokenizers.tokenizer import Tokenizer
from ...core.training.distributed import inference_device
from ..base.task import Task
from ..classification.classification import TextClassification
from ..classification.predictions import LabelPrediction
from ..data.features import INFERENCE_BATCH_TOKENS, Features, group_windows, num_truncated_tokens
from ..data.labels import SINGLE_LABEL
from ..data.read import read_table
from ..data.rows import Table
from ..data.split import split_rows
from ..tagging.predictions import EntitiesPrediction
from ..tagging.tag_schemes import plain_labels
from ..tagging.tagged_rows import WORD_COLUMNS, column_named
from ..tagging.tagging import TokenClassification

HELD_OUT = 0.2  # of the rows, which measure the probe
INVERSE_PENALTY = 1.0  # scikit-learn's C, on standardised vectors
MIX_PENALTY = 0.001  # on the squares of what the softmax is taken of: lambda of Peters et al., where layers may differ
MOST_STEPS = 300  # of the regression, and of the mix


@dataclass(frozen=True)
class LayerScore:
    """How well a probe on one layer does."""

    layer: int | None  # 0: the embeddings; None: the mix
    scores: tuple[float, ...]  # seed by seed

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.scores)

    @property
    def spread(self) -> float:
        """The standard deviation over the seeds; 0 for a single one."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else 0.0


@dataclass(frozen=True)
class Probed:
    """One probe is done."""

    seed: int
    layer: int | None
    score: float


@dataclass(frozen=True)
class ProbeResult:
    """What a probe of every layer has found."""

    task: str
    metric: str
    layers: tuple[LayerScore, ...]  # from the embeddings up
    mix: LayerScore
    weights: tuple[float, ...]  # of each layer in the mix, the mean over the seeds; they sum to 1
    commonest: LayerScore  # what always saying the most common label gives
    examples: int
    notes: tuple[str, ...]

    @property
    def centre(self) -> float:
        """The layer around which the mix's weights lie, as Tenney et al. have it."""
        return sum(layer * weight for layer, weight in enumerate(self.weights))


def probe(
    name: str | Path,
    data: Any,
    *,
    task: Task | None = None,
    columns: Mapping[str, Any] | None = None,
    header: bool | None = None,
    seeds: int = 3,
    most: int | None = 2000,
    pooling: str = "mean",
) -> Iterator[Probed | ProbeResult]:
    """Probes every layer of a model that is not trained for it; the result comes last.

    Every seed draws anew which four fifths of the examples the probes learn from, and the others measure them.

    Args:
        name: any model: a folder, a built-in name or a hub id.
        data: labelled rows, as for training.
        task: TextClassification or TokenClassification; told from the columns if left out.
        columns: which column holds what, where the guess is to be overruled.
        header: whether a table's first row names its columns; told from the rows if left out.
        seeds: how many draws.
        most: examples at most, drawn with each label's share kept; all if left out.
        pooling: what a text's vector is: "mean" of its tokens, or that of the token that stands for it ("summary":
            BERT's first, GPT-2's last).

    Raises:
        HeadwayError: the model or the data cannot be read, or its labels are not one of several.
    """
    if pooling not in ("mean", "summary"):
        raise HeadwayError(f"--pooling {pooling}: say mean or summary.")
    if seeds < 1:
        raise HeadwayError(f"--seeds {seeds}: at least 1.")
    table = read_table(data, header=header)
    task, examples, notes = _examples(task, table, columns or {}, most)
    checkpoint = load_backbone(name)
    backbone, tokenizer = checkpoint.network.backbone, Tokenizer.load(checkpoint.folder)
    backbone.to(inference_device())
    windows_by_example = group_windows(
        task.encode(examples, tokenizer, task.limit(backbone.config.max_positions, str(name)))
    )
    if cut := sum(num_truncated_tokens(windows) > 0 for windows in windows_by_example):
        notes.append(f"{cut} of {len(examples)} texts are cut")
    rows = _rows(backbone.eval(), task, windows_by_example, pooling)
    depth = backbone.config.num_layers + 1
    scores: list[list[float]] = [[] for _ in range(depth + 2)]
    weights = []
    metric = ""
    for seed in range(seeds):
        learnt, measured = split_rows([one.stratum for one in examples], HELD_OUT, seed)
        if not measured:
            raise HeadwayError(f"{table.source}: {len(examples)} examples are too few to hold some out. Give more.")
        split = _Split(rows, learnt, measured)
        for layer in range(depth):
            metric, score = _score(task, examples, measured, split, _regress(split, layer, len(task.labels)))
            scores[layer].append(score)
            yield Probed(seed, layer, score)
        chances, mixed = _regress_mix(split, len(task.labels))
        weights.append(mixed)
        scores[-2].append(_score(task, examples, measured, split, chances)[1])
        yield Probed(seed, None, scores[-2][-1])
        scores[-1].append(_score(task, examples, measured, split, _commonest(split, len(task.labels)))[1])
    yield ProbeResult(
        task.name,
        metric,
        tuple(LayerScore(layer, tuple(scores[layer])) for layer in range(depth)),
        LayerScore(None, tuple(scores[-2])),
        tuple(torch.stack(weights).mean(0).tolist()),
        LayerScore(None, tuple(scores[-1])),
        len(examples),
        tuple(notes),
    )


def _examples(
    task: Task | None, table: Table, chosen: Mapping[str, Any], most: int | None
) -> tuple[TextClassification | TokenClassification, list[Any], list[str]]:
    """The task with its labels, and the examples that are looked at."""
    if task is None:
        task = TextClassification() if column_named(table, WORD_COLUMNS) is None else TokenClassification()
    columns = task.columns(table, chosen, need_label=True)
    task, decided = task.infer_labels(table, columns)
    if not isinstance(task, TextClassification | TokenClassification):
        raise HeadwayError(f"{task.name} cannot be probed: say text-classification or token-classification.")
    if isinstance(task, TextClassification) and task.problem_type != SINGLE_LABEL:
        raise HeadwayError(f"{table.source}: a probe tells one label of several; here {decided[0]}. Give other data.")
    examples = task.examples(table, columns)
    notes = [*columns.notes, *decided]
    if most is not None and most < len(examples):
        _, drawn = split_rows([one.stratum for one in examples], most / len(examples), seed=0)
        notes.append(f"{len(drawn):,} of {len(examples):,} examples, drawn with seed 0")
        examples = [examples[i] for i in drawn]
    return task, examples, notes


# Vectors.


@dataclass(frozen=True, eq=False)
class _Rows:
    """What the probes learn from and are measured on."""

    vectors: Tensor  # (R, L + 1, C), fp32 on the CPU
    labels: Tensor  # (R,)
    examples: Tensor  # (R,), which example a row is of
    places: list[int]  # of a row in its example: the word; 0 for a text


@torch.inference_mode()
def _rows(backbone: Backbone, task: Task, windows_by_example: Sequence[list[Features]], pooling: str) -> _Rows:
    """A row for each text, the mean of its windows; or for each word that has a tag."""
    features = [one for windows in windows_by_example for one in windows]
    found: list[Tensor | None] = [None] * len(features)
    plan = BatchSampler([len(one.input_ids) for one in features], batch_tokens=INFERENCE_BATCH_TOKENS)
    device = next(backbone.parameters()).device
    for indices in plan.by_length():
        chosen = [features[i] for i in indices]
        batch = PackedBatch.pack([one.input_ids for one in chosen], [one.segment_ids for one in chosen]).to(device)
        for i, states in zip(indices, batch.split(layer_states(backbone, batch).float().cpu()), strict=True):
            found[i] = _pool(backbone, task, features[i], states, pooling)
    vectors = [one for one in found if one is not None]
    if isinstance(task, TextClassification):
        parts = torch.stack([one[0] for one in vectors]).split([len(windows) for windows in windows_by_example])
        labels = torch.tensor([windows[0].target for windows in windows_by_example])
        return _Rows(
            torch.stack([part.mean(0) for part in parts]),
            labels,
            torch.arange(len(windows_by_example)),
            [0] * len(windows_by_example),
        )
    whole = torch.cat(vectors)
    labels = torch.tensor([target for one in features for target in one.target])
    examples = torch.tensor([one.example for one in features for _ in one.metadata.words])
    places = [word for one in features for word in one.metadata.words]
    return _Rows(whole, labels, examples, places)


def layer_states(backbone: Backbone, batch: PackedBatch) -> Tensor:
    """What enters the first layer and what each layer makes of it, (T, L + 1, C); GPT-2's last is normed."""
    x = backbone.embed(batch)
    states = [x]
    for block in backbone.blocks:
        x = block(x, batch)
        states.append(x)
    if isinstance(backbone, GPT2):
        states[-1] = backbone.final_norm(x)
    return torch.stack(states, dim=1)


def _pool(backbone: Backbone, task: Task, one: Features, states: Tensor, pooling: str) -> Tensor:
    """The vectors of a sequence that are probed, (n, L + 1, C) -> (1 or words, L + 1, C)."""
    if not isinstance(task, TextClassification):
        return states[one.metadata.positions]
    if pooling == "mean":
        return states.mean(0, keepdim=True)
    return states[-1:] if isinstance(backbone, GPT2) else states[:1]


# Probes.


class _Split:
    """One draw: the rows of some examples to learn from, standardised, and those of others to measure with."""

    def __init__(self, rows: _Rows, learnt: Sequence[int], measured: Sequence[int]) -> None:
        known = torch.isin(rows.examples, torch.tensor(learnt)) & (rows.labels >= 0)
        asked = torch.isin(rows.examples, torch.tensor(measured))
        train, test = rows.vectors[known], rows.vectors[asked]
        mean, std = train.mean(0), train.std(0).clamp_min(1e-6)
        self.train, self.test = (train - mean) / std, (test - mean) / std
        self.labels = rows.labels[known]
        self.examples = rows.examples[asked].tolist()
        self.places = [place for place, wanted in zip(rows.places, asked.tolist(), strict=True) if wanted]


def _regress(split: _Split, layer: int, labels: int) -> Tensor:
    """The probabilities that logistic regression on one layer gives the rows that measure, (R, K)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    chances = torch.zeros(len(split.test), labels)
    known = split.labels.unique()
    if len(known) == 1:
        chances[:, known] = 1.0
        return chances
    regression = LogisticRegression(C=INVERSE_PENALTY, max_iter=MOST_STEPS, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what is left after so many steps moves no figure
        regression.fit(split.train[:, layer].numpy(), split.labels.numpy())
    found = np.asarray(regression.predict_proba(split.test[:, layer].numpy()))
    chances[:, torch.as_tensor(regression.classes_)] = torch.as_tensor(found, dtype=torch.float)
    return chances


def _regress_mix(split: _Split, labels: int) -> tuple[Tensor, Tensor]:
    """The probabilities from a mix of all layers, (R, K), and the mix's weights, (L + 1,)."""
    rows, depth, size = split.train.shape
    mix = torch.zeros(depth, requires_grad=True)
    weight = torch.zeros(labels, size, requires_grad=True)
    bias = torch.zeros(labels, requires_grad=True)

    def logits(vectors: Tensor) -> Tensor:
        return F.linear(torch.einsum("rlc,l->rc", vectors, mix.softmax(0)), weight, bias)

    optimizer = torch.optim.LBFGS([mix, weight, bias], max_iter=MOST_STEPS, line_search_fn="strong_wolfe")

    def step() -> Tensor:
        optimizer.zero_grad()
        penalty = weight.square().sum() / (2 * INVERSE_PENALTY * rows)  # scikit-learn's
        penalty = penalty + MIX_PENALTY * mix.square().sum()
        loss = F.cross_entropy(logits(split.train), split.labels) + penalty
        loss.backward()
        return loss

    optimizer.step(step)  # pyright: ignore[reportArgumentType] - takes a closure that gives a tensor
    with torch.no_grad():
        return logits(split.test).softmax(-1), mix.softmax(0)


def _commonest(split: _Split, labels: int) -> Tensor:
    """Always the most common label."""
    chances = torch.zeros(len(split.test), labels)
    chances[:, split.labels.mode().values] = 1.0
    return chances


def _score(
    task: TextClassification | TokenClassification,
    examples: Sequence[Any],
    measured: Sequence[int],
    split: _Split,
    chances: Tensor,
) -> tuple[str, float]:
    """The task's first figure of the answers that the probabilities give."""
    chosen = chances.argmax(-1).tolist()
    predictions: list[Any]
    if isinstance(task, TextClassification):
        scores = [dict(zip(task.labels, row, strict=True)) for row in chances.tolist()]
        pairs = zip(chosen, scores, strict=True)
        predictions = [LabelPrediction(task.labels[i], row[task.labels[i]], row) for i, row in pairs]
    else:
        names = plain_labels(task.labels, task.scheme)
        tags = {example: ["O"] * len(examples[example].words) for example in measured}
        for example, place, label in zip(split.examples, split.places, chosen, strict=True):
            tags[example][place] = names[label]
        predictions = [
            EntitiesPrediction((), examples[i].words, tuple(tags[i]), (0.0,) * len(tags[i])) for i in measured
        ]
    return next(iter(task.score(predictions, [examples[i] for i in measured]).items()))
