"""Classification by logistic regression on features that a model has already: seconds instead of minutes.

The model is read once for every different text, and scikit-learn fits the classifier alone
(https://scikit-learn.org/stable/modules/linear_model.html). What it has fitted is stored as the classifier of the
published head, so that the folder is like any other.

The published BERT head reads the `[CLS]` vector through a pooler, tanh(W x + b), and nothing else; what the features
are is thus settled. A pooler that was trained for another question loses a part of them. Here its W and b bring
every number of the vector to the mean 0 and to a range in which tanh is nearly a straight line: it passes the vector
on. GPT-2's head reads the last token, without pooler and without bias.

Shapes: E examples, B sequences, C hidden size, N outputs.
"""

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.errors import HeadwayError
from ...core.inference.inference import prepare_for_inference
from ...core.models.bert import BertPooler
from ...core.models.heads import Network, SequenceHead
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

LINEAR = 0.1  # the standard deviation of what enters tanh, which there is a straight line but for a third of a percent
INVERSE_REGULARIZATION = tuple(10.0**power for power in range(-4, 1))  # of the regression: how much the data counts
FEWEST_TO_CHOOSE = 50  # examples below which a strength would be chosen by chance
PART_TO_CHOOSE = 0.2
LEAST_SPREAD = 1e-4  # of a number of the vector, as a part of the others' mean: below that it is noise
STEPS = 1000  # at most, of the regression

Inputs = np.ndarray  # (E, C)


def fit_classifier(
    task: "TextClassification", network: Network, windows_by_example: Sequence[list[Features]], config: TrainConfig
) -> Iterator[Event]:
    """Fits the network's classifier (and sets its pooler) in place, as the events of a run of one step.

    Args:
        task: with the labels that it has learnt.
        network: a backbone, which stays as it is, with a new SequenceHead.
        windows_by_example: the features of each example.
        config: of which the device and the seed are used.

    Raises:
        HeadwayError: a label is on no example, or (of several) on every one.
    """
    head = network.head
    assert isinstance(head, SequenceHead)
    targets = np.array(
        [windows[0].target for windows in windows_by_example],
        dtype=np.int64 if task.problem_type == SINGLE_LABEL else float,
    )
    _refuse_constant(task, targets)
    device = accelerator_for(replace(config, precision="fp32", trackers=()), None).device
    began = time.perf_counter()
    network.to(device).eval()
    yield Started(
        total_steps=1,
        warmup_steps=0,
        examples=len(windows_by_example),
        parameters=sum(p.numel() for p in head.classifier.parameters()),
        device=str(device),
        precision="fp32",
        processes=processes().world_size,
        seed=config.seed,
        resumed_from=None,
    )
    vectors, sequences = _read_once(network, windows_by_example)
    if isinstance(head.pooler, BertPooler):
        vectors = _set_pooler(head.pooler, vectors)
    inputs = np.stack([vectors[of_windows].mean(0) for of_windows in sequences]).astype(np.float64)
    weight, bias, loss = _regress(task, inputs, targets, config.seed, centred=head.classifier.bias is not None)
    with torch.no_grad():
        head.classifier.weight.copy_(torch.from_numpy(weight))
        if head.classifier.bias is not None:
            head.classifier.bias.copy_(torch.from_numpy(bias))
    seconds = time.perf_counter() - began
    tokens = sum(len(one.input_ids) for windows in windows_by_example for one in windows)
    rate = tokens / seconds
    yield Step(1, 1.0, loss, 0.0, 0.0, tokens, rate, 0.0)
    yield Finished(1, seconds, rate, loss, {}, None, False)


def _refuse_constant(task: "TextClassification", targets: np.ndarray) -> None:
    """A regression needs examples with and without every label."""
    if task.problem_type == REGRESSION:
        return
    counts = np.bincount(targets, minlength=len(task.labels)) if task.problem_type == SINGLE_LABEL else targets.sum(0)
    for label, count in zip(task.labels, counts.tolist(), strict=True):
        if count in (0, len(targets)):
            every = "every example has" if count else "no example has"
            raise HeadwayError(
                f"--frozen: {every} the label {label!r}, which then cannot be told from the others. "
                "Give examples of both kinds, or leave --frozen out."
            )


# -- features


@torch.inference_mode()
def _read_once(network: Network, windows_by_example: Sequence[list[Features]]) -> tuple[Inputs, list[list[int]]]:
    """The summary of every different sequence, (B, C), and for each example which of them are its windows'."""
    numbers: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    firsts: list[Features] = []
    of_windows: list[list[int]] = []
    for windows in windows_by_example:
        mine = []
        for one in windows:
            key = tuple(one.input_ids), tuple(one.segment_ids)
            if key not in numbers:
                numbers[key] = len(firsts)
                firsts.append(one)
            mine.append(numbers[key])
        of_windows.append(mine)
    backbone = prepare_for_inference(network).backbone
    device = next(network.parameters()).device
    found: dict[int, np.ndarray] = {}
    plan = BatchSampler([len(one.input_ids) for one in firsts], batch_tokens=INFERENCE_BATCH_TOKENS)
    for indices in shard(plan.by_length()):
        batch = pack([firsts[i] for i in indices]).to(device)
        bert = isinstance(network.head, SequenceHead) and isinstance(network.head.pooler, BertPooler)
        summaries = backbone(batch)[batch.first if bert else batch.last]
        found.update(zip(indices, summaries.float().cpu().numpy(), strict=True))
    return np.stack(gather_in_order(found)), of_windows


@torch.no_grad()
def _set_pooler(pooler: BertPooler, vectors: Inputs) -> Inputs:
    """Makes the pooler pass vectors (B, C) on, and gives what it makes of them."""
    scale = LINEAR / _spread(vectors)
    device = pooler.dense.weight.device
    pooler.dense.weight.copy_(torch.from_numpy(scale).diag().to(device))
    pooler.dense.bias.copy_(torch.from_numpy(-scale * vectors.mean(0)).to(device))
    return torch.tanh(_apply(pooler.dense, vectors)).cpu().numpy()


def _spread(vectors: np.ndarray) -> np.ndarray:
    """The standard deviation of each number of some vectors, (C,); infinite where it is noise."""
    spread = vectors.std(0)
    return np.where(spread > LEAST_SPREAD * spread.mean(), spread, np.inf)


def _apply(layer: nn.Linear, vectors: Inputs) -> Tensor:
    return layer(torch.from_numpy(vectors).to(layer.weight.device))


# -- the regression


def _regress(
    task: "TextClassification", inputs: Inputs, targets: np.ndarray, seed: int, *, centred: bool
) -> tuple[np.ndarray, np.ndarray, float]:
    """The classifier's weights (N, C) and biases (N,), and the mean loss over the examples."""
    # Every number of a vector counts alike; what it is divided by is taken up by the weights.
    mean = inputs.mean(0) if centred else np.zeros(inputs.shape[1])
    spread = _spread(inputs)
    even = (inputs - mean) / spread
    outputs = [targets] if targets.ndim == 1 else list(targets.T)
    weights = [task.weights[i : i + 1] for i in range(len(outputs))] if targets.ndim == 2 else [task.weights]
    fitted = [_Fit(task.problem_type, even, one, some, centred) for one, some in zip(outputs, weights, strict=True)]
    strength = _choose_strength(fitted, targets, seed) if len(inputs) >= FEWEST_TO_CHOOSE else 1.0
    found = [fit.on(slice(None), strength) for fit in fitted]
    weight = np.concatenate([one for one, _ in found])
    bias = np.concatenate([one for _, one in found])
    loss = float(np.mean([fit.loss(slice(None), *one) for fit, one in zip(fitted, found, strict=True)]))
    weight = weight / spread
    return weight, bias - weight @ mean, loss


def _choose_strength(fits: "Sequence[_Fit]", targets: np.ndarray, seed: int) -> float:
    """The strength with the smallest loss on a part of the examples that is kept back for that."""
    strata = targets.tolist() if targets.ndim == 1 and targets.dtype == np.int64 else [None] * len(targets)
    kept, out = split_rows(strata, PART_TO_CHOOSE, seed)
    losses = []
    for strength in INVERSE_REGULARIZATION:
        found = [(fit, fit.on(kept, strength)) for fit in fits if fit.can(kept)]
        losses.append(np.mean([fit.loss(out, *one) for fit, one in found]) if found else 0.0)
    return INVERSE_REGULARIZATION[int(np.argmin(losses))]


class _Fit:
    """A regression of one target on the inputs: several classes, one of two, or a number."""

    def __init__(
        self, problem_type: str | None, inputs: Inputs, targets: np.ndarray, weights: Sequence[float], bias: bool
    ) -> None:
        self.number = problem_type == REGRESSION
        self.one = problem_type == SINGLE_LABEL
        self.inputs, self.targets, self.bias = inputs, targets, bias
        # As the loss of training has it: each class by its weight, or the positive rows by theirs.
        counts = np.ones(len(targets))
        if weights:
            counts = np.take(weights, targets) if self.one else np.where(targets > 0, weights[0], 1.0)
        self.counts = counts

    def can(self, rows: Any) -> bool:
        """Whether there is something to tell apart among some rows."""
        return self.number or len(np.unique(self.targets[rows])) > 1

    def on(self, rows: Any, strength: float) -> tuple[np.ndarray, np.ndarray]:
        """The weights and biases that fit some rows: those of each class, of a positive answer, or of a number."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression, Ridge

        inputs, targets, counts = self.inputs[rows], self.targets[rows], self.counts[rows]
        if self.number:
            ridge = Ridge(alpha=1 / strength, fit_intercept=self.bias).fit(inputs, targets, sample_weight=counts)
            return np.atleast_2d(ridge.coef_), np.atleast_1d(ridge.intercept_)
        model = LogisticRegression(C=strength, fit_intercept=self.bias, max_iter=STEPS)
        with warnings.catch_warnings():
            # Where the classes can be parted cleanly there is no end to reach; what is found till then serves.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(inputs, targets, sample_weight=counts)
        weight, bias = model.coef_, np.broadcast_to(model.intercept_, len(model.coef_))
        if self.one and len(weight) == 1:  # of two classes scikit-learn gives the difference
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        if self.one and len(model.classes_) < len(self._classes):  # a rare class may be in the other part alone
            weight, bias = self._with_absent(model.classes_, weight, bias)
        return weight, bias

    @property
    def _classes(self) -> np.ndarray:
        return np.unique(self.targets)

    def _with_absent(self, there: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows for the classes that were not there, which are given no better a chance than the least likely."""
        whole = np.zeros((len(self._classes), weight.shape[1])), np.full(len(self._classes), bias.min())
        for all_rows, rows in zip(whole, (weight, bias), strict=True):
            all_rows[there] = rows
        return whole

    def loss(self, rows: Any, weight: np.ndarray, bias: np.ndarray) -> float:
        """The mean loss over some rows."""
        outputs = self.inputs[rows] @ weight.T + bias
        targets, counts = self.targets[rows], self.counts[rows]
        if self.number:
            losses = (outputs[:, 0] - targets) ** 2
        elif self.one:
            losses = np.logaddexp.reduce(outputs, axis=1) - outputs[np.arange(len(targets)), targets]
        else:
            losses = np.logaddexp(0, outputs[:, 0]) - targets * outputs[:, 0]
        return float(np.average(losses, weights=counts))
