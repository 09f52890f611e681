"""Confident learning: which labels are wrong, from out-of-fold probabilities.

Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels"
(https://arxiv.org/abs/1911.00068). Names of sections and equations are those of the paper.

Shapes: N rows, K classes; given labels are indices, (N,), and probabilities (N, K).
"""

import numpy as np


def class_thresholds(probabilities: np.ndarray, given: np.ndarray) -> np.ndarray:
    """The mean probability of each class over the rows with this label (equation 2), (K,); infinite without rows."""
    num_classes = probabilities.shape[1]
    own = np.bincount(given, weights=probabilities[np.arange(len(given)), given], minlength=num_classes)
    counts = np.bincount(given, minlength=num_classes)
    return np.where(counts > 0, own / np.maximum(counts, 1), np.inf)


def confident_joint(probabilities: np.ndarray, given: np.ndarray) -> np.ndarray:
    """The number of rows by given label and by the class that they are confidently in (equation 1), (K, K).

    A row is confidently in the most probable class of those whose threshold its probability reaches.
    """
    num_classes = probabilities.shape[1]
    reached = np.where(probabilities >= class_thresholds(probabilities, given), probabilities, -1.0)
    likely = reached.argmax(1)
    confident = reached.max(1) >= 0
    pairs = given[confident] * num_classes + likely[confident]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def estimate_joint(confident: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The joint distribution of given and true labels (equation 3), (K, K): rows as frequent as the given labels.

    Args:
        confident: the confident joint.
        counts: the number of rows with each given label, (K,).
    """
    totals = confident.sum(1, keepdims=True)
    shares = np.where(totals > 0, confident / np.maximum(totals, 1), np.eye(len(counts)))
    joint = shares * counts[:, None]
    return joint / max(1, joint.sum())


def prune_by_noise_rate(probabilities: np.ndarray, given: np.ndarray) -> np.ndarray:
    """The rows whose label is probably wrong (section 3.2, method 4), (N,) bool.

    For each given label i and other class j these are the N * Q[i, j] rows with the largest margin p[j] - p[i]; a row
    whose given label is its most probable one is never among them.
    """
    counts = np.bincount(given, minlength=probabilities.shape[1])
    expected = np.rint(estimate_joint(confident_joint(probabilities, given), counts) * len(given)).astype(int)
    wrong = np.zeros(len(given), dtype=bool)
    for i in np.flatnonzero(counts):
        rows = np.flatnonzero(given == i)
        for j in np.flatnonzero(expected[i]):
            margins = probabilities[rows, j] - probabilities[rows, i]
            chosen = np.argsort(-margins, kind="stable")[: expected[i, j]] if i != j else []
            wrong[rows[chosen]] = True
    return wrong & (probabilities.argmax(1) != given)


def likely_labels(probabilities: np.ndarray, given: np.ndarray) -> np.ndarray:
    """The most probable other label of each row, (N,)."""
    others = probabilities.copy()
    others[np.arange(len(given)), given] = -1.0
    return others.argmax(1)
