"""Takes out of a language model's choice among labels what it would say whatever the text is.

Contextual calibration (Zhao et al. 2021, https://arxiv.org/abs/2102.09690): the prior is what the model says about
texts without content. Batch calibration (Zhou et al. 2023, https://arxiv.org/abs/2309.17249): the prior is the mean
over many texts. Either way probabilities are divided by the prior and made to sum to 1 again.

Several labels at once: a label's own probability is p / (p + prior), so that it is given where the text makes it
likelier than it is without one.

Shapes: O orders of the worked examples, E texts, L labels.
"""

from collections.abc import Sequence

import numpy as np

CONTEXTUAL, BATCH, NONE = "contextual", "batch", "none"
CONTENT_FREE = ("N/A", "[MASK]", "")  # those of Zhao et al., section 5
LEAST = 1e-30  # of a probability, so that a label that is out of the question can be divided by


def probabilities(log_likelihoods: np.ndarray, lengths: Sequence[int] | None = None) -> np.ndarray:
    """The share of each label, (..., L) -> (..., L), of what all labels have together.

    Args:
        log_likelihoods: of the labels.
        lengths: tokens of each label, to go by the mean of a label's tokens instead of their sum.
    """
    scores = log_likelihoods if lengths is None else log_likelihoods / np.asarray(lengths)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return scores / scores.sum(axis=-1, keepdims=True)


def calibrate(shares: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Probabilities (..., L) without what is so whatever the text, by a prior that broadcasts to them."""
    scores = shares / np.maximum(prior, LEAST)
    return scores / scores.sum(axis=-1, keepdims=True)


def own_probabilities(shares: np.ndarray, prior: np.ndarray | None = None) -> np.ndarray:
    """Each label's own probability where several may apply, (..., L); without a prior all labels are as likely."""
    even = np.full(shares.shape[-1], 1 / shares.shape[-1]) if prior is None else np.maximum(prior, LEAST)
    return shares / (shares + even)
