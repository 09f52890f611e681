"""Few-shot training: contrastive training of the model where it helps, then logistic regression on its vectors.

The contrastive step helps with few classes and may hurt with many. Two-fold cross-validation on the labelled rows
decides: in each half the model is trained on the other half, and the losses of linear models on its vectors are
compared with those on the vectors of the unchanged model.
"""

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...core.models.heads import Network, SequenceHead
from ...core.training.devices import accelerator_for
from ...core.training.training_config import TrainConfig
from ...core.training.training_events import Event, Finished, Note, Step
from ..data.features import Features
from ..data.split import split_rows
from .contrastive import num_steps, strata_of, train_vectors
from .frozen_training import fit_head, problem_of, started
from .logistic_regression import Problem, Vectors, losses_by_strength
from .text_vectors import Sequences, choose_pooling, head_vectors, read_pooled

if TYPE_CHECKING:
    from .classification import TextClassification

MIN_GAIN = 0.05  # of the loss; of a few rows less is chance
Windows = Sequence[list[Features]]


def fit_few_shot(
    task: "TextClassification", network: Network, windows_by_example: Windows, config: TrainConfig
) -> Iterator[Event]:
    """Trains a network on few labelled rows, in place, as the events of a run.

    Args:
        task: with inferred labels.
        network: with a new SequenceHead.
        windows_by_example: the features of each example.
        config: its seed, device and precision are used.

    Raises:
        HeadwayError: a label occurs on no example, or (with several labels) on every example.
    """
    problem = problem_of(task, windows_by_example, config.seed)
    device = accelerator_for(replace(config, precision="fp32", trackers=()), None).device
    network.to(device).eval()
    assert isinstance(network.head, SequenceHead)
    halves = _halves(problem)
    sizes = [len(rows) for rows in halves] + [len(windows_by_example)]
    clock = _Clock(sum(map(num_steps, sizes)) + 1)
    yield started(clock.total, len(windows_by_example), network, device, config.seed)
    layer, note = choose_pooling(task, network, windows_by_example, problem)
    if note:
        yield Note(0, note)
    read_pooled(network, layer)
    helps, note = yield from _compare(network, windows_by_example, problem, halves, (config, clock))
    yield Note(clock.step, note)
    if helps:
        targets = torch.from_numpy(problem.targets)
        yield from clock.follow(train_vectors(network, windows_by_example, targets, config))
    loss = fit_head(network, windows_by_example, problem)
    tokens = sum(len(one.input_ids) for windows in windows_by_example for one in windows)
    yield clock.tick(loss, tokens)
    yield Finished(clock.step, clock.seconds, clock.rate, loss, {}, None, False)


@dataclass
class _Clock:
    """Numbers the steps of several runs of the training loop as those of one run."""

    total: int
    step: int = 0
    tokens: int = 0
    began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds

    def tick(self, loss: float, tokens: int, learning_rate: float = 0.0, grad_norm: float = 0.0) -> Step:
        """The next step."""
        self.step, self.tokens = self.step + 1, self.tokens + tokens
        left = self.seconds / self.step * (self.total - self.step)
        return Step(self.step, self.step / self.total, loss, learning_rate, grad_norm, tokens, self.rate, left)

    def follow(self, events: Iterator[Event]) -> Iterator[Event]:
        """The steps of one run of the loop."""
        for event in events:
            if isinstance(event, Step):
                yield self.tick(event.loss, event.tokens, event.learning_rate, event.grad_norm)


def _halves(problem: Problem) -> list[list[int]]:
    """Two halves of the rows with about the same share of each label; none if a half would have a single label."""
    if len(problem.targets) < 4:
        return []
    strata = strata_of(torch.from_numpy(problem.targets))
    halves = split_rows(strata, 0.5, problem.seed or 0, problem.groups)
    varied = all(len(half) > 1 and len({strata[i] for i in half}) > 1 for half in halves)
    return list(halves) if varied else []


def _compare(
    network: Network,
    windows_by_example: Windows,
    problem: Problem,
    halves: list[list[int]],
    run: tuple[TrainConfig, _Clock],
) -> Iterator[Event]:
    """Whether contrastive training helps, and a sentence about it."""
    if not halves:
        return False, (
            "contrastive training is left out: with so few rows nothing can be held out to see whether it helps"
        )
    config, clock = run
    frozen = _vectors(network, windows_by_example)
    losses: list[list[np.ndarray]] = [[], []]  # frozen, contrastive; of each half, of each strength
    for train, held_out in (halves, halves[::-1]):
        losses[0].append(losses_by_strength(problem, frozen, train, held_out))
        trained = copy.deepcopy(network)
        some, targets = [windows_by_example[i] for i in train], torch.from_numpy(problem.targets[train])
        yield from clock.follow(train_vectors(trained, some, targets, config))
        vectors = _vectors(trained.eval(), windows_by_example)
        losses[1].append(losses_by_strength(problem, vectors, train, held_out))
        if losses[1][0].min() >= losses[0][0].min():
            break  # the other half would hardly change that
    before, after = (float(np.mean(each, axis=0).min()) for each in losses)
    found = f"the loss on held-out halves is {after:.3f} instead of {before:.3f}"
    if after < before * (1 - MIN_GAIN):
        return True, f"contrastive training of the model helps: {found} (--frozen leaves it out)"
    return False, f"contrastive training of the model is left out, because it does not help enough: {found}"


def _vectors(network: Network, windows_by_example: Windows) -> Vectors:
    sequences = Sequences.of(windows_by_example)
    return sequences.average(head_vectors(network, sequences.features))
