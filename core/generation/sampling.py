"""From logits to the next token: the repetition penalty, what may be drawn, and the draw.

Temperature and top-k are those of Fan et al. 2018 (https://arxiv.org/abs/1805.04833), top-p is that of Holtzman et al.
2019 (https://arxiv.org/abs/1904.09751), min-p that of Nguyen et al. 2024 (https://arxiv.org/abs/2407.01082), the
penalty that of Keskar et al. 2019 (https://arxiv.org/abs/1909.05858).

Shapes: R rows, V vocabulary.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .generation_config import GenerationConfig

FIRST_LOOKS = (64, 1024)  # tokens that top-p looks at first: sorting the whole vocabulary takes as long as the model


def penalize(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Makes tokens that are there already less likely, by dividing positive logits and multiplying negative ones.

    Args:
        logits: (R, V), or log-probabilities.
        seen: (R, V), whether a token is in a row already.
        penalty: above 1 to discourage, below 1 to encourage.
    """
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def limit(logits: Tensor, config: GenerationConfig) -> Tensor:
    """The logits (R, V) at the configured temperature, with -inf for the tokens that may not be drawn.

    Each limit leaves the likeliest token; tokens as likely as the last one that a limit leaves stay as well.
    """
    if config.temperature is not None:
        logits = logits / config.temperature
    lowest = _lowest(logits, config)
    return logits if lowest is None else logits.masked_fill(logits < lowest, -torch.inf)


def _lowest(logits: Tensor, config: GenerationConfig) -> Tensor | None:
    """The lowest logit of each row that may be drawn, (R, 1)."""
    lowest = None
    top_p = 1.0 if config.top_p is None else config.top_p
    if config.top_k is not None:
        top = logits.topk(min(config.top_k, logits.shape[-1])).values
        lowest = top[:, -1:] if top_p == 1 else _nucleus(top, top.softmax(dim=-1), top_p)
    elif top_p < 1:
        lowest = _nucleus_of_all(logits, top_p)
    if config.min_p is not None:
        share = logits.amax(dim=-1, keepdim=True) + math.log(config.min_p)
        lowest = share if lowest is None else torch.maximum(lowest, share)
    return lowest


def _nucleus_of_all(logits: Tensor, top_p: float) -> Tensor:
    whole = logits.logsumexp(dim=-1, keepdim=True)
    for size in (size for size in FIRST_LOOKS if size < logits.shape[-1]):
        top = logits.topk(size).values
        probabilities = (top - whole).exp()
        if bool((probabilities.sum(dim=-1) >= top_p).all()):
            return _nucleus(top, probabilities, top_p)
    top = logits.sort(descending=True).values
    return _nucleus(top, (top - whole).exp(), top_p)


def _nucleus(top: Tensor, probabilities: Tensor, top_p: float) -> Tensor:
    """The last of some logits in falling order that top-p keeps: as long as those above it have not enough."""
    above = probabilities.cumsum(dim=-1) - probabilities
    kept = (above < top_p).sum(dim=-1, keepdim=True)
    return top.gather(-1, (kept - 1).clamp(min=0))


def draw(logits: Tensor, numbers: Sequence[float]) -> Tensor:
    """One token a row, (R,), each with the probability that its logits give it.

    The token is where a uniformly random number falls when the probabilities are laid end to end, in the order of the
    vocabulary: one number a row decides, so that a row's tokens do not depend on what else is in the batch.

    Args:
        logits: (R, V).
        numbers: a uniformly random number for each row, at least 0 and below 1.
    """
    ends = logits.softmax(dim=-1).cumsum(dim=-1, dtype=torch.float64)
    points = torch.tensor(numbers, dtype=torch.float64, device=logits.device)[:, None] * ends[:, -1:]
    return torch.searchsorted(ends, points, right=True)[:, 0]
