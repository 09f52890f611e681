"""Structural probes: a linear map under which squared distances and norms of word vectors are those of parse trees.

Hewitt & Manning 2019 (https://aclanthology.org/N19-1419): the distance probe fits ||B(h_i - h_j)||^2 to the number of
edges between words i and j, the depth probe ||B h_i||^2 to that between word i and the root. The model stays frozen.

Shapes: R words of all sentences, b sentences in a batch of at most n words, C hidden size, k rank.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .dependency_trees import DependencyTree

# The schedule of the paper (appendix A.1).
BATCH_SIZE = 20  # sentences
LEARNING_RATE = 1e-3  # of Adam
DECAY = 0.1  # of the learning rate, after an evaluation that finds no smaller loss
MAX_EPOCHS = 40
PATIENCE = 4  # evaluations without a smaller loss, then the probe has converged
TOLERANCE = 1e-4  # a loss that is smaller by less is not smaller
INIT = 0.05  # the entries of B are uniform between -0.05 and 0.05 at the start
MIN_STEPS = 100  # between two evaluations (2,000 in the paper): a small treebank is read several times


@dataclass(frozen=True, eq=False)
class TreeBatch:
    """Sentences padded to the longest."""

    rows: Tensor  # (b, n), of the words' vectors; any row for padding
    mask: Tensor  # (b, n), whether there is a word
    distances: Tensor  # (b, n, n)
    depths: Tensor  # (b, n)


@dataclass(frozen=True, eq=False)
class Treebank:
    """The distances and depths of all sentences, and the rows of their words' vectors."""

    trees: Sequence[DependencyTree]
    starts: Tensor  # (sentences,), row of the first word
    lengths: Tensor  # (sentences,), words
    depths: Tensor  # (R,)
    distances: Tensor  # the distances of each sentence, (n * n,), one after the other
    offsets: Tensor  # (sentences,), where they begin

    @classmethod
    def build(cls, trees: Sequence[DependencyTree], starts: Sequence[int], device: torch.device) -> "Treebank":
        """Puts the trees into tensors on a device.

        Args:
            trees: the sentences.
            starts: the row of the first word of each.
            device: of the tensors.
        """
        first, lengths = torch.tensor(starts), torch.tensor([len(tree.words) for tree in trees])
        depths = torch.zeros(int(lengths.sum()), dtype=torch.int16)
        for tree, start in zip(trees, starts, strict=True):
            depths[start : start + len(tree.words)] = torch.from_numpy(tree.depths)
        distances = torch.from_numpy(np.concatenate([tree.distances.ravel() for tree in trees]))
        offsets = lengths.square().cumsum(0) - lengths.square()
        return cls(trees, *(one.to(device) for one in (first, lengths, depths, distances, offsets)))

    def batch(self, sentences: Tensor) -> TreeBatch:
        """Some sentences, (b,), as a batch."""
        lengths = self.lengths[sentences]
        places = torch.arange(int(lengths.max()), device=lengths.device)
        mask = places < lengths[:, None]
        inside = places.minimum(lengths[:, None] - 1)  # padding repeats the last word
        rows = self.starts[sentences][:, None] + inside
        pairs = inside[:, :, None] * lengths[:, None, None] + inside[:, None, :]
        distances = self.distances[self.offsets[sentences][:, None, None] + pairs]
        return TreeBatch(rows, mask, distances.float(), self.depths[rows].float())


Loss = Callable[[Tensor, TreeBatch], Tensor]


def squared_distances(projected: Tensor) -> Tensor:
    """The squared distances between the words of each sentence, (b, n, k) -> (b, n, n)."""
    norms = projected.square().sum(-1)
    return norms[:, :, None] + norms[:, None, :] - 2 * projected @ projected.transpose(1, 2)


def distance_loss(projected: Tensor, batch: TreeBatch) -> Tensor:
    """The mean over sentences of the absolute errors of the distances, divided by the square of its length.

    Args:
        projected: the vectors of the words under B, (b, n, k).
        batch: the sentences.
    """
    errors = (squared_distances(projected) - batch.distances).abs()
    pairs = batch.mask[:, :, None] & batch.mask[:, None, :]
    return ((errors * pairs).sum((1, 2)) / batch.mask.sum(1).square()).mean()


def depth_loss(projected: Tensor, batch: TreeBatch) -> Tensor:
    """The mean over sentences of the mean absolute errors of the depths.

    Args:
        projected: the vectors of the words under B, (b, n, k).
        batch: the sentences.
    """
    errors = (projected.square().sum(-1) - batch.depths).abs()
    return ((errors * batch.mask).sum(1) / batch.mask.sum(1)).mean()


@dataclass(frozen=True, eq=False)
class TreeSplit:
    """Which sentences fit the probes, which choose their weights, and which score them."""

    bank: Treebank
    train: Sequence[int]
    dev: Sequence[int]
    test: Sequence[int]

    def batches(self, sentences: Sequence[int]) -> Iterator[TreeBatch]:
        """Batches of sentences, in order."""
        for some in torch.tensor(sentences, device=self.bank.starts.device).split(BATCH_SIZE):
            yield self.bank.batch(some)


def fit_probe(vectors: Tensor, split: TreeSplit, loss: Loss, rank: int, seed: int) -> Tensor:
    """Fits a probe with Adam and keeps the weights with the smallest loss on the dev sentences.

    After an evaluation that finds no smaller loss, the learning rate is multiplied by 0.1 and Adam starts anew.

    Args:
        vectors: of all words, (R, C).
        split: the sentences.
        loss: `distance_loss` or `depth_loss`.
        rank: k.
        seed: of the first weights and the order of the sentences.

    Returns:
        B transposed, (C, k).
    """
    generator = torch.Generator().manual_seed(seed)
    first = torch.empty(vectors.shape[1], rank).uniform_(-INIT, INIT, generator=generator)
    weight = first.to(vectors.device).requires_grad_()
    dev = list(split.batches(split.dev))
    best, kept, waited, rate = float("inf"), weight.detach().clone(), 0, LEARNING_RATE
    optimizer = torch.optim.Adam([weight], lr=rate)
    for steps in _evaluation_periods(split, generator):
        for batch in steps:
            optimizer.zero_grad()
            loss(vectors[batch.rows] @ weight, batch).backward()
            optimizer.step()
        with torch.no_grad():
            found = sum(float(loss(vectors[one.rows] @ weight, one)) * len(one.rows) for one in dev) / len(split.dev)
        if found < best - TOLERANCE:
            best, kept, waited = found, weight.detach().clone(), 0
            continue
        waited, rate = waited + 1, rate * DECAY
        if waited == PATIENCE:
            break
        optimizer = torch.optim.Adam([weight], lr=rate)
    return kept


def _evaluation_periods(split: TreeSplit, generator: torch.Generator) -> Iterator[Iterator[TreeBatch]]:
    """The training batches until each evaluation: an epoch, or several of a small treebank."""
    steps = -(-len(split.train) // BATCH_SIZE)

    def period() -> Iterator[TreeBatch]:
        for _ in range(-(-MIN_STEPS // steps)):
            order = torch.randperm(len(split.train), generator=generator).tolist()
            yield from split.batches([split.train[i] for i in order])

    for _ in range(MAX_EPOCHS):
        yield period()


@torch.inference_mode()
def predict_trees(
    vectors: Tensor, split: TreeSplit, distance: Tensor, depth: Tensor
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The squared distances, (n, n), and the squared norms, (n,), of each test sentence.

    Args:
        vectors: of all words, (R, C).
        split: the sentences.
        distance: the distance probe, (C, k).
        depth: the depth probe, (C, k).
    """
    distances: list[np.ndarray] = []
    depths: list[np.ndarray] = []
    for batch in split.batches(split.test):
        pairs = squared_distances(vectors[batch.rows] @ distance).cpu().numpy()
        norms = (vectors[batch.rows] @ depth).square().sum(-1).cpu().numpy()
        for i, n in enumerate(batch.mask.sum(1).tolist()):
            distances.append(pairs[i, :n, :n])
            depths.append(norms[i, :n])
    return distances, depths
