"""From logits to the next token: the repetition penalty, filters and sampling.

Temperature and top-k: Fan et al. 2018 (https://arxiv.org/abs/1805.04833). Top-p: Holtzman et al. 2019
(https://arxiv.org/abs/1904.09751). Min-p: Nguyen et al. 2024 (https://arxiv.org/abs/2407.01082). Repetition penalty:
Keskar et al. 2019 (https://arxiv.org/abs/1909.05858).

Shapes: R rows, V vocabulary.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..models.transfers import is_asynchronous, send, to_device
from .generation_config import GenerationConfig

# On the CPU, top-p looks at this many of the most likely tokens first: sorting the whole vocabulary takes as long as
# the model. Other devices sort fast, and finding out whether these tokens are enough would wait for the device.
TOP_P_CANDIDATES = (64, 1024)
# In fp32, sums in parallel are not exactly ascending, so that a token with probability 0 could be sampled.
HAVE_FLOAT64 = ("cpu", "cuda")


def penalize(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Applies the repetition penalty: divides positive logits of the tokens in the text and multiplies negative ones.

    Args:
        logits: logits or log-probabilities, (R, V).
        seen: whether the token is in the row's text, (R, V).
        penalty: above 1 to discourage repetition, below 1 to encourage it.
    """
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def forbid_repeats(logits: Tensor, texts: Iterable[Sequence[int]], size: int) -> Tensor:
    """Excludes the tokens that would repeat a sequence of `size` tokens of the row's text: their logits become -inf.

    Paulus et al. 2018 (https://arxiv.org/abs/1705.04304, section 2.5), who forbid repeated trigrams.

    Args:
        logits: logits or log-probabilities, (R, V).
        texts: the token ids of each row's text.
        size: number of tokens.
    """
    found = [(row, token) for row, ids in enumerate(texts) for token in _repeating(ids, size)]
    if not found:
        return logits
    rows, tokens = send(logits.device, *zip(*found, strict=True))
    return logits.index_put((rows, tokens), logits.new_tensor(-torch.inf))


def _repeating(ids: Sequence[int], size: int) -> set[int]:
    """The tokens that followed earlier where the last `size - 1` tokens occurred."""
    ids = list(ids)
    end = ids[len(ids) - size + 1 :]
    return {ids[i + size - 1] for i in range(len(ids) - size + 1) if ids[i : i + size - 1] == end}


def filter_logits(logits: Tensor, config: GenerationConfig) -> Tensor:
    """Applies temperature, top-k, top-p and min-p to (R, V); the logits of excluded tokens become -inf.

    Every filter keeps the most likely token, and the tokens that are as likely as the last one that it keeps.
    """
    if config.temperature is not None:
        logits = logits / config.temperature
    threshold = _threshold(logits, config)
    return logits if threshold is None else logits.masked_fill(logits < threshold, -torch.inf)


def _threshold(logits: Tensor, config: GenerationConfig) -> Tensor | None:
    """The lowest logit of each row that no filter excludes, (R, 1)."""
    threshold = None
    top_p = 1.0 if config.top_p is None else config.top_p
    if config.top_k is not None:
        top = logits.topk(min(config.top_k, logits.shape[-1])).values
        threshold = top[:, -1:] if top_p == 1 else _top_p_threshold(top, top.softmax(dim=-1), top_p)
    elif top_p < 1:
        threshold = _top_p_threshold_of_all(logits, top_p)
    if config.min_p is not None:
        lowest = logits.amax(dim=-1, keepdim=True) + math.log(config.min_p)
        threshold = lowest if threshold is None else torch.maximum(threshold, lowest)
    return threshold


def _top_p_threshold_of_all(logits: Tensor, top_p: float) -> Tensor:
    log_sum = logits.logsumexp(dim=-1, keepdim=True)
    candidates = () if is_asynchronous(logits.device) else TOP_P_CANDIDATES
    for count in (count for count in candidates if count < logits.shape[-1]):
        top = logits.topk(count).values
        probabilities = (top - log_sum).exp()
        if bool((probabilities.sum(dim=-1) >= top_p).all()):
            return _top_p_threshold(top, probabilities, top_p)
    top = logits.sort(descending=True).values
    return _top_p_threshold(top, (top - log_sum).exp(), top_p)


def _top_p_threshold(top: Tensor, probabilities: Tensor, top_p: float) -> Tensor:
    """The last of the logits `top`, in descending order, before which the probabilities add up to less than p."""
    above = probabilities.cumsum(dim=-1) - probabilities
    kept = (above < top_p).sum(dim=-1, keepdim=True)
    return top.gather(-1, (kept - 1).clamp(min=0))


def sample(logits: Tensor, numbers: Sequence[float]) -> Tensor:
    """Samples one token per row, (R,), by inverting the cumulative distribution over the vocabulary.

    A single random number decides, so that a row's token does not depend on the rest of the batch.

    Args:
        logits: (R, V).
        numbers: a uniform random number in [0, 1) for each row.
    """
    probabilities = logits.softmax(dim=-1)
    if logits.device.type not in HAVE_FLOAT64:
        probabilities = probabilities.cpu()
    cumulative = probabilities.cumsum(dim=-1, dtype=torch.float64)
    points = to_device(torch.tensor(numbers, dtype=torch.float64), cumulative.device)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, points, right=True)[:, 0].to(logits.device)
