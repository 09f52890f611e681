"""Where every head of every layer looks: the attention weights of one sequence, and each head in a few figures.

The figures are those by which Clark et al. 2019 (https://arxiv.org/abs/1906.04341) tell heads apart: how much of its
weight a head gives to the token itself, to its neighbours and to the special tokens, and how widely it spreads it.

Shapes: L layers, H heads, n tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .opened import Inspected, Reading, Token


@dataclass(frozen=True)
class HeadFigures:
    """How a head looks, on average over the tokens that look."""

    layer: int  # from 1
    head: int  # from 1
    to_itself: float  # parts of the weight, from 0 to 1
    to_previous: float
    to_next: float
    to_special: float
    distance: float  # in tokens
    entropy: float  # in bits: 0 looks at one token, log2(n) at all alike


@dataclass(frozen=True, eq=False)
class AttentionView:
    """The attention of every head of every layer."""

    tokens: tuple[Token, ...]
    causal: bool
    weights: Tensor  # (L, H, n, n), fp32 on the CPU: [l, h, i, j] is how much token i looks at token j
    heads: tuple[HeadFigures, ...]  # layer by layer


def view_attention(inspected: Inspected, reading: Reading) -> AttentionView:
    """The attention weights of a text on a model."""
    weights = torch.stack([one.float().cpu() for (one,) in inspected.activations(reading).attentions])
    return AttentionView(reading.tokens, inspected.causal, weights, _figures(weights, reading.tokens))


def _figures(weights: Tensor, tokens: tuple[Token, ...]) -> tuple[HeadFigures, ...]:
    places = torch.arange(len(tokens))
    special = torch.tensor([token.start is None for token in tokens])
    count = len(tokens)

    def share(diagonal: int) -> Tensor:
        return weights.diagonal(diagonal, -2, -1).sum(-1) / count

    figures = torch.stack(
        [
            share(0),
            share(-1),
            share(1),
            weights[..., special].sum(-1).mean(-1),
            (weights * (places[:, None] - places).abs()).sum(-1).mean(-1),
            -torch.xlogy(weights, weights).sum(-1).mean(-1) / torch.log(torch.tensor(2.0)),
        ],
        dim=-1,
    )
    return tuple(
        HeadFigures(layer, head, *of_head)
        for layer, of_layer in enumerate(figures.tolist(), start=1)
        for head, of_head in enumerate(of_layer, start=1)
    )
