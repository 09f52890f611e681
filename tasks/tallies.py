"""What is counted of each example, so that every metric is a function of sums over examples.

Metrics of the whole data, of a part of it, and of thousands of random samples of it (intervals.py) are then the same
few formulas on different sums; nothing has to be kept but the sums. The values are those of scikit-learn and scipy
(https://scikit-learn.org/stable/modules/model_evaluation.html). An undefined metric is 0: the precision of a label
that is never predicted, the correlation with a constant.

Shapes: E examples, K columns, L labels, R sets of sums.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

LOWER_IS_BETTER = ("loss", "perplexity", "bits_per_byte", "rmse", "mae", "calibration_error")
CALIBRATION_BINS = 15  # Guo et al. 2017, https://arxiv.org/abs/1706.04599

Formulas = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class LabelCounts:
    """Where the counts of each label are among the counts of a tally.

    Args:
        labels: L.
        split: sums (R, K) -> how often each label is correct, is predicted, and is both, (R, L) each.
        unit: what is counted.
        more: further scores of each label, (R, L) each, from sums (R, K).
    """

    labels: tuple[str, ...]
    split: Callable[[np.ndarray], Sequence[np.ndarray]]
    unit: str = "examples"
    more: Formulas | None = None

    def scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        """Precision, recall and F1 of each label, (R, L) each."""
        truth, found, correct = self.split(sums)
        precision, recall = ratio(correct, found), ratio(correct, truth)
        found = {"precision": precision, "recall": recall, "f1": ratio(2 * correct, truth + found)}
        return found | (self.more(sums) if self.more else {})

    def table(self, sums: np.ndarray) -> list[dict[str, Any]]:
        """A row per label: its scores, and how often it is correct, from sums (1, K)."""
        scores, (truth, _, _) = self.scores(sums), self.split(sums)
        return [
            {"label": label, **{name: float(of[0, i]) for name, of in scores.items()}, self.unit: int(truth[0, i])}
            for i, label in enumerate(self.labels)
        ]


def _thirds(size: int, start: int = 0) -> Callable[[np.ndarray], Sequence[np.ndarray]]:
    """Three neighbouring blocks of `size` columns."""
    return lambda sums: [sums[:, start + i * size : start + (i + 1) * size] for i in range(3)]


def label_counts(
    labels: Sequence[str], unit: str = "examples", start: int = 0, more: Formulas | None = None
) -> LabelCounts:
    """Three blocks of a column per label from column `start`: correct labels, predicted labels, and their matches."""
    return LabelCounts(tuple(labels), _thirds(len(labels), start), unit, more)


@dataclass(frozen=True)
class Tally:
    """The counts of some examples.

    Args:
        counts: (E, K), a scipy.sparse array.
        formulas: metrics by name, (R,) each, from sums of the counts, (R, K); NaN where there is nothing to measure.
        proportions: the metrics that are means over the examples of 0 or 1.
        numbers: of metrics that depend on all examples, such as a correlation of ranks: what is compared of each
            example, (E, ...). `counts` are then those among these examples only.
        join: the `numbers` of all examples -> the tally of some of them among all.
        by_label: the counts of each label; None if there are no labels.
        sizes: sums of the counts, (R, K) -> the number of examples that metrics are of, (R,) each, where it is not E.
    """

    counts: Any
    formulas: Formulas
    proportions: frozenset[str] = frozenset()
    numbers: np.ndarray | None = None
    join: "Callable[[np.ndarray], Callable[[slice], Tally]] | None" = None
    by_label: LabelCounts | None = None
    sizes: Formulas | None = None

    def metrics(self) -> dict[str, float]:
        """The metrics of these examples, without those that there is nothing to measure for."""
        return measured(self.formulas(self._sums))

    def per_label(self) -> list[dict[str, Any]]:
        """The scores of each label in these examples; empty if there are no labels."""
        return self.by_label.table(self._sums) if self.by_label else []

    @property
    def _sums(self) -> np.ndarray:
        return np.asarray(self.counts.sum(0), dtype=float)[None]


def measured(found: dict[str, np.ndarray]) -> dict[str, float]:
    """The first value of each metric that is not NaN."""
    return {name: float(values[0]) for name, values in found.items() if not np.isnan(values[0])}


def _sparse(columns: Iterable[tuple[int, np.ndarray, np.ndarray | float]], shape: tuple[int, int]) -> Any:
    """Counts from (first column, each example's column counted from it or -1 for none, each example's value)."""
    from scipy.sparse import coo_array, csr_array

    rows, places, values = [], [], []
    for first, index, value in columns:
        has = np.flatnonzero(index >= 0)
        rows.append(has)
        places.append(first + index[has])
        values.append(np.broadcast_to(np.asarray(value, dtype=float), index.shape)[has])
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(places))
    return csr_array(coo_array(entries, shape=shape))


def tally_labels(predictions: Sequence[Any], gold: Sequence[Any], labels: Sequence[str]) -> Tally:
    """Accuracy, macro and weighted F1, Matthews correlation and expected calibration error.

    Macro F1 averages over the labels that occur among the predictions or the gold labels. With two labels,
    `f1_positive` is the F1 of the second one, as in GLUE. The calibration error is the mean gap between confidence and
    accuracy, over bins of equal width.

    Args:
        predictions: each with a `label` and its probability, `score`.
        gold: the correct labels.
        labels: all labels.
    """
    index = {label: i for i, label in enumerate(labels)}
    truth = np.array([index[label] for label in gold], dtype=np.int64)
    found = np.array([index[one.label] for one in predictions], dtype=np.int64)
    confidence = np.clip([one.score for one in predictions], 0, 1)  # a softmax may exceed 1 by rounding
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    size, correct = len(labels), truth == found
    columns = [
        (0, truth, 1.0),
        (size, found, 1.0),
        (2 * size, np.where(correct, truth, -1), 1.0),
        (3 * size, bins, confidence - correct),
    ]
    counts = _sparse(columns, (len(truth), 3 * size + CALIBRATION_BINS))
    return Tally(counts, label_formulas(size), frozenset({"accuracy"}), by_label=label_counts(labels))


def label_formulas(size: int) -> Formulas:
    """The metrics of one label per example, from the sums of gold, predicted and correct labels, and of the bins."""

    def formulas(sums: np.ndarray) -> dict[str, np.ndarray]:
        truth, found, correct, bins = np.split(sums, [size, 2 * size, 3 * size], axis=1)
        total, right = truth.sum(1), correct.sum(1)
        f1, occurs = ratio(2 * correct, truth + found), truth + found > 0
        spread = (total**2 - (found**2).sum(1)) * (total**2 - (truth**2).sum(1))
        scores = {
            "accuracy": ratio(right, total, np.nan),
            "f1": ratio((f1 * occurs).sum(1), occurs.sum(1)),
            "f1_weighted": ratio((f1 * truth).sum(1), total),
            "matthews_correlation": ratio(right * total - (found * truth).sum(1), np.sqrt(np.maximum(spread, 0))),
            "calibration_error": ratio(np.abs(bins).sum(1), total),
        }
        return {**scores, "f1_positive": f1[:, 1]} if size == 2 else scores

    return formulas


def tally_label_sets(predictions: Sequence[Sequence[str]], gold: Sequence[Any], labels: Sequence[str]) -> Tally:
    """Micro F1, macro F1, micro precision and recall, and accuracy: the share of rows with exactly the gold labels.

    Args:
        predictions: the predicted labels of each example.
        gold: the correct ones.
        labels: all labels.
    """
    from scipy.sparse import csr_array, hstack

    index = {label: i for i, label in enumerate(labels)}
    truth, found = (_indicators(rows, index) for rows in (gold, predictions))
    same = [set(one) == set(other) for one, other in zip(predictions, gold, strict=True)]
    rows = csr_array(np.column_stack([np.ones(len(same)), np.asarray(same, dtype=float)]))
    counts = csr_array(hstack([truth, found, truth.multiply(found), rows]))
    size = len(labels)

    def formulas(sums: np.ndarray) -> dict[str, np.ndarray]:
        truth, found, correct, rows = np.split(sums, [size, 2 * size, 3 * size], axis=1)
        return {
            "f1": ratio(2 * correct.sum(1), truth.sum(1) + found.sum(1)),
            "f1_macro": ratio(2 * correct, truth + found).mean(1),
            "precision": ratio(correct.sum(1), found.sum(1)),
            "recall": ratio(correct.sum(1), truth.sum(1)),
            "accuracy": ratio(rows[:, 1], rows[:, 0], np.nan),
        }

    return Tally(counts, formulas, frozenset({"accuracy"}), by_label=label_counts(labels))


def _indicators(rows: Sequence[Sequence[str]], index: dict[str, int]) -> Any:
    """(E, L), 1 where an example has a label."""
    from scipy.sparse import csr_array

    columns = [index[label] for row in rows for label in row]
    starts = np.cumsum([0, *(len(row) for row in rows)])
    return csr_array((np.ones(len(columns)), columns, starts), shape=(len(rows), len(index)))


def tally_numbers(
    predictions: Sequence[float] | np.ndarray,
    gold: Sequence[Any] | np.ndarray,
    names: Sequence[str] = ("pearson", "spearman", "rmse", "mae"),
) -> Tally:
    """Pearson and Spearman correlation, root mean squared error and mean absolute error, or some of them by name.

    The ranks of Spearman's correlation are those among all examples, in samples of them as well. So both numbers of
    all examples are needed: 16 bytes per example, and 48 more while they are joined.
    """
    numbers = np.column_stack([np.asarray(one, dtype=float) for one in (predictions, gold)])
    return _join_numbers(numbers, names)(slice(None))


def _join_numbers(numbers: np.ndarray, names: Sequence[str]) -> Callable[[slice], Tally]:
    """The tally of some of the examples, whose ranks and scales are those among all."""
    from scipy.sparse import csr_array
    from scipy.stats import rankdata

    ranks = [rankdata(column) for column in numbers.T]
    scales = [_scale(column) for column in (*numbers.T, *ranks)]

    def part(rows: slice) -> Tally:
        found, truth = numbers[rows].T
        columns = found, truth, *(one[rows] for one in ranks)
        x, y, u, v = ((one - mean) / std for one, (mean, std) in zip(columns, scales, strict=True))
        error = found - truth
        sums = [np.ones(len(error)), error**2, np.abs(error), *_moments(x, y), *_moments(u, v)]
        return Tally(
            csr_array(np.column_stack(sums)),
            lambda sums: _number_formulas(sums, names),
            numbers=numbers[rows],
            join=lambda numbers: _join_numbers(numbers, names),
        )

    return part


def _number_formulas(sums: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    total, squared, absolute = sums[:, :3].T
    scores = {
        "pearson": _correlation(total, sums[:, 3:8]),
        "spearman": _correlation(total, sums[:, 8:13]),
        "rmse": np.sqrt(ratio(squared, total, np.nan)),
        "mae": ratio(absolute, total, np.nan),
    }
    return {name: scores[name] for name in names}


def _correlation(total: np.ndarray, moments: np.ndarray) -> np.ndarray:
    x, y, xx, yy, xy = moments.T / np.maximum(total, 1)
    spread = np.maximum(xx - x * x, 0) * np.maximum(yy - y * y, 0)
    return np.clip(ratio(xy - x * y, np.sqrt(np.where(spread > 1e-20, spread, 0))), -1, 1)


def _scale(values: np.ndarray) -> tuple[float, float]:
    """The mean and the standard deviation (1 for a constant), without which sums of squares stay precise.

    Correlations do not depend on them.
    """
    if not len(values):
        return 0.0, 1.0
    centred = values - values.mean()
    largest = float(np.abs(centred).max())
    std = largest * float((centred / largest).std()) if largest else 0.0  # the mean of a constant may be rounded
    return float(values.mean()), std or 1.0


def _moments(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    return x, y, x * x, y * y, x * y


def ratio(numerator: np.ndarray, denominator: np.ndarray, undefined: float = 0.0) -> np.ndarray:
    """A quotient, and `undefined` where the denominator is 0."""
    defined = denominator != 0
    return np.where(defined, numerator / np.where(defined, denominator, 1), undefined)


def tally_means(values: Mapping[str, Sequence[float] | np.ndarray], *, of_01: Iterable[str] = ()) -> Tally:
    """Metrics that are means over the examples for which they are defined.

    Args:
        values: of each metric, one per example; NaN where the metric is not defined for an example.
        of_01: the metrics that are defined for every example, and 0 or 1.
    """
    from scipy.sparse import csr_array

    names = tuple(values)
    columns = np.column_stack([np.asarray(values[name], dtype=float) for name in names])
    defined = ~np.isnan(columns)
    counts = csr_array(np.hstack([np.where(defined, columns, 0), defined.astype(float)]))

    def formulas(sums: np.ndarray) -> dict[str, np.ndarray]:
        totals, sizes = np.split(sums, 2, axis=1)
        return {name: ratio(totals[:, i], sizes[:, i], np.nan) for i, name in enumerate(names)}

    def number_defined(sums: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, np.split(sums, 2, axis=1)[1].T, strict=True))

    return Tally(counts, formulas, frozenset(of_01), sizes=number_defined)


def side_by_side(tallies: Sequence[Tally]) -> Tally:
    """The metrics of several tallies of the same examples; none of them is joined or has labels."""
    from scipy.sparse import csr_array, hstack

    ends = np.cumsum([one.counts.shape[1] for one in tallies])[:-1]

    def merged(formulas: Sequence[Formulas | None]) -> Formulas:
        def formula(sums: np.ndarray) -> dict[str, np.ndarray]:
            parts = zip(formulas, np.split(sums, ends, axis=1), strict=True)
            return {name: values for one, part in parts if one is not None for name, values in one(part).items()}

        return formula

    return Tally(
        csr_array(hstack([one.counts for one in tallies])),
        merged([one.formulas for one in tallies]),
        frozenset().union(*(one.proportions for one in tallies)),
        sizes=merged([one.sizes for one in tallies]),
    )


def of_some(tally: Tally, rows: Sequence[int], total: int) -> Tally:
    """The tally of `total` examples of which only those at `rows` are counted."""
    from scipy.sparse import csr_array

    places = csr_array((np.ones(len(rows)), (rows, np.arange(len(rows)))), shape=(total, len(rows)))
    return replace(tally, counts=csr_array(places @ tally.counts), proportions=frozenset())
