"""Vectors of texts and of words by a frozen model, and out-of-fold predictions of linear models on them.

Shapes: E examples, N rows (texts or words), S layers, C hidden size, K classes.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...core.models.activations import record_activations
from ...core.models.packing import BatchSampler
from ..base.inference import Encoder
from ..base.task import Task
from ..data.features import INFERENCE_BATCH_TOKENS, Features, pack
from ..embedding.embedder import Embedder

INVERSE_REGULARIZATION = (
    1e-4,
    1e-3,
    1e-2,
    1e-1,
)  # scikit-learn's C for standardized vectors; chosen on the first fold
MAX_ITERATIONS = 100
MOST_LAYERS = 7  # that are read: lower ones know more about words and syntax, higher ones about meaning


@dataclass(frozen=True)
class FrozenModel:
    """The backbone of a model, in inference mode.

    Args:
        embedder: the model.
        encoder: of its inputs.
    """

    embedder: Embedder
    encoder: Encoder

    @classmethod
    def open(cls, model: str | Path, device: str = "auto") -> "FrozenModel":
        """A model folder, a built-in model or a Hub id.

        Raises:
            HeadwayError: there is no such model, or it cannot be read.
        """
        embedder = Embedder(model, device=device)
        return cls(embedder, Encoder(str(model), embedder.tokenizer, embedder.backbone.config))

    def text_vectors(self, task: Task[Any, Any], examples: Sequence[Any]) -> np.ndarray:
        """The mean vectors of each example's tokens in several layers, over all its windows, (E, S, C)."""
        windows_by_example = self.encoder.encode(task, examples)
        features = [one for windows in windows_by_example for one in windows]
        sums = np.stack(self._states(features, lambda _, states: states.sum(0)))
        owner = np.repeat(np.arange(len(examples)), [len(windows) for windows in windows_by_example])
        total, lengths = np.zeros((len(examples), *sums.shape[1:]), dtype=np.float32), np.zeros(len(examples))
        np.add.at(total, owner, sums)
        np.add.at(lengths, owner, [len(one.input_ids) for one in features])
        return total / lengths[:, None, None].astype(np.float32)

    def word_vectors(self, task: Task[Any, Any], examples: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The vectors of the first tokens of words, (N, 1, C), the example and the position of each, (N,) each."""
        features = [one for windows in self.encoder.encode(task, examples) for one in windows]
        vectors = self._states(features, lambda one, states: states[one.metadata.positions, -1:])
        owners = [one.example for one in features for _ in one.metadata.words]
        words = [word for one in features for word in one.metadata.words]
        return np.concatenate(vectors), np.array(owners), np.array(words)

    @torch.inference_mode()
    def _states(
        self, features: Sequence[Features], read: Callable[[Features, np.ndarray], np.ndarray]
    ) -> list[np.ndarray]:
        """What `read` returns for each sequence and its states in several layers, (n, S, C), the last layer last."""
        depth = self.encoder.config.num_layers
        layers = np.unique(np.linspace(0, depth, min(depth + 1, MOST_LAYERS)).round().astype(int)).tolist()
        found: dict[int, np.ndarray] = {}
        sampler = BatchSampler([len(one.input_ids) for one in features], batch_tokens=INFERENCE_BATCH_TOKENS)
        for indices in sampler.by_length():
            batch = pack([features[i] for i in indices]).to(self.embedder.device)
            with record_activations(self.embedder.backbone, attentions=False) as activations:
                self.embedder.backbone(batch)
            stacked = torch.stack([activations.hidden_states[layer] for layer in layers], dim=1)
            states = batch.split(stacked.float().cpu())
            found |= {i: read(features[i], one.numpy()) for i, one in zip(indices, states, strict=True)}
        return [found[i] for i in range(len(features))]


def out_of_fold_probabilities(
    vectors: np.ndarray, classes: np.ndarray, folds: np.ndarray, num_classes: int
) -> np.ndarray:
    """The probabilities by logistic regression on the rows of the other folds, (N, K); NaN for rows in no fold.

    Args:
        vectors: (N, C).
        classes: of the rows, (N,).
        num_classes: K.
        folds: of the rows, from 0; -1: always trained on, (N,).
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    def fit(inputs: np.ndarray, targets: np.ndarray, c: float) -> Callable[[np.ndarray], np.ndarray]:
        known = np.unique(targets)
        if len(known) == 1:
            return lambda others: np.eye(num_classes)[np.full(len(others), known[0])]
        regression = LogisticRegression(C=c, max_iter=MAX_ITERATIONS, tol=1e-3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            regression.fit(inputs, targets)

        def predict(others: np.ndarray) -> np.ndarray:
            found = np.zeros((len(others), num_classes))
            found[:, known] = regression.predict_proba(others)
            return found

        return predict

    def loss(found: np.ndarray, targets: np.ndarray) -> float:
        return float(-np.log(np.maximum(found[np.arange(len(targets)), targets], 1e-12)).mean())

    return _out_of_fold(vectors, classes, folds, (fit, loss))


def out_of_fold_numbers(vectors: np.ndarray, numbers: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """As `out_of_fold_probabilities`, the predictions of ridge regression for numbers, (N,)."""
    from sklearn.linear_model import Ridge

    def fit(inputs: np.ndarray, targets: np.ndarray, c: float) -> Callable[[np.ndarray], np.ndarray]:
        return Ridge(alpha=1 / c).fit(inputs, targets).predict

    return _out_of_fold(vectors, numbers, folds, (fit, lambda found, targets: float(((found - targets) ** 2).mean())))


def _out_of_fold(
    vectors: np.ndarray,
    targets: np.ndarray,
    folds: np.ndarray,
    regression: tuple[Callable[..., Any], Callable[..., float]],
) -> np.ndarray:
    fit, loss = regression
    std = vectors.std(0)
    inputs = (vectors - vectors.mean(0)) / np.where(std > 1e-4 * std.mean(), std, np.inf)
    found = np.empty(0)
    best: float | None = None
    for fold in np.unique(folds[folds >= 0]):
        rows = folds == fold
        tried = {c: fit(inputs[~rows], targets[~rows], c)(inputs[rows]) for c in _strengths(best)}
        best = min(tried, key=lambda c: loss(tried[c], targets[rows]))
        if not len(found):
            found = np.full((len(vectors), *tried[best].shape[1:]), np.nan)
        found[rows] = tried[best]
    return found


def _strengths(chosen: float | None) -> tuple[float, ...]:
    return INVERSE_REGULARIZATION if chosen is None else (chosen,)


def nearest(units: np.ndarray, row: int, candidates: np.ndarray, most: int) -> list[tuple[int, float]]:
    """The candidates with the largest cosines in descending order, and the cosines.

    Args:
        units: vectors of length 1, (N, C).
        row: the position of the one to compare with.
        candidates: positions.
        most: number of candidates to return.
    """
    cosines = units[candidates] @ units[row]
    chosen = np.argsort(-cosines, kind="stable")[:most]
    return [(int(candidates[i]), float(cosines[i])) for i in chosen]
