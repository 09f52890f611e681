"""Linear models of labels and numbers on the vectors of texts: logistic and ridge regression.

scikit-learn fits them (https://scikit-learn.org/stable/modules/linear_model.html). Components are centred and scaled,
so that regularization treats them alike; its strength is the one with the smallest loss in cross-validation. Vectors
of different kinds are compared by the leave-one-out errors of ridge regression, which need no refits.

Shapes: E examples, C size of a vector, N outputs.
"""

import warnings
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from ..data.labels import REGRESSION, SINGLE_LABEL
from ..data.split import split_rows

INVERSE_REGULARIZATION = tuple(10.0**power for power in range(-4, 1))  # scikit-learn's C, chosen on held-out examples
DEFAULT_C = 0.01  # where nothing can be held out, and of a quick fit
HELD_OUT = 0.2
SPLITS = ((5_000, 10), (20_000, 3))  # up to so many rows times outputs: number of random splits; above, a single one
RIDGE_STRENGTHS = tuple(10.0**power for power in range(-3, 3))  # relative to the size of a vector
MIN_RELATIVE_STD = 1e-4  # components that vary less, relative to the mean of all, are noise
MAX_ITER, QUICK_ITER = 1000, 100

Vectors = np.ndarray  # (E, C)


@dataclass(frozen=True, eq=False)
class Problem:
    """What linear models predict from vectors.

    Args:
        kind: of the labels: SINGLE_LABEL, MULTI_LABEL or REGRESSION.
        targets: the class or the number of each example, (E,), or 0 and 1 for each label, (E, N).
        groups: equal for examples with equal texts, (E,).
        num_classes: of SINGLE_LABEL.
        weights: of the classes, or of the positive examples of each label; empty: 1.
        seed: of the random splits; None: a quick fit of one strength of regularization.
        scale_each: whether every component is scaled to the same variance, as single tokens need whose vectors have a
            few very large components; otherwise all are scaled alike, as suits means (1 to 2 points better).
    """

    kind: str
    targets: np.ndarray
    groups: Sequence[Hashable]
    num_classes: int
    weights: tuple[float, ...] = ()
    seed: int | None = 0
    scale_each: bool = True

    def of(self, rows: np.ndarray) -> Self:
        """The problem of some rows."""
        return replace(self, targets=self.targets[rows], groups=[self.groups[i] for i in rows])

    def splits(self) -> Iterator[tuple[list[int], list[int]]]:
        """Random splits into rows to fit and held-out rows, stratified by class."""
        strata = self.targets.tolist() if self.kind == SINGLE_LABEL else [None] * len(self.targets)
        size = self.targets.size * max(self.num_classes, 1)
        for i in range(next((count for most, count in SPLITS if size <= most), 1)):
            train, held_out = split_rows(strata, HELD_OUT, (self.seed or 0) + i, self.groups)
            if held_out:
                yield train, held_out


def fit_linear(problem: Problem, inputs: Vectors, *, fit_bias: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """The weights (N, C), the biases (N,) and the mean loss over the examples."""
    regressions, mean, std = _regressions(problem, inputs, fit_bias=fit_bias)
    c = DEFAULT_C if problem.seed is None else _choose_c(problem, regressions)
    fitted = [one.fit(slice(None), c) for one in regressions]
    weight = np.concatenate([weight for weight, _ in fitted]) / std
    bias = np.concatenate([bias for _, bias in fitted])
    loss = float(np.mean([one.loss(slice(None), *found) for one, found in zip(regressions, fitted, strict=True)]))
    return weight, bias - weight @ mean, loss


def leave_one_out_error(problem: Problem, inputs: Vectors) -> float:
    """The mean squared error of ridge regression on each example, fitted to the others, at the best strength.

    The targets are 0 and 1 for each class or label, or standardized numbers. See Hastie et al. 2009, "The Elements of
    Statistical Learning", section 7.10.1. Of equal texts only one is used.
    """
    rows = list({group: i for i, group in enumerate(problem.groups)}.values())
    targets = problem.targets[rows]
    if problem.kind == SINGLE_LABEL:
        targets = np.eye(problem.num_classes)[targets]
    targets = targets.reshape(len(rows), -1) - targets.reshape(len(rows), -1).mean(0)
    standardized = (inputs[rows] - inputs[rows].mean(0)) / component_scale(inputs[rows], problem.scale_each)
    values, vectors = np.linalg.eigh(standardized @ standardized.T)
    errors = []
    for strength in RIDGE_STRENGTHS:
        inverse = (vectors / (values.clip(0) + strength * inputs.shape[1])) @ vectors.T
        errors.append(float(((inverse @ targets / inverse.diagonal()[:, None]) ** 2).mean()))
    return min(errors)


def component_scale(vectors: Vectors, each: bool) -> np.ndarray:
    """What each component is divided by, (C,): its standard deviation, or that of all; infinite for noise."""
    std = vectors.std(0)
    scale = std if each else np.full_like(std, np.sqrt((std**2).mean()))
    return np.where(std > MIN_RELATIVE_STD * std.mean(), scale, np.inf)


def _regressions(
    problem: Problem, inputs: Vectors, *, fit_bias: bool
) -> tuple[list["_Regression"], np.ndarray, np.ndarray]:
    """A regression for each column of targets on scaled vectors, and the mean and scale of each component."""
    mean = inputs.mean(0) if fit_bias else np.zeros(inputs.shape[1])
    std = component_scale(inputs, problem.scale_each)
    standardized = (inputs - mean) / std
    targets, weights = problem.targets, problem.weights
    if targets.ndim == 1:
        return [_Regression(problem, standardized, targets, weights, fit_bias)], mean, std
    columns = enumerate(targets.T)
    return [_Regression(problem, standardized, one, weights[i : i + 1], fit_bias) for i, one in columns], mean, std


def losses_by_strength(problem: Problem, inputs: Vectors, train: Sequence[int], held_out: Sequence[int]) -> np.ndarray:
    """The mean loss on held-out rows for each of INVERSE_REGULARIZATION."""
    scaled = replace(problem, scale_each=False)
    return _losses(_regressions(scaled, inputs, fit_bias=True)[0], train, held_out)


def _losses(regressions: Sequence["_Regression"], train: Sequence[int], held_out: Sequence[int]) -> np.ndarray:
    usable = [one for one in regressions if one.can_fit(train)]
    fitted = ([(one, one.fit(train, c)) for one in usable] for c in INVERSE_REGULARIZATION)
    return np.array([np.mean([one.loss(held_out, *found) for one, found in each]) for each in fitted])


def _choose_c(problem: Problem, regressions: Sequence["_Regression"]) -> float:
    """The C with the smallest loss on held-out examples; DEFAULT_C if none can be held out."""
    losses = [
        _losses(regressions, train, held_out)
        for train, held_out in problem.splits()
        if any(one.can_fit(train) for one in regressions)
    ]
    return INVERSE_REGULARIZATION[int(np.argmin(np.mean(losses, axis=0)))] if losses else DEFAULT_C


class _Regression:
    """A regression on one target column: the index of a class, 0 and 1, or a number."""

    def __init__(
        self, problem: Problem, inputs: Vectors, targets: np.ndarray, weights: Sequence[float], fit_bias: bool
    ) -> None:
        self.number = problem.kind == REGRESSION
        self.classes = problem.num_classes if problem.kind == SINGLE_LABEL else 0
        self.inputs, self.targets, self.fit_bias = inputs, targets, fit_bias
        self.max_iter = QUICK_ITER if problem.seed is None else MAX_ITER
        # As in the loss of training: weights of all classes, or of the positive examples.
        self.sample_weights = np.ones(len(targets))
        if weights:
            of_positives = np.where(targets > 0, weights[0], 1.0)
            self.sample_weights = np.take(weights, targets) if self.classes else of_positives

    def can_fit(self, rows: Any) -> bool:
        """Whether some rows have at least two classes, or numbers."""
        return self.number or len(np.unique(self.targets[rows])) > 1

    def fit(self, rows: Any, c: float) -> tuple[np.ndarray, np.ndarray]:
        """The weights and biases fitted to some rows: one for each class, or for the positives or the number."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression, Ridge

        inputs, targets, sample_weights = self.inputs[rows], self.targets[rows], self.sample_weights[rows]
        if self.number:
            ridge = Ridge(alpha=1 / c, fit_intercept=self.fit_bias).fit(inputs, targets, sample_weight=sample_weights)
            return np.atleast_2d(ridge.coef_), np.atleast_1d(ridge.intercept_)
        model = LogisticRegression(C=c, fit_intercept=self.fit_bias, max_iter=self.max_iter)
        with warnings.catch_warnings():
            # Linearly separable classes never converge; the result after MAX_ITER iterations is good enough.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(inputs, targets, sample_weight=sample_weights)
        weight, bias = model.coef_, np.broadcast_to(model.intercept_, len(model.coef_))
        if self.classes and len(weight) == 1:  # scikit-learn returns one row for two classes: their difference
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        if len(model.classes_) < self.classes:  # these rows lack a rare class
            weight, bias = self._with_all_classes(model.classes_, weight, bias)
        return weight, bias

    def _with_all_classes(
        self, present: np.ndarray, weight: np.ndarray, bias: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Adds the classes that are not present: with zero weights and the smallest bias."""
        whole = np.zeros((self.classes, weight.shape[1])), np.full(self.classes, bias.min())
        for all_rows, rows in zip(whole, (weight, bias), strict=True):
            all_rows[present] = rows
        return whole

    def loss(self, rows: Any, weight: np.ndarray, bias: np.ndarray) -> float:
        """The mean loss over some rows."""
        outputs = self.inputs[rows] @ weight.T + bias
        targets = self.targets[rows]
        if self.number:
            losses = (outputs[:, 0] - targets) ** 2
        elif self.classes:
            losses = np.logaddexp.reduce(outputs, axis=1) - outputs[np.arange(len(targets)), targets]
        else:
            losses = np.logaddexp(0, outputs[:, 0]) - targets * outputs[:, 0]
        return float(np.average(losses, weights=self.sample_weights[rows]))
