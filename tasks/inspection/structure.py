"""Structural probes of every layer of a model, beside the same architecture with random weights.

Each dimension of a layer is divided by its standard deviation over the words, times the square root of C: some of
GPT-2's are a hundred times larger than others, and from small vectors the probes start with small distances, which is
better than the paper's vectors as they are (UUAS 0.62 against 0.52 on 200 sentences in layer 3 of MiniLM).

Shapes: R words of all sentences, C hidden size, k rank.
"""

import statistics
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.checkpoints.checkpoint import load_backbone
from ...core.errors import HeadwayError
from ...core.models.heads import Backbone, new_backbone
from ...core.tokenizers.tokenizer import Tokenizer
from ...core.training.distributed import inference_device
from ..base.precision import AUTO
from ..data.read import read_table
from ..data.split import split_rows
from .dependency_trees import DependencyTree, read_trees
from .layer_vectors import LayerVectors, WordPieces
from .probing import HELD_OUT
from .structural_probe import Treebank, TreeSplit, depth_loss, distance_loss, fit_probe, predict_trees
from .tree_scores import Edge, TreeScores, score_trees, spanning_edges

DEV = 0.1  # of the sentences that are not held out, to choose the weights of the probes
RANK = 64  # more does not help in the paper (figure 4)
FEWEST = 10  # sentences
DRAWN = 20  # held-out sentences whose trees are drawn


@dataclass(frozen=True)
class LayerStructure:
    """The scores of the probes on one layer."""

    layer: int | None  # 0: the embeddings; None: no model
    scores: tuple[TreeScores, ...]  # by seed

    @property
    def mean(self) -> TreeScores:
        """The mean over the seeds."""
        return TreeScores(*map(statistics.fmean, zip(*map(astuple, self.scores), strict=True)))


@dataclass(frozen=True)
class StructureScore:
    """The scores of the probes on one layer with one seed."""

    seed: int
    layer: int  # 0: the embeddings
    random: bool  # whether the weights of the model are random
    scores: TreeScores


@dataclass(frozen=True)
class DrawnTree:
    """A held-out sentence with the edges of its tree and those of the probes' spanning trees."""

    words: tuple[str, ...]
    gold: frozenset[Edge]
    predicted: tuple[frozenset[Edge], ...]  # by layer


@dataclass(frozen=True)
class StructureResult:
    """The scores of the structural probes on all layers."""

    layers: tuple[LayerStructure, ...]  # from the embeddings up
    random_layers: tuple[LayerStructure, ...]  # the same with random weights
    chain: LayerStructure  # no model: each word attached to the one before it
    sentences: int
    rank: int
    trees: tuple[DrawnTree, ...]  # of the first seed
    notes: tuple[str, ...]

    @property
    def best(self) -> LayerStructure:
        """The layer with the highest attachment score."""
        return max(self.layers, key=lambda one: one.mean.uuas)


@dataclass(frozen=True)
class _Round:
    """The split of one seed, the scores by layer, and the edges of each test sentence by layer."""

    split: TreeSplit
    layers: list[TreeScores]
    edges: list[list[frozenset[Edge]]]


def probe_structure(
    name: str | Path,
    data: Any,
    *,
    columns: Mapping[str, Any] | None = None,
    rank: int = RANK,
    seeds: int = 1,
    most: int | None = 2000,
    device: str = AUTO,
    **reading: Any,
) -> Iterator[StructureScore | StructureResult]:
    """Probes every layer of a model for dependency trees; the result comes last.

    Each seed is another random split, other first weights of the probes and another model with random weights.

    Args:
        name: any model: a folder, a built-in name or a hub id.
        data: a treebank: a CoNLL-U file, or rows with lists of words and of heads.
        columns: "text" -> the column of words, "label" -> the column of heads, where they have other names.
        rank: of the probes, k.
        seeds: number of random splits.
        most: maximum number of sentences, sampled at random; None: all.
        device: auto (the accelerator if there is one), cpu, cuda, cuda:1, mps or xpu.
        **reading: fields of ReadOptions: header, encoding, ...

    Raises:
        HeadwayError: the model or the data cannot be read, the data has no trees, or too few.
    """
    for option, value in (("seeds", seeds), ("rank", rank)):
        if value < 1:
            raise HeadwayError(f"--{option} {value}: at least 1.")
    chosen = inference_device(device)
    table = read_table(data, **reading)
    trees = read_trees(table, columns or {})
    checkpoint = load_backbone(name)
    backbone = checkpoint.network.backbone
    tokenizer = Tokenizer.load(checkpoint.folder)
    tokenizer.check_fits(backbone.config.vocab_size, str(name))
    trees, pieces, notes = _usable(trees, tokenizer, backbone.config.max_positions, most)
    if len(trees) < FEWEST:
        raise HeadwayError(
            f"{table.source}: {len(trees)} sentences of two words or more are too few to fit probes and hold some "
            f"out. Give at least {FEWEST}."
        )
    rank = min(rank, backbone.config.hidden_size)
    rounds = yield from _rounds(backbone.to(chosen).eval(), trees, pieces, rank, seeds)
    yield StructureResult(
        _by_layer([one.layers for one, _ in rounds]),
        _by_layer([one.layers for _, one in rounds]),
        LayerStructure(None, tuple(_score_chain(one.split) for one, _ in rounds)),
        len(trees),
        rank,
        _draw(rounds[0][0]),
        (*table.notes, *notes),
    )


def _rounds(
    backbone: Backbone, trees: Sequence[DependencyTree], pieces: Sequence[WordPieces], rank: int, seeds: int
) -> Generator[StructureScore, None, list[tuple[_Round, _Round]]]:
    """Probes the model and one with random weights with every seed."""
    rounds = []
    with tempfile.TemporaryDirectory(prefix="headway-") as folder:
        vectors = LayerVectors.write(Path(folder, "model"), backbone, pieces)
        bank = Treebank.build(trees, vectors.starts, next(backbone.parameters()).device)
        for seed in range(seeds):
            split = _split(bank, seed)
            found = yield from _probe_layers(vectors, split, rank, seed, random=False)
            others = LayerVectors.write(Path(folder, "random"), _random_backbone(backbone, seed), pieces)
            rounds.append((found, (yield from _probe_layers(others, split, rank, seed, random=True))))
    return rounds


def _usable(
    trees: Sequence[DependencyTree], tokenizer: Tokenizer, max_tokens: int, most: int | None
) -> tuple[list[DependencyTree], list[WordPieces], list[str]]:
    """The sentences that are probed, their pieces, and notes on those that are left out."""
    notes = []
    kept = [tree for tree in trees if len(tree.words) > 1]
    if single := len(trees) - len(kept):
        notes.append(f"{single:,} of {len(trees):,} sentences have one word and are left out")
    if most is not None and most < len(kept):
        _, drawn = split_rows([None] * len(kept), most / len(kept), seed=0)
        notes.append(f"{len(drawn):,} of {len(kept):,} sentences, drawn with seed 0 (--examples)")
        kept = [kept[i] for i in drawn]
    pieces = [WordPieces.encode(tokenizer, tree.words) for tree in kept]
    short = [len(one.input_ids) <= max_tokens for one in pieces]
    whole = [len(set(one.words)) == len(tree.words) for one, tree in zip(pieces, kept, strict=True)]
    for fits, what in (
        (short, f"are longer than the model's context of {max_tokens:,} tokens"),
        (whole, "have a word without a token"),
    ):
        if not all(fits):
            notes.append(f"{fits.count(False):,} of {len(kept):,} sentences {what} and are left out")
    usable = [i for i in range(len(kept)) if short[i] and whole[i]]
    return [kept[i] for i in usable], [pieces[i] for i in usable], notes


def _split(bank: Treebank, seed: int) -> TreeSplit:
    """Sentences to fit the probes, to choose their weights and to score them; equal sentences stay together."""
    groups = [" ".join(tree.words).casefold() for tree in bank.trees]
    rest, test = split_rows([None] * len(groups), HELD_OUT, seed, groups)
    if test:
        train, dev = split_rows([None] * len(rest), DEV, seed, [groups[i] for i in rest])
        if dev:
            return TreeSplit(bank, [rest[i] for i in train], [rest[i] for i in dev], test)
    raise HeadwayError(f"{len(set(groups))} different sentences are too few to hold some out. Give more.")


def _random_backbone(backbone: Backbone, seed: int) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return new_backbone(backbone.config).to(next(backbone.parameters()).device).eval()


def _probe_layers(
    vectors: LayerVectors, split: TreeSplit, rank: int, seed: int, *, random: bool
) -> Generator[StructureScore, None, _Round]:
    """Fits and scores both probes on every layer."""
    words = torch.cat([batch.rows[batch.mask] for batch in split.batches(split.train)]).cpu()
    tested = [split.bank.trees[i] for i in split.test]
    found = _Round(split, [], [])
    for layer in range(vectors.num_layers):
        scaled = _scale(vectors.read(layer), words).to(split.bank.starts.device)
        distance, depth = (fit_probe(scaled, split, loss, rank, seed) for loss in (distance_loss, depth_loss))
        distances, depths = predict_trees(scaled, split, distance, depth)
        found.layers.append(score_trees(tested, distances, depths))
        found.edges.append(
            [spanning_edges(one, tree.punctuation) for one, tree in zip(distances, tested, strict=True)]
        )
        yield StructureScore(seed, layer, random, found.layers[-1])
    return found


def _scale(vectors: Tensor, words: Tensor) -> Tensor:
    """Scales the dimensions alike over the words that fit the probes, so that the norm of vectors is about 1.

    Args:
        vectors: (R, C).
        words: rows of words in the training sentences.
    """
    return vectors / (vectors[words].std(0).clamp_min(1e-6) * vectors.shape[1] ** 0.5)


def _score_chain(split: TreeSplit) -> TreeScores:
    """The scores of trees in which each word is attached to the one before it."""
    trees = [split.bank.trees[i] for i in split.test]
    places = [np.arange(len(tree.words)) for tree in trees]
    return score_trees(trees, [np.abs(one[:, None] - one) for one in places], places)


def _by_layer(rounds: Sequence[Sequence[TreeScores]]) -> tuple[LayerStructure, ...]:
    return tuple(LayerStructure(i, tuple(scores)) for i, scores in enumerate(zip(*rounds, strict=True)))


def _draw(found: _Round) -> tuple[DrawnTree, ...]:
    """The first held-out sentences, with the edges of each layer."""
    trees = [found.split.bank.trees[i] for i in found.split.test[:DRAWN]]
    return tuple(
        DrawnTree(
            tree.words, spanning_edges(tree.distances, tree.punctuation), tuple(layer[i] for layer in found.edges)
        )
        for i, tree in enumerate(trees)
    )
