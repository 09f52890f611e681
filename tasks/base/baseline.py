"""Whether a model has learnt anything: its predictions against a constant one, by a permutation test.

The test statistic is the agreement of the predictions with the gold labels, summed over the examples. If nothing was
learnt, the predictions might as well belong to other examples: under a random assignment the sum has a known mean and
variance and is approximately normal (Hoeffding 1951, https://doi.org/10.1214/aoms/1177729593). A model that predicts
the same for every example agrees no more than by chance, however high its accuracy.

Shapes: E examples (or words), K labels.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.training.defaults import MIN_STEPS, suited_rate

SIGNIFICANT = 1.645  # standard deviations: one-sided, 5 %
FEWEST_TO_TEST = 8  # examples; with fewer, even a good model is not significantly better
FEW_STEPS = MIN_STEPS // 2
FEW_ROWS = 10  # per label


@dataclass(frozen=True)
class Baseline:
    """A model beside the best constant prediction, on the same examples.

    Args:
        constant: the constant prediction, to follow "no better than": "always predicting 'billing'".
        metric: by which both are compared.
        score: of the model.
        constant_score: of the constant prediction.
        deviations: by how many standard deviations the model's predictions agree better with the gold labels than the
            same predictions do in random order (`agreement`).
        num_examples: on which both were measured.
    """

    constant: str
    metric: str
    score: float
    constant_score: float
    deviations: float
    num_examples: int

    @property
    def complaint(self) -> str | None:
        """A sentence, if the model is no better than the constant prediction or not certainly better."""
        by_chance = self.deviations < SIGNIFICANT
        scores = f"{self.metric.replace('_', ' ')} {self.score:.3f} on {self.num_examples:,} examples"
        other = f"{self.constant} ({self.constant_score:.3f})"
        if self.score <= self.constant_score:
            found = "" if by_chance else " Its predictions do follow the labels; see the scores of each label."
            return f"{'Nothing was learnt: ' * by_chance}{scores} is no better than {other}.{found}"
        if by_chance and self.num_examples >= FEWEST_TO_TEST:
            return f"Nothing was learnt that could not be chance: {scores} is hardly better than {other}."
        return None


@dataclass(frozen=True)
class HowTrained:
    """What a model was trained with, as far as it explains that nothing was learnt."""

    num_rows: int
    num_labels: int  # 0: there are no labels
    steps: int
    learning_rate: float | None  # None: not by gradient descent
    hidden_size: int

    @classmethod
    def of(cls, info: Mapping[str, Any], num_labels: int, hidden_size: int) -> "HowTrained | None":
        """From headway.json; None if it says nothing about the training."""
        if not info.get("training"):
            return None
        rows, rate = info["data"]["train"]["examples"], info["training"].get("learning_rate")
        return cls(rows, num_labels, info["steps"], rate, hidden_size)

    @property
    def advice(self) -> str:
        """The likely causes and what to change, in sentences."""
        found = []
        if self.learning_rate is not None:
            suited = suited_rate(self.hidden_size)
            if self.steps < FEW_STEPS:
                found.append(f"Few steps ({self.steps:,}): increase --epochs or --max-steps.")
            if not suited / 2 <= self.learning_rate <= suited * 3:
                size = "low" if self.learning_rate < suited else "high"
                rate = f"The learning rate {self.learning_rate:g} is {size} for this model"
                found.append(f"{rate}: try --learning-rate {suited:g}.")
        if self.num_rows < FEW_ROWS * max(1, self.num_labels):
            labels = f" for {self.num_labels:,} labels" if self.num_labels else ""
            merge = ", or merge labels that mean the same (`headway check` lists them)" if self.num_labels > 2 else ""
            found.append(f"{self.num_rows:,} rows{labels} are few: add rows{merge}.")
        if not found:
            found.append("Check with `headway check` that the right columns are read.")
        return f"Likely {'cause' if len(found) == 1 else 'causes'}: {' '.join(found)}"


def explain_no_learning(
    baseline: Baseline | None, trained: HowTrained | None, *, had_learnt: bool = False
) -> str | None:
    """What to print if a model is no better than a constant prediction; None if it is better.

    Args:
        baseline: of the task, on the evaluated examples.
        trained: how the model was trained; None if that is unknown.
        had_learnt: whether it was better on the held-out rows of its training.
    """
    complaint = baseline and baseline.complaint
    if not complaint:
        return None
    if had_learnt:
        return f"{complaint} It was better on its own held-out rows: check that texts and labels mean the same here."
    return f"{complaint} {trained.advice}" if trained else complaint


def agreement(predicted: np.ndarray, gold: np.ndarray) -> float:
    """By how many standard deviations predictions agree better with gold labels than in random order.

    Args:
        predicted: (E, K), for example 1 at the predicted label and 0 elsewhere.
        gold: (E, K).
    """
    predicted, gold = predicted - predicted.mean(0), gold - gold.mean(0)
    # The agreement of prediction i with gold j is predicted[i] @ gold[j]; its double-centred squares sum to this.
    variance = float(((predicted.T @ predicted) * (gold.T @ gold)).sum()) / max(1, len(gold) - 1)
    return float((predicted * gold).sum()) / math.sqrt(variance) if variance > 1e-12 else 0.0


def indicators(rows: Iterable[Iterable[Hashable]], labels: Sequence[Hashable]) -> np.ndarray:
    """(E, K): 1 where a row has a label; labels that are not in `labels` are left out."""
    index = {label: i for i, label in enumerate(labels)}
    rows = [[index[label] for label in row if label in index] for row in rows]
    found = np.zeros((len(rows), len(labels)))
    for i, row in enumerate(rows):
        found[i, row] = 1
    return found


def paired(scores: Sequence[float], others: Sequence[float]) -> float:
    """By how many standard errors the mean of `scores` exceeds that of `others`, scores of the same examples."""
    differences = np.asarray(scores, dtype=float) - np.asarray(others, dtype=float)
    mean, error = float(differences.mean()), float(differences.std()) / math.sqrt(max(1, len(differences)))
    if error == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / error
