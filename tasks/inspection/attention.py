"""The attention weights of every head of every layer, and statistics of each head.

The statistics are those of Clark et al. 2019 (https://arxiv.org/abs/1906.04341): how much weight a head gives to the
token itself, to its neighbours and to the special tokens, and how widely it spreads the weight.

Shapes: L layers, H heads, n tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .inspected_model import EncodedText, InspectedModel, Token


@dataclass(frozen=True)
class HeadStatistics:
    """The attention of a head, averaged over the tokens that attend."""

    layer: int  # from 1
    head: int  # from 1
    to_itself: float  # shares of the weight, from 0 to 1
    to_previous: float
    to_next: float
    to_special: float
    distance: float  # in tokens
    entropy: float  # in bits: 0: all weight on one token, log2(n): uniform


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """The attention of every head of every layer."""

    tokens: tuple[Token, ...]
    causal: bool
    weights: Tensor  # (L, H, n, n), fp32 on the CPU: [l, h, i, j] is the weight that token i gives to token j
    heads: tuple[HeadStatistics, ...]  # layer by layer


def attention_maps(inspected: InspectedModel, encoded: EncodedText) -> AttentionMaps:
    """The attention weights of a model on a text."""
    weights = torch.stack([one.float().cpu() for (one,) in inspected.activations(encoded).attentions])
    return AttentionMaps(encoded.tokens, inspected.causal, weights, _statistics(weights, encoded.tokens))


def _statistics(weights: Tensor, tokens: tuple[Token, ...]) -> tuple[HeadStatistics, ...]:
    positions = torch.arange(len(tokens))
    special = torch.tensor([token.start is None for token in tokens])
    count = len(tokens)

    def diagonal_share(offset: int) -> Tensor:
        return weights.diagonal(offset, -2, -1).sum(-1) / count

    values = torch.stack(
        [
            diagonal_share(0),
            diagonal_share(-1),
            diagonal_share(1),
            weights[..., special].sum(-1).mean(-1),
            (weights * (positions[:, None] - positions).abs()).sum(-1).mean(-1),
            -torch.xlogy(weights, weights).sum(-1).mean(-1) / torch.log(torch.tensor(2.0)),
        ],
        dim=-1,
    )
    return tuple(
        HeadStatistics(layer, head, *of_head)
        for layer, of_layer in enumerate(values.tolist(), start=1)
        for head, of_head in enumerate(of_layer, start=1)
    )
