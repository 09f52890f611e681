"""Calibration on held-out predictions: a temperature for one label, a threshold for each of several labels."""

from collections.abc import Sequence

import numpy as np


def best_f1_threshold(probabilities: Sequence[float], gold: Sequence[bool], min_positives: int) -> float:
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
