"""Removes the bias of a language model towards some labels from its label probabilities.

Contextual calibration (Zhao et al. 2021, https://arxiv.org/abs/2102.09690): the prior of a label is its mean
probability after texts without content. Batch calibration (Zhou et al. 2023, https://arxiv.org/abs/2309.17249): the
prior is its mean probability over many texts. Both divide the probabilities by the prior and normalize them again.

Multi-label prompts: the independent probability of a label is p / (p + prior), so a label applies if the text makes
it more likely than its prior.

Shapes: O orders of the demonstrations, E texts, L labels.
"""

from collections.abc import Sequence

import numpy as np

CONTEXTUAL, BATCH, NONE = "contextual", "batch", "none"
CONTENT_FREE = ("N/A", "[MASK]", "")  # the texts of Zhao et al., section 5
MIN_PRIOR = 1e-30  # avoids a division by zero


def probabilities(log_likelihoods: np.ndarray, lengths: Sequence[int] | None = None) -> np.ndarray:
    """Normalizes label likelihoods to probabilities that sum to 1.

    Args:
        log_likelihoods: (..., L).
        lengths: number of tokens of each label; if given, the mean over a label's tokens is used instead of the sum.

    Returns:
        (..., L).
    """
    scores = log_likelihoods if lengths is None else log_likelihoods / np.asarray(lengths)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return scores / scores.sum(axis=-1, keepdims=True)


def calibrate(probabilities: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Divides probabilities (..., L) by a prior that broadcasts to them, and normalizes them again."""
    scores = probabilities / np.maximum(prior, MIN_PRIOR)
    return scores / scores.sum(axis=-1, keepdims=True)


def independent_probabilities(probabilities: np.ndarray, prior: np.ndarray | None = None) -> np.ndarray:
    """The probability that each label applies, independently of the others, (..., L).

    Args:
        probabilities: (..., L), which sum to 1.
        prior: broadcasts to them; None for a uniform prior.
    """
    count = probabilities.shape[-1]
    prior = np.full(count, 1 / count) if prior is None else np.maximum(prior, MIN_PRIOR)
    return probabilities / (probabilities + prior)
