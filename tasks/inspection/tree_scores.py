"""Scores of predicted tree distances and depths, as Hewitt & Manning (2019) report them.

Paper: "A Structural Probe for Finding Syntax in Word Representations" (https://aclanthology.org/N19-1419), section 4.
Punctuation is left out of spanning trees and of the search for the root, not of the correlations.

Shapes: n words of a sentence.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .dependency_trees import DependencyTree

SHORTEST, LONGEST = 5, 50  # words of the sentences whose correlations are averaged

Edge = tuple[int, int]  # positions of two words, the first one first


@dataclass(frozen=True)
class TreeScores:
    """How well distances and depths agree with the trees of some sentences."""

    uuas: float  # undirected unlabelled attachment score: the share of the edges that are found
    distance_spearman: float  # between the predicted and the true distances of each word, averaged by sentence length
    root_accuracy: float  # the share of sentences whose root has the smallest depth
    depth_spearman: float  # between the predicted and the true depths of a sentence, averaged by sentence length


def score_trees(
    trees: Sequence[DependencyTree], distances: Sequence[np.ndarray], depths: Sequence[np.ndarray]
) -> TreeScores:
    """Scores predictions for some sentences.

    Args:
        trees: the true trees.
        distances: the predicted distance of each two words of each sentence, (n, n).
        depths: the predicted depth of each word of each sentence, (n,).
    """
    right = total = roots = 0
    by_length: tuple[dict[int, list[float]], dict[int, list[float]]] = (defaultdict(list), defaultdict(list))
    for tree, distance, depth in zip(trees, distances, depths, strict=True):
        gold = spanning_edges(tree.distances, tree.punctuation)
        right += len(gold & spanning_edges(distance, tree.punctuation))
        total += len(gold)
        roots += predicted_root(depth, tree.punctuation) == tree.root
        by_length[0][len(tree.words)] += spearman(distance, tree.distances)
        by_length[1][len(tree.words)] += spearman(depth[None], tree.depths[None])
    return TreeScores(
        right / max(1, total), _mean_by_length(by_length[0]), roots / max(1, len(trees)), _mean_by_length(by_length[1])
    )


def spanning_edges(distances: np.ndarray, left_out: Sequence[bool]) -> frozenset[Edge]:
    """The edges of the minimum spanning tree between words.

    Args:
        distances: between each two words, (n, n).
        left_out: the words that are not in the tree, n of them.
    """
    from scipy.sparse.csgraph import minimum_spanning_tree

    words = np.flatnonzero(~np.asarray(left_out))
    if len(words) < 2:
        return frozenset()
    inner = distances[np.ix_(words, words)].astype(np.float64)
    # To SciPy, a distance of 0 is a missing edge. A constant more on every edge gives the same tree.
    tree = minimum_spanning_tree(np.triu(inner - inner.min() + 1.0, 1)).tocoo()
    ends = zip(words[tree.row].tolist(), words[tree.col].tolist(), strict=True)
    return frozenset((min(edge), max(edge)) for edge in ends)


def predicted_root(depths: np.ndarray, left_out: Sequence[bool]) -> int:
    """The word of the smallest depth that is not left out; if all are, that of all words."""
    allowed = ~np.asarray(left_out)
    return int(np.where(allowed | ~allowed.any(), depths, np.inf).argmin())


def spearman(predicted: np.ndarray, gold: np.ndarray) -> list[float]:
    """Spearman's correlation of each row, (rows, n) and (rows, n); 0 where one side is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(one, axis=1) for one in (predicted, gold)]
    a, b = (one - one.mean(1, keepdims=True) for one in ranks)
    norm = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return np.divide((a * b).sum(1), norm, out=np.zeros(len(norm)), where=norm > 0).tolist()


def _mean_by_length(found: dict[int, list[float]]) -> float:
    """The mean over sentence lengths from 5 to 50 of the mean of each; over all lengths if there is none of these."""
    means = {length: float(np.mean(values)) for length, values in found.items()}
    usual = [mean for length, mean in means.items() if SHORTEST <= length <= LONGEST]
    return float(np.mean(usual or [*means.values()] or [0.0]))
