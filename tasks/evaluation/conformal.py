"""Split conformal prediction sets (Vovk et al. 2005; the scores are described in tasks/base/decision_rules.py).

The set of a new row has its right label with at least the chosen probability, on average over rows and held-out
samples. The only condition: the new row and the held-out rows are exchangeable (drawn in the same way, in any order),
and the held-out rows trained nothing.

Shapes: E examples, L labels.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core.errors import HeadwayError
from ..base.decision_rules import METHODS, ConformalSets, label_table, nonconformity
from ..base.predictions import Prediction


def fit_conformal(
    predictions: Sequence[Prediction], gold: Sequence[Any], coverage: float, method: str
) -> ConformalSets:
    """The quantile of the scores of the right labels.

    Args:
        predictions: of one label each, for held-out rows.
        gold: the right label of each; one that the model does not know is in no set.
        coverage: the share of rows whose set has the right label.
        method: one of METHODS.

    Raises:
        HeadwayError: the predictions are not of one label, or there are too few for this coverage.
    """
    return fit_sets(gold_scores(predictions, gold, method), coverage, method)


def fit_sets(scores: np.ndarray, coverage: float, method: str) -> ConformalSets:
    """As `fit_conformal`, from the scores of the right labels, (E,).

    Raises:
        HeadwayError: there are too few, or too many of labels that the model does not know.
    """
    if method not in METHODS:
        raise HeadwayError(f"--conformal-method {method}: choose {' or '.join(METHODS)}.")
    rank = quantile_rank(len(scores), coverage, "--conformal")
    quantile = float(np.sort(scores)[rank - 1])
    if math.isinf(quantile):
        unknown = int(np.isinf(scores).sum())
        raise HeadwayError(
            f"--conformal {coverage:g} cannot be reached: {unknown:,} of {len(scores):,} rows have a label that the "
            "model does not know. Add --unknown-labels skip, or train on all labels."
        )
    return ConformalSets(method, quantile, coverage, len(scores))


def quantile_rank(rows: int, share: float, what: str) -> int:
    """The rank, from 1, of the smallest score that is not below those of a share of new rows.

    Args:
        rows: held-out ones, with a score each.
        share: of new rows, on average over samples of held-out rows.
        what: the option, for messages.

    Raises:
        HeadwayError: there are too few rows for this share.
    """
    rank = math.ceil((rows + 1) * share - 1e-9)
    if rank > rows:
        fewest = math.ceil(share / (1 - share) - 1e-9)
        raise HeadwayError(
            f"{what} {share:g} needs at least {fewest:,} held-out rows, and there are {rows:,}. Give more rows, or "
            "choose a lower share."
        )
    return rank


def gold_scores(predictions: Sequence[Prediction], gold: Sequence[Any], method: str) -> np.ndarray:
    """The nonconformity score of each right label, (E,); infinite for one that the model does not know.

    Raises:
        HeadwayError: the predictions are not of one label.
    """
    probabilities = label_table(predictions)
    table = np.array([list(one.values()) for one in probabilities])
    return score_gold(table, list(probabilities[0]), gold, method)[1]


def score_gold(
    table: np.ndarray, labels: Sequence[Any], gold: Sequence[Any], method: str
) -> tuple[np.ndarray, np.ndarray]:
    """The nonconformity scores of all labels, (E, L), and of the right ones, (E,); infinite for unknown ones.

    Args:
        table: the probabilities, (E, L).
        labels: L.
        gold: E right labels.
        method: one of METHODS.
    """
    index = {label: i for i, label in enumerate(labels)}
    places, scores = np.array([index.get(label, -1) for label in gold]), nonconformity(table, method)
    return scores, np.where(places < 0, np.inf, scores[np.arange(len(places)), places])
