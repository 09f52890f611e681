"""Calibration on held-out predictions: a temperature for one label, a threshold for each of several labels."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.25, 8
# With fewer examples or errors, a temperature fits noise; without errors, it only makes the model more confident.
MIN_EXAMPLES = 50
MIN_ERRORS = 5
MIN_POSITIVES = 5  # of a label, to fit its threshold


def fit_temperature(logits: Tensor, gold: Tensor) -> float | None:
    """The temperature with the smallest cross-entropy (Guo et al. 2017, https://arxiv.org/abs/1706.04599).

    Args:
        logits: (E, L).
        gold: the correct labels, (E,).

    Returns:
        None if there are too few examples or errors.
    """
    errors = int((logits.argmax(-1) != gold).sum())
    if len(gold) < MIN_EXAMPLES or errors < MIN_ERRORS:
        return None
    temperatures = torch.logspace(math.log10(MIN_TEMPERATURE), math.log10(MAX_TEMPERATURE), 121)
    losses = torch.stack([F.cross_entropy(logits / temperature, gold) for temperature in temperatures])
    return temperatures[losses.argmin()].item()


def best_f1_threshold(
    probabilities: Sequence[float], gold: Sequence[bool], min_positives: int = MIN_POSITIVES
) -> float:
    """The probability threshold with the best F1 of one label; 0.5 if fewer than `min_positives` examples have it.

    The threshold is the middle between two neighbouring probabilities.
    """
    truth = np.asarray(gold, dtype=bool)
    if truth.sum() < min_positives:
        return 0.5
    order = np.argsort(-np.asarray(probabilities, dtype=float), kind="stable")
    ranked = np.asarray(probabilities, dtype=float)[order]
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + truth.sum())
    f1[:-1][ranked[:-1] == ranked[1:]] = -1  # no threshold separates equal probabilities
    best = int(np.argmax(f1))
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    middle = (ranked[best] + below) / 2
    return float(middle if middle > below else ranked[best])
