"""The counts of BLEU and chrF of each text, from which the score of any texts together follows (tallies.py).

sacrebleu counts; the formulas are its own (2.6, `BLEU.compute_bleu` with exponential smoothing, and
`CHRF._compute_f_score`), for many sums at once. Its statistics of single texts have no public name; its own tests of
significance read them as this module does.

Shapes: R sets of sums.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..tallies import Formulas, Tally, ratio

BETA = 2.0  # chrF: how much more recall counts than precision
FORMULAS: dict[str, Formulas] = {
    "bleu": lambda sums: {"bleu": bleu(sums)},
    "chrf": lambda sums: {"chrf": chrf(sums)},
}


def tally_texts(name: str, scorer: Any, outputs: Sequence[str], streams: Sequence[Sequence[str | None]]) -> Tally:
    """The counts of outputs.

    Args:
        name: a key of FORMULAS.
        scorer: sacrebleu's metric of this name.
        outputs: one per example.
        streams: the first reference of each example, the second of each, ...
    """
    from scipy.sparse import csr_array

    return Tally(csr_array(np.array(scorer._extract_corpus_statistics(outputs, streams), dtype=float)), FORMULAS[name])


def bleu(sums: np.ndarray) -> np.ndarray:
    """BLEU, (R,), of words of the outputs and of the references, then n-grams in both, then those of the outputs."""
    (words, expected), (correct, total) = sums[:, :2].T, np.split(sums[:, 2:], 2, axis=1)
    smoothing = 2.0 ** np.cumsum(correct == 0, axis=1)
    precisions = ratio(np.where(correct > 0, correct, 1 / smoothing), total)
    with np.errstate(divide="ignore"):
        mean = np.exp(np.log(precisions).mean(1))
    brevity = np.exp(np.minimum(0, 1 - ratio(expected, words, np.inf)))
    return np.where(_any(sums), 100 * np.where(correct.any(1), mean, 0) * brevity, np.nan)


def chrf(sums: np.ndarray) -> np.ndarray:
    """chrF, (R,), of n-grams of the outputs, of the references and of both, for each length."""
    found, expected, matches = sums.reshape(len(sums), -1, 3).transpose(2, 0, 1)
    occurs = (found > 0) & (expected > 0)
    precision, recall = (ratio((ratio(matches, of) * occurs).sum(1), occurs.sum(1)) for of in (found, expected))
    score = 100 * ratio((1 + BETA**2) * precision * recall, BETA**2 * precision + recall)
    return np.where(_any(sums), score, np.nan)


def _any(sums: np.ndarray) -> np.ndarray:
    """Whether anything is counted."""
    return np.asarray(sums.any(1))
