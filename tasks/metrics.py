"""Metrics of classification and regression, computed by scikit-learn and scipy.

https://scikit-learn.org/stable/modules/model_evaluation.html. An undefined metric is 0: the precision of a label that
is never predicted, the correlation with a constant. Both libraries are imported when a metric is computed, because
that takes about a second.

Shapes: E examples, L labels.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

LOWER_IS_BETTER = ("loss", "perplexity", "bits_per_byte", "rmse", "mae", "calibration_error")
CALIBRATION_BINS = 15  # Guo et al. 2017, https://arxiv.org/abs/1706.04599


def single_label_metrics(predictions: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> dict[str, float]:
    """Accuracy, macro and weighted F1, Matthews correlation and calibration error.

    Macro F1 averages over the labels that occur among the predictions or the gold labels. With two labels,
    `f1_positive` is the F1 of the second one, as in GLUE.

    Args:
        predictions: each with a `label` and its probability, `score`.
        gold: the correct labels.
        labels: all labels.
    """
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    index = {label: i for i, label in enumerate(labels)}
    truth, found = [index[label] for label in gold], [index[one.label] for one in predictions]
    correct = np.equal(truth, found)
    with _no_warnings():
        scores = {
            "accuracy": accuracy_score(truth, found),
            "f1": f1_score(truth, found, average="macro"),
            "f1_weighted": f1_score(truth, found, average="weighted"),
            "matthews_correlation": matthews_corrcoef(truth, found),
            "calibration_error": calibration_error([one.score for one in predictions], correct),
        }
        if len(labels) == 2:
            scores["f1_positive"] = f1_score(truth, found, labels=[1], average="macro")
    return {name: float(score) for name, score in scores.items()}


def multi_label_metrics(
    predictions: Sequence[Sequence[str]], gold: Sequence[Any], labels: Sequence[str]
) -> dict[str, float]:
    """Micro F1, macro F1, micro precision and recall, and accuracy: the share of rows with exactly the gold labels."""
    truth, found = indicators(gold, labels), indicators(predictions, labels)
    precision, recall, f1, _ = _precision_recall_f1(truth, found, "micro")
    _, _, f1_macro, _ = _precision_recall_f1(truth, found, "macro")
    return {
        "f1": float(f1),
        "f1_macro": float(f1_macro),
        "precision": float(precision),
        "recall": float(recall),
        "accuracy": float((truth == found).all(1).mean()),
    }


def regression_metrics(predictions: Sequence[float], gold: Sequence[Any]) -> dict[str, float]:
    """Pearson and Spearman correlation, root mean squared error and mean absolute error."""
    from scipy.stats import pearsonr, spearmanr

    found, truth = np.asarray(predictions, dtype=float), np.asarray(gold, dtype=float)
    return {
        "pearson": _correlation(pearsonr, found, truth),
        "spearman": _correlation(spearmanr, found, truth),
        "rmse": float(np.sqrt(np.mean((found - truth) ** 2))),
        "mae": float(np.mean(np.abs(found - truth))),
    }


def _correlation(correlate: Callable[..., Any], found: np.ndarray, truth: np.ndarray) -> float:
    """The correlation of two vectors; 0 if one is constant."""
    if np.ptp(found) == 0 or np.ptp(truth) == 0:
        return 0.0
    with _no_warnings():
        return float(correlate(found, truth)[0])


def metrics_by_label(
    predictions: Sequence[Sequence[str]], gold: Sequence[Any], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """For each label: precision, recall, F1 and the number of examples with it.

    Args:
        predictions: the predicted labels of each example.
        gold: the correct ones.
        labels: all labels, in the order of the table.
    """
    columns = _precision_recall_f1(indicators(gold, labels), indicators(predictions, labels), None)
    return [
        {"label": label, "precision": float(p), "recall": float(r), "f1": float(f), "examples": int(n)}
        for label, p, r, f, n in zip(labels, *columns, strict=True)
    ]


def calibration_error(confidences: Sequence[float], correct: Sequence[bool] | np.ndarray) -> float:
    """Expected calibration error: the mean gap between confidence and accuracy, over bins of equal width."""
    confidence = np.clip(confidences, 0, 1)  # a softmax may exceed 1 by rounding
    gaps = confidence - np.asarray(correct, dtype=float)
    summed, _ = np.histogram(confidence, CALIBRATION_BINS, range=(0, 1), weights=gaps)
    return float(np.abs(summed).sum() / len(gaps))


def indicators(rows: Sequence[Sequence[str]], labels: Sequence[str]) -> np.ndarray:
    """(E, L), true where an example has a label."""
    index = {label: i for i, label in enumerate(labels)}
    indicators = np.zeros((len(rows), len(labels)), dtype=bool)
    for i, row in enumerate(rows):
        indicators[i, [index[label] for label in row]] = True
    return indicators


def _precision_recall_f1(truth: np.ndarray, found: np.ndarray, average: str | None) -> tuple[Any, Any, Any, Any]:
    from sklearn.metrics import precision_recall_fscore_support

    # scikit-learn reads a single column as a binary target, with the negatives as a label 0 to be left out.
    labels = [1] if truth.shape[1] == 1 else None
    with _no_warnings():
        return precision_recall_fscore_support(truth, found, labels=labels, average=average)


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Silences the warnings about undefined metrics, labels that do not occur and nearly constant numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
