"""Chooses and orders the demonstrations of a prompt: the labelled examples that it shows before the query.

Demonstrations similar to the query usually work best (Liu et al. 2022, https://arxiv.org/abs/2101.06804). Their order
matters (Lu et al. 2022, https://arxiv.org/abs/2104.08786), and the last one has the largest effect.

Shapes: N texts, M examples, C hidden size.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.checkpoints.checkpoint import load_backbone
from ...core.checkpoints.hub import find_folder
from ...core.models.heads import Backbone
from ...core.models.packing import BatchSampler, PackedBatch
from ...core.tokenizers.tokenizer import Tokenizer
from ..data.features import INFERENCE_BATCH_TOKENS

FIRST, RANDOM, BALANCED, NEAREST = "first", "random", "balanced", "nearest"
CHOICES = (BALANCED, RANDOM, FIRST, NEAREST)


def choose_demonstrations(labels: Sequence[str | None], shots: int, choice: str, seed: int) -> list[int]:
    """Indices of the examples to show.

    Args:
        labels: of all examples; None for an example that has no label to balance by.
        shots: number of demonstrations; all examples if there are fewer.
        choice: FIRST, RANDOM or BALANCED.
        seed: of the choice, and of the order unless `choice` is FIRST.
    """
    rows = list(range(len(labels)))
    if choice == FIRST:
        return rows[:shots]
    random = Random(seed)
    random.shuffle(rows)
    if choice == BALANCED:
        counts: dict[str | None, int] = {}
        rank = {}  # n for the n-th example of its label
        for row in rows:
            rank[row] = counts[labels[row]] = counts.get(labels[row], 0) + 1
        rows.sort(key=lambda row: rank[row])  # one example of every label, then a second one, ...
        rows = rows[:shots]
        random.shuffle(rows)
    return rows[:shots]


def nearest_examples(queries: Tensor, examples: Tensor, shots: int) -> list[list[int]]:
    """For each query vector (N, C), the indices of the example vectors (M, C) with the largest cosines, ascending."""
    similarity = F.normalize(queries, dim=-1) @ F.normalize(examples, dim=-1).T
    return similarity.topk(min(shots, len(examples)), dim=-1).indices.flip(-1).tolist()


def demonstration_orders(count: int, max_orders: int, seed: int) -> list[list[int]]:
    """Up to `max_orders` different permutations of `count` demonstrations: the identity, then random ones."""
    random = Random(seed)
    found = {tuple(range(count)): None}
    while len(found) < min(max_orders, math.factorial(count)):
        order = list(range(count))
        random.shuffle(order)
        found[tuple(order)] = None
    return [list(order) for order in found]


@torch.inference_mode()
def mean_vectors(backbone: Backbone, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """The mean of each text's hidden states, (N, C). Texts longer than the model's limit are truncated."""
    limit = backbone.config.max_positions - tokenizer.num_special(pair=False)
    sequences = [tokenizer.join(encoding.ids[:limit])[0] for encoding in tokenizer.encode_batch(texts)]
    vectors = torch.empty(len(texts), backbone.config.hidden_size)
    device = backbone.token_embedding.weight.device
    for indices in BatchSampler([len(ids) for ids in sequences], batch_tokens=INFERENCE_BATCH_TOKENS).by_length():
        batch = PackedBatch.pack([sequences[i] for i in indices]).to(device)
        hidden = backbone(batch)
        # Special tokens are part of the mean: sentence encoders are trained that way.
        means = torch.stack([one.mean(dim=0) for one in batch.split(hidden)])
        vectors[indices] = means.float().cpu()
    return vectors


def load_similarity_model(name: str | Path, device: torch.device) -> tuple[Backbone, Tokenizer]:
    """A model whose mean vectors measure the similarity of texts, on a device.

    Raises:
        HeadwayError: the model does not exist or cannot be read.
    """
    folder = find_folder(name)
    backbone, tokenizer = load_backbone(folder).network.backbone, Tokenizer.load(folder)
    tokenizer.check_fits(backbone.config.vocab_size, name)
    return backbone.to(device), tokenizer
