"""Losses and ranks of pairs of text vectors.

Shapes: E pairs, D size of a vector.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SCALE = 20.0  # of the cosines in `ranking_loss`, the default of sentence-transformers
RANKING_CHUNK = 1024  # rows of the matrix of similarities
TIE = 1e-6  # a text must be nearer by this to rank higher: the same text may occur twice


def score_loss(first: Tensor, second: Tensor, scores: Tensor) -> Tensor:
    """The sum of the squared errors of the cosines ("CosineSimilarityLoss", Reimers & Gurevych 2019).

    Args:
        first: unit vectors of the first texts, (E, D).
        second: unit vectors of the second texts, (E, D).
        scores: the cosine that each pair should have, (E,).
    """
    return F.mse_loss((first * second).sum(-1), scores, reduction="sum")


def ranking_loss(first: Tensor, second: Tensor, texts: Tensor) -> Tensor:
    """The sum of the cross-entropies of finding each pair's second text among those of all pairs.

    Henderson et al. 2017 (https://arxiv.org/abs/1705.00652, section 4.4), "MultipleNegativesRankingLoss".

    Args:
        first: unit vectors of the first texts, (E, D).
        second: unit vectors of the second texts, (E, D).
        texts: numbers of the first and second texts, (E, 2); pairs with an equal text are no negatives of each other.
    """
    logits = SCALE * first @ second.T  # (E, E)
    shared = (texts[:, None] == texts[None]).any(-1)  # (E, E)
    logits = logits.masked_fill(shared.fill_diagonal_(False), -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device), reduction="sum")


def ranks(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The rank of each pair's second text among all second texts, by similarity to the first text, from 1: (E,).

    Args:
        first: unit vectors of the first texts, (E, D).
        second: unit vectors of the second texts, (E, D).
    """
    found = []
    for start in range(0, len(first), RANKING_CHUNK):
        part = first[start : start + RANKING_CHUNK] @ second.T  # (e, E)
        own = part[np.arange(len(part)), np.arange(start, start + len(part))]
        found.append(1 + (part > own[:, None] + TIE).sum(1))
    return np.concatenate(found)
