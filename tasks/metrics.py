"""Figures for labels and numbers, by the definitions of scikit-learn and scipy.

https://scikit-learn.org/stable/modules/model_evaluation.html

Shapes: E examples, L labels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

BINS = 15  # of confidence, for the calibration error (Guo et al. 2017, https://arxiv.org/abs/1706.04599)


def one_label(predictions: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> dict[str, float]:
    """Accuracy, macro-F1 over the labels that occur, weighted F1, Matthews' correlation and calibration error.

    With two labels there is also `f1_positive`, the F1 of the second one, as GLUE has it.
    """
    truth, guess = (
        _indicator([(label,) for label in gold], labels),
        _indicator([(p.label,) for p in predictions], labels),
    )
    hits, found, there = _counts(truth, guess)
    f1 = _ratio(2 * hits, found + there)
    occurs = found + there > 0
    right = (truth & guess).any(1)
    figures = {
        "accuracy": right.mean(),
        "f1": f1[occurs].mean(),
        "f1_weighted": f1 @ there / len(truth),
        "matthews_correlation": _matthews(hits, found, there),
        "calibration_error": calibration_error([prediction.score for prediction in predictions], right),
    }
    if len(labels) == 2:
        figures["f1_positive"] = f1[1]
    return {name: float(figure) for name, figure in figures.items()}


def several_labels(found: Sequence[Sequence[str]], gold: Sequence[Any], labels: Sequence[str]) -> dict[str, float]:
    """Micro-F1, macro-F1, precision, recall (micro) and the share of rows whose labels are all right."""
    truth, guess = _indicator(gold, labels), _indicator(found, labels)
    hits, given, there = _counts(truth, guess)
    figures = {
        "f1": _ratio(2 * hits.sum(), given.sum() + there.sum()),
        "f1_macro": _ratio(2 * hits, given + there).mean(),
        "precision": _ratio(hits.sum(), given.sum()),
        "recall": _ratio(hits.sum(), there.sum()),
        "accuracy": (truth == guess).all(1).mean(),
    }
    return {name: float(figure) for name, figure in figures.items()}


def numbers(found: Sequence[float], gold: Sequence[Any]) -> dict[str, float]:
    """Pearson's and Spearman's correlation (0 where one side is constant), and the usual errors."""
    guess, truth = np.asarray(found, dtype=float), np.asarray(gold, dtype=float)
    return {
        "pearson": _correlation(guess, truth),
        "spearman": _correlation(_ranks(guess), _ranks(truth)),
        "rmse": float(np.sqrt(np.mean((guess - truth) ** 2))),
        "mae": float(np.mean(np.abs(guess - truth))),
    }


def by_label(found: Sequence[Sequence[str]], gold: Sequence[Any], labels: Sequence[str]) -> list[dict[str, Any]]:
    """A row a label: precision, recall, F1, and how many examples have it."""
    hits, given, there = _counts(_indicator(gold, labels), _indicator(found, labels))
    columns = (_ratio(hits, given), _ratio(hits, there), _ratio(2 * hits, given + there), there)
    return [
        {"label": label, "precision": float(p), "recall": float(r), "f1": float(f), "examples": int(n)}
        for label, p, r, f, n in zip(labels, *columns, strict=True)
    ]


def best_threshold(probabilities: Sequence[float], gold: Sequence[bool], fewest_positives: int) -> float:
    """The probability from which saying yes gives the best F1; 0.5 where there are too few to tell."""
    truth = np.asarray(gold, dtype=bool)
    if truth.sum() < fewest_positives:
        return 0.5
    order = np.argsort(-np.asarray(probabilities, dtype=float), kind="stable")
    ranked = np.asarray(probabilities, dtype=float)[order]
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + truth.sum())
    f1[:-1][ranked[:-1] == ranked[1:]] = -1  # a threshold cannot fall between equals
    best = int(np.argmax(f1))
    below = ranked[best + 1] if best + 1 < len(ranked) else 0.0
    middle = (ranked[best] + below) / 2
    return float(middle if middle > below else ranked[best])


def calibration_error(confidences: Sequence[float], right: Any) -> float:
    """How far confidence and accuracy are apart on average, over bins of equal width."""
    confidence, correct = np.asarray(confidences, dtype=float), np.asarray(right, dtype=float)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=confidence - correct, minlength=BINS)
    return float(np.abs(gaps).sum() / len(correct))


def _indicator(rows: Sequence[Sequence[str]], labels: Sequence[str]) -> np.ndarray:
    """(E, L), true where a row has a label."""
    position = {label: i for i, label in enumerate(labels)}
    indicator = np.zeros((len(rows), len(labels)), dtype=bool)
    for i, row in enumerate(rows):
        indicator[i, [position[label] for label in row]] = True
    return indicator


def _counts(truth: np.ndarray, guess: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How often each label is rightly given, given, and there, (L,) each."""
    return (truth & guess).sum(0), guess.sum(0), truth.sum(0)


def _ratio(part: Any, whole: Any) -> np.ndarray:
    """Of each whole, the part; 0 where nothing is there to be counted."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)


def _matthews(hits: np.ndarray, found: np.ndarray, there: np.ndarray) -> float:
    """Matthews' correlation of several classes (Gorodkin 2004); 0 where one side is constant."""
    examples = int(there.sum())
    covariance = int(hits.sum()) * examples - int(found @ there)
    spread = (examples**2 - int(found @ found)) * (examples**2 - int(there @ there))
    return covariance / spread**0.5 if spread else 0.0


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.clip(_unit(a) @ _unit(b), -1, 1)) if np.ptp(a) and np.ptp(b) else 0.0


def _unit(x: np.ndarray) -> np.ndarray:
    """Deviations from the mean, as a vector of length 1."""
    x = x - x.mean()
    x = x / np.abs(x).max()  # or the squares of tiny numbers would vanish
    return x / np.linalg.norm(x)


def _ranks(x: np.ndarray) -> np.ndarray:
    """Positions in sorted order; equals share the mean of theirs."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
