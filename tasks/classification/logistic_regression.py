"""Classification by logistic regression on frozen features: seconds instead of minutes.

The backbone computes a feature vector for each different sequence once, and scikit-learn fits the classifier
(https://scikit-learn.org/stable/modules/linear_model.html). The result is stored as the classifier of the published
head, so the model folder is like any other.

The published BERT head reads the `[CLS]` vector through a pooler, tanh(W x + b). A pretrained pooler loses information
about other tasks, so W and b are replaced: they scale every component of the vector to mean 0 and to a range in which
tanh is nearly linear, and the pooler passes the vector on. A pooler with ReLU (DistilBERT) or GELU (ELECTRA) passes on
positive numbers: their mean is 4 standard deviations. GPT-2's head reads the last token, without pooler and bias.

Shapes: E examples, B sequences, C hidden size, N outputs.
"""

import time
import warnings
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.errors import HeadwayError
from ...core.inference.inference import prepare_for_inference
from ...core.models.bert import BertPooler
from ...core.models.heads import Network, SequenceHead
from ...core.models.layers import ACTIVATIONS
from ...core.models.packing import BatchSampler
from ...core.training.devices import accelerator_for
from ...core.training.distributed import gather_in_order, processes, shard
from ...core.training.training_config import TrainConfig
from ...core.training.training_events import Event, Finished, Started, Step
from ..data.features import INFERENCE_BATCH_TOKENS, Features, pack
from ..data.labels import REGRESSION, SINGLE_LABEL
from ..data.split import split_rows

if TYPE_CHECKING:
    from .classification import TextClassification

POOLER_STD = 0.1  # standard deviation of the pooler's input to tanh, which is linear there within a third of a percent
POSITIVE_MEAN = 4.0  # mean of the pooler's input to another activation, in standard deviations of 1
INVERSE_REGULARIZATION = tuple(10.0**power for power in range(-4, 1))  # scikit-learn's C, chosen on held-out examples
MIN_EXAMPLES_TO_CHOOSE = 50  # with fewer examples C is 1: a choice would be random
HELD_OUT = 0.2
MIN_RELATIVE_STD = 1e-4  # components that vary less, relative to the mean of all, are noise
MAX_ITER = 1000
QUICK_C, QUICK_ITER = 0.01, 100  # of a quick fit

Vectors = np.ndarray  # (E, C)


def fit_classifier(
    task: "TextClassification",
    network: Network,
    windows_by_example: Sequence[list[Features]],
    config: TrainConfig,
    *,
    quick: bool = False,
) -> Iterator[Event]:
    """Fits the network's classifier (and replaces its pooler) in place, as the events of a run of one step.

    Args:
        task: with inferred labels.
        network: a backbone, which stays unchanged, with a new SequenceHead.
        windows_by_example: the features of each example.
        config: only `device` and `seed` are used.
        quick: one strength of regularization and few iterations, for a first figure.

    Raises:
        HeadwayError: a label occurs on no example, or (with several labels) on every example.
    """
    head = network.head
    assert isinstance(head, SequenceHead)
    targets = np.array(
        [windows[0].target for windows in windows_by_example],
        dtype=np.int64 if task.problem_type == SINGLE_LABEL else float,
    )
    _check_varied(task, targets)
    device = accelerator_for(replace(config, precision="fp32", trackers=()), None).device
    began = time.perf_counter()
    network.to(device).eval()
    yield Started(
        total_steps=1,
        warmup_steps=0,
        learning_rate=0.0,
        examples=len(windows_by_example),
        parameters=sum(p.numel() for p in head.classifier.parameters()),
        device=str(device),
        precision="fp32",
        processes=processes().world_size,
        seed=config.seed,
        resumed_from=None,
    )
    vectors, sequences_of = _extract_vectors(network, windows_by_example)
    if isinstance(head.pooler, BertPooler):
        vectors = _linearize_pooler(head.pooler, vectors)
    inputs = np.stack([vectors[sequences].mean(0) for sequences in sequences_of]).astype(np.float64)
    fit_bias = head.classifier.bias is not None
    groups = [tuple(sequences) for sequences in sequences_of]  # equal texts have the same sequences
    seed = None if quick else config.seed
    weight, bias, loss = _regress(task, inputs, targets, groups, seed=seed, fit_bias=fit_bias)
    with torch.no_grad():
        head.classifier.weight.copy_(torch.from_numpy(weight))
        if head.classifier.bias is not None:
            head.classifier.bias.copy_(torch.from_numpy(bias))
    seconds = time.perf_counter() - began
    tokens = sum(len(one.input_ids) for windows in windows_by_example for one in windows)
    rate = tokens / seconds
    yield Step(1, 1.0, loss, 0.0, 0.0, tokens, rate, 0.0)
    yield Finished(1, seconds, rate, loss, {}, None, False)


def _check_varied(task: "TextClassification", targets: np.ndarray) -> None:
    """Checks that there are examples with and without every label."""
    if task.problem_type == REGRESSION:
        return
    counts = np.bincount(targets, minlength=len(task.labels)) if task.problem_type == SINGLE_LABEL else targets.sum(0)
    for label, count in zip(task.labels, counts.tolist(), strict=True):
        if count in (0, len(targets)):
            every = "every example has" if count else "no example has"
            raise HeadwayError(
                f"--frozen: {every} the label {label!r}, so it cannot be learned. "
                "Add examples with and without it, or leave --frozen out."
            )


# -- feature vectors


@torch.inference_mode()
def _extract_vectors(
    network: Network, windows_by_example: Sequence[list[Features]]
) -> tuple[Vectors, list[list[int]]]:
    """The vector of each different sequence, (B, C), and the indices of each example's sequences."""
    indices: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    sequences: list[Features] = []
    sequences_of: list[list[int]] = []
    for windows in windows_by_example:
        keys = [(tuple(one.input_ids), tuple(one.segment_ids)) for one in windows]
        for key, one in zip(keys, windows, strict=True):
            if key not in indices:
                indices[key] = len(sequences)
                sequences.append(one)
        sequences_of.append([indices[key] for key in keys])
    backbone = prepare_for_inference(network).backbone
    device = next(network.parameters()).device
    reads_first = isinstance(network.head, SequenceHead) and isinstance(network.head.pooler, BertPooler)
    vectors: dict[int, np.ndarray] = {}
    sampler = BatchSampler([len(one.input_ids) for one in sequences], batch_tokens=INFERENCE_BATCH_TOKENS)
    for batch_indices in shard(sampler.by_length()):
        batch = pack([sequences[i] for i in batch_indices]).to(device)
        hidden = backbone(batch)[batch.first if reads_first else batch.last]
        vectors.update(zip(batch_indices, hidden.float().cpu().numpy(), strict=True))
    return np.stack(gather_in_order(vectors)), sequences_of


@torch.no_grad()
def _linearize_pooler(pooler: BertPooler, vectors: Vectors) -> Vectors:
    """Sets the pooler's weights so that it passes vectors on, and returns its outputs, (B, C)."""
    std, mean = (POOLER_STD, 0.0) if pooler.activation is ACTIVATIONS["tanh"] else (1.0, POSITIVE_MEAN)
    scale = std / _std(vectors)
    device = pooler.dense.weight.device
    pooler.dense.weight.copy_(torch.from_numpy(scale).diag().to(device))
    pooler.dense.bias.copy_(torch.from_numpy(mean - scale * vectors.mean(0)).to(device))
    return pooler.activation(_apply(pooler.dense, vectors)).cpu().numpy()


def _std(vectors: Vectors) -> np.ndarray:
    """The standard deviation of each component, (C,); infinite for noise, so that dividing by it removes the noise."""
    std = vectors.std(0)
    return np.where(std > MIN_RELATIVE_STD * std.mean(), std, np.inf)


def _apply(layer: nn.Linear, vectors: Vectors) -> Tensor:
    return layer(torch.from_numpy(vectors).to(layer.weight.device))


# -- regression


def _regress(
    task: "TextClassification",
    inputs: Vectors,
    targets: np.ndarray,
    groups: Sequence[Hashable],
    *,
    seed: int | None,
    fit_bias: bool,
) -> tuple[np.ndarray, np.ndarray, float]:
    """The weights (N, C), the biases (N,) and the mean loss over the examples; without a seed, a quick fit."""
    # The components are standardized, so that regularization treats them alike.
    mean = inputs.mean(0) if fit_bias else np.zeros(inputs.shape[1])
    std = _std(inputs)
    standardized = (inputs - mean) / std
    columns = [targets] if targets.ndim == 1 else list(targets.T)
    weights = [task.weights[i : i + 1] for i in range(len(columns))] if targets.ndim == 2 else [task.weights]
    regressions = [
        _Regression(task, standardized, column, some, MAX_ITER if seed is not None else QUICK_ITER, fit_bias=fit_bias)
        for column, some in zip(columns, weights, strict=True)
    ]
    if seed is None:
        c = QUICK_C
    else:
        c = _choose_c(regressions, targets, groups, seed) if len(inputs) >= MIN_EXAMPLES_TO_CHOOSE else 1.0
    fitted = [one.fit(slice(None), c) for one in regressions]
    weight = np.concatenate([weight for weight, _ in fitted])
    bias = np.concatenate([bias for _, bias in fitted])
    loss = float(np.mean([one.loss(slice(None), *found) for one, found in zip(regressions, fitted, strict=True)]))
    weight = weight / std
    return weight, bias - weight @ mean, loss


def _choose_c(
    regressions: "Sequence[_Regression]", targets: np.ndarray, groups: Sequence[Hashable], seed: int
) -> float:
    """The C with the smallest loss on held-out examples; 1 if none can be held out because their texts are equal."""
    strata = targets.tolist() if targets.ndim == 1 and targets.dtype == np.int64 else [None] * len(targets)
    train, held_out = split_rows(strata, HELD_OUT, seed, groups)
    if not held_out:
        return 1.0
    losses = []
    for c in INVERSE_REGULARIZATION:
        fitted = [(one, one.fit(train, c)) for one in regressions if one.can_fit(train)]
        losses.append(np.mean([one.loss(held_out, *found) for one, found in fitted]) if fitted else 0.0)
    return INVERSE_REGULARIZATION[int(np.argmin(losses))]


class _Regression:
    """A regression on one target column: the index of a class, 0 and 1, or a number."""

    def __init__(
        self,
        task: "TextClassification",
        inputs: Vectors,
        targets: np.ndarray,
        weights: Sequence[float],
        max_iter: int,
        *,
        fit_bias: bool,
    ) -> None:
        self.number = task.problem_type == REGRESSION
        self.classes = len(np.unique(targets)) if task.problem_type == SINGLE_LABEL else 0
        self.inputs, self.targets, self.max_iter, self.fit_bias = inputs, targets, max_iter, fit_bias
        # As in the loss of training: weights of all classes, or of the positive examples.
        self.sample_weights = np.ones(len(targets))
        if weights:
            of_positives = np.where(targets > 0, weights[0], 1.0)
            self.sample_weights = np.take(weights, targets) if self.classes else of_positives

    def can_fit(self, rows: Any) -> bool:
        """Whether some rows have at least two classes, or numbers."""
        return self.number or len(np.unique(self.targets[rows])) > 1

    def fit(self, rows: Any, c: float) -> tuple[np.ndarray, np.ndarray]:
        """The weights and biases fitted to some rows: one for each class, or for the positives or the number."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression, Ridge

        inputs, targets, sample_weights = self.inputs[rows], self.targets[rows], self.sample_weights[rows]
        if self.number:
            ridge = Ridge(alpha=1 / c, fit_intercept=self.fit_bias).fit(inputs, targets, sample_weight=sample_weights)
            return np.atleast_2d(ridge.coef_), np.atleast_1d(ridge.intercept_)
        model = LogisticRegression(C=c, fit_intercept=self.fit_bias, max_iter=self.max_iter)
        with warnings.catch_warnings():
            # Linearly separable classes never converge; the result after MAX_ITER iterations is good enough.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(inputs, targets, sample_weight=sample_weights)
        weight, bias = model.coef_, np.broadcast_to(model.intercept_, len(model.coef_))
        if self.classes and len(weight) == 1:  # scikit-learn returns one row for two classes: their difference
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        if len(model.classes_) < self.classes:  # these rows lack a rare class
            weight, bias = self._with_all_classes(model.classes_, weight, bias)
        return weight, bias

    def _with_all_classes(
        self, present: np.ndarray, weight: np.ndarray, bias: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Adds the classes that are not present: with zero weights and the smallest bias."""
        whole = np.zeros((self.classes, weight.shape[1])), np.full(self.classes, bias.min())
        for all_rows, rows in zip(whole, (weight, bias), strict=True):
            all_rows[present] = rows
        return whole

    def loss(self, rows: Any, weight: np.ndarray, bias: np.ndarray) -> float:
        """The mean loss over some rows."""
        outputs = self.inputs[rows] @ weight.T + bias
        targets = self.targets[rows]
        if self.number:
            losses = (outputs[:, 0] - targets) ** 2
        elif self.classes:
            losses = np.logaddexp.reduce(outputs, axis=1) - outputs[np.arange(len(targets)), targets]
        else:
            losses = np.logaddexp(0, outputs[:, 0]) - targets * outputs[:, 0]
        return float(np.average(losses, weights=self.sample_weights[rows]))
