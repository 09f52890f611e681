"""Calibration on held-out predictions: a temperature for one label, thresholds for several labels.

Shapes: E examples, L labels.
"""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from ..data.folds import folds_of

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 8
# With fewer examples or errors, a temperature fits noise; without errors, it only makes the model more confident.
MIN_EXAMPLES = 50
MIN_ERRORS = 5
MIN_POSITIVES = 5  # labels of all rows, to fit a threshold
SHRINKAGE = 20  # rows with a label, for which its own threshold and the common one have the same weight


def fit_temperature(logits: Tensor, gold: Tensor) -> float | None:
    """The temperature with the smallest cross-entropy (Guo et al. 2017, https://arxiv.org/abs/1706.04599).

    The cross-entropy is convex in 1 / temperature, so golden-section search on the logarithm finds its minimum.

    Args:
        logits: (E, L).
        gold: the correct labels, (E,).

    Returns:
        None if there are too few examples or errors.
    """
    from scipy.optimize import minimize_scalar

    errors = int((logits.argmax(-1) != gold).sum())
    if len(gold) < MIN_EXAMPLES or errors < MIN_ERRORS:
        return None

    def loss(logarithm: float) -> float:
        return F.cross_entropy(logits / math.exp(logarithm), gold).item()

    bounds = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-3}).x)


def best_f1_threshold(
    probabilities: Sequence[float] | np.ndarray, gold: Sequence[bool] | np.ndarray, min_positives: int = MIN_POSITIVES
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


def fit_thresholds(probabilities: np.ndarray, gold: np.ndarray) -> tuple[float, ...]:
    """The thresholds of several labels.

    Three kinds are compared by the micro F1 of cross-fitted predictions: 0.5, one common threshold, and a threshold
    for each label that is shrunk towards the common one. A threshold fitted to a few rows with the label is mostly
    noise: of 28 emotions, fitted to 300 rows, the micro F1 on 5,127 other rows is 0.253 with 0.5, 0.310 with own
    thresholds, 0.378 with shrunk ones and 0.393 with a common one (tests/benchmarks/thresholds.py).

    Args:
        probabilities: (E, L).
        gold: true where an example has a label, (E, L).

    Returns:
        The thresholds of the best kind, fitted to all rows, one for each label; empty: 0.5 is not worse.
    """
    fold_of = folds_of(np.arange(len(gold)))
    plain = probabilities >= 0.5
    found = {"plain": plain, "common": plain.copy(), "own": plain.copy()}
    for fold in range(fold_of.max(initial=0) + 1):
        rows = fold_of == fold
        for choice, thresholds in candidates(probabilities[~rows], gold[~rows]).items():
            found[choice][rows] = probabilities[rows] >= thresholds
    best = max(found, key=lambda choice: _micro_f1(found[choice], gold))  # of equal ones the first, the simplest
    return () if best == "plain" else tuple(candidates(probabilities, gold)[best].tolist())


def candidates(probabilities: np.ndarray, gold: np.ndarray) -> dict[str, np.ndarray]:
    """One common threshold, and own ones shrunk towards it, (L,) each; the arguments are as in `fit_thresholds`."""
    common = best_f1_threshold(probabilities.ravel(), gold.ravel())
    positives = gold.sum(0)
    columns = zip(probabilities.T, gold.T, strict=True)
    own = np.array([best_f1_threshold(column, truth, 1) for column, truth in columns])
    weight = positives / (positives + SHRINKAGE)  # 0 for a label that no row has
    return {"common": np.full(len(positives), common), "own": common + weight * (own - common)}


def _micro_f1(found: np.ndarray, gold: np.ndarray) -> float:
    return 2 * (found & gold).sum() / max(1, found.sum() + gold.sum())
