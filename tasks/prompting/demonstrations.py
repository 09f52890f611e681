"""Which worked examples a prompt shows, and in which order.

The nearest to the question work best as a rule (Liu et al. 2022, https://arxiv.org/abs/2101.06804); the order matters
(Lu et al. 2022, https://arxiv.org/abs/2104.08786), and what stands last matters most.

Shapes: N texts, C hidden size.
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

FIRST, RANDOM, BALANCED, NEAREST = "first", "random", "balanced", "nearest"
CHOICES = (BALANCED, RANDOM, FIRST, NEAREST)
TOKENS_AT_ONCE = 4096


def choose(labels: Sequence[str | None], shots: int, how: str, seed: int) -> list[int]:
    """Positions of the examples to show.

    Args:
        labels: of all examples; None where there is none to balance by.
        shots: how many; fewer where there are not so many.
        how: FIRST, RANDOM or BALANCED.
        seed: of the choice, and of the order where it is not the file's.
    """
    rows = list(range(len(labels)))
    if how == FIRST:
        return rows[:shots]
    random = Random(seed)
    random.shuffle(rows)
    if how == BALANCED:
        seen: dict[str | None, int] = {}
        turns = {}
        for row in rows:
            turns[row] = seen[labels[row]] = seen.get(labels[row], 0) + 1
        rows.sort(key=lambda row: turns[row])  # a first of every label, a second of every label, ...
        rows = rows[:shots]
        random.shuffle(rows)
    return rows[:shots]


def nearest(texts: Tensor, examples: Tensor, shots: int) -> list[list[int]]:
    """For each text the examples whose vectors are nearest by the cosine, the nearest last."""
    similarity = F.normalize(texts, dim=-1) @ F.normalize(examples, dim=-1).T
    return similarity.topk(min(shots, len(examples)), dim=-1).indices.flip(-1).tolist()


def orders(count: int, most: int, seed: int) -> list[list[int]]:
    """Different orders of so many examples: as they are, then random ones, as many as there can be."""
    random = Random(seed)
    found = {tuple(range(count)): None}
    while len(found) < min(most, math.factorial(count)):
        order = list(range(count))
        random.shuffle(order)
        found[tuple(order)] = None
    return [list(order) for order in found]


@torch.inference_mode()
def mean_vectors(backbone: Backbone, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """The mean over its tokens of each text's hidden states, (N, C); a text beyond the model's limit is cut there."""
    special = tokenizer.num_special(pair=False)
    limit = backbone.config.max_positions - special
    sequences = [tokenizer.join(encoding.ids[:limit])[0] for encoding in tokenizer.encode_batch(texts)]
    vectors = torch.empty(len(texts), backbone.config.hidden_size)
    device = backbone.token_embedding.weight.device
    for indices in BatchSampler([len(ids) for ids in sequences], batch_tokens=TOKENS_AT_ONCE).by_length():
        batch = PackedBatch.pack([sequences[i] for i in indices]).to(device)
        hidden = backbone(batch)
        # BERT's mean leaves no token out: so sentence encoders are trained.
        means = torch.stack([one.mean(dim=0) for one in batch.split(hidden)])
        vectors[indices] = means.float().cpu()
    return vectors


def load_vectors(name: str | Path) -> tuple[Backbone, Tokenizer]:
    """A BERT or GPT-2 whose mean vectors tell what is near.

    Raises:
        HeadwayError: there is no such model, or it cannot be read.
    """
    folder = find_folder(name)
    return load_backbone(folder).network.backbone, Tokenizer.load(folder)
