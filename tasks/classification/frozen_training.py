"""Training of the classifier alone, by logistic regression on the vectors of a frozen model: seconds, not minutes.

The model computes a vector for each different sequence once (text_vectors.py), and a linear model is fitted to them
(logistic_regression.py). The result is stored as the classifier of the published head, so the model folder is like any
other.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ...core.errors import HeadwayError
from ...core.models.bert import BertPooler
from ...core.models.heads import Network, SequenceHead
from ...core.models.mean_block import averages
from ...core.training.devices import accelerator_for
from ...core.training.distributed import processes
from ...core.training.training_config import TrainConfig
from ...core.training.training_events import Event, Finished, Note, Started, Step
from ..data.features import Features
from ..data.labels import REGRESSION, SINGLE_LABEL
from .logistic_regression import Problem, fit_linear
from .text_vectors import Sequences, choose_pooling, head_vectors, linearize_pooler, read_pooled

if TYPE_CHECKING:
    from .classification import TextClassification


def fit_classifier(
    task: "TextClassification",
    network: Network,
    windows_by_example: Sequence[list[Features]],
    config: TrainConfig,
    *,
    quick: bool = False,
) -> Iterator[Event]:
    """Fits the network's classifier (and replaces its pooler) in place, as the events of a run of one step.

    If the mean of the tokens' vectors represents a text, the network gets another backbone, which ends with a layer
    for it.

    Args:
        task: with inferred labels.
        network: a backbone, whose weights stay unchanged, with a new SequenceHead.
        windows_by_example: the features of each example.
        config: only `device` and `seed` are used.
        quick: one strength of regularization and few iterations, for a first figure.

    Raises:
        HeadwayError: a label occurs on no example, or (with several labels) on every example.
    """
    problem = problem_of(task, windows_by_example, None if quick else config.seed)
    device = accelerator_for(replace(config, precision="fp32", trackers=()), None).device
    began = time.perf_counter()
    network.to(device).eval()
    assert isinstance(network.head, SequenceHead)
    yield started(1, len(windows_by_example), network.head.classifier, device, config.seed)
    layer, note = choose_pooling(task, network, windows_by_example, problem)
    if note:
        yield Note(0, note)
    read_pooled(network, layer)
    loss = fit_head(network, windows_by_example, problem)
    seconds = time.perf_counter() - began
    tokens = sum(len(one.input_ids) for windows in windows_by_example for one in windows)
    rate = tokens / seconds
    yield Step(1, 1.0, loss, 0.0, 0.0, tokens, rate, 0.0)
    yield Finished(1, seconds, rate, loss, {}, None, False)


def started(steps: int, examples: int, trained: nn.Module, device: torch.device, seed: int) -> Started:
    """The first event of a fit by logistic regression, of the parameters of `trained`."""
    return Started(
        total_steps=steps,
        warmup_steps=0,
        learning_rate=0.0,
        examples=examples,
        parameters=sum(p.numel() for p in trained.parameters()),
        device=str(device),
        precision="fp32",
        processes=processes().world_size,
        seed=seed,
        resumed_from=None,
    )


def problem_of(task: "TextClassification", windows_by_example: Sequence[list[Features]], seed: int | None) -> Problem:
    """What the classifier has to predict.

    Args:
        task: with inferred labels.
        windows_by_example: the features of each example.
        seed: of random splits; None: for a quick fit.

    Raises:
        HeadwayError: a label occurs on no example, or (with several labels) on every example.
    """
    kind = task.problem_type or SINGLE_LABEL
    dtype = np.int64 if kind == SINGLE_LABEL else float
    targets = np.array([windows[0].target for windows in windows_by_example], dtype=dtype)
    _check_varied(task, targets)
    groups = Sequences.of(windows_by_example).of_examples
    return Problem(kind, targets, groups, len(task.labels), task.weights, seed)


def fit_head(network: Network, windows_by_example: Sequence[list[Features]], problem: Problem) -> float:
    """Fits the head of a network, in place, and returns the mean loss over the examples."""
    head = network.head
    assert isinstance(head, SequenceHead)
    problem = replace(problem, scale_each=not averages(network.backbone))
    sequences = Sequences.of(windows_by_example)
    vectors = head_vectors(network, sequences.features)
    if isinstance(head.pooler, BertPooler):
        vectors = linearize_pooler(head.pooler, vectors, problem.scale_each)
    fit_bias = head.classifier.bias is not None
    weight, bias, loss = fit_linear(problem, sequences.average(vectors), fit_bias=fit_bias)
    with torch.no_grad():
        head.classifier.weight.copy_(torch.from_numpy(weight))
        if head.classifier.bias is not None:
            head.classifier.bias.copy_(torch.from_numpy(bias))
    return loss


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
