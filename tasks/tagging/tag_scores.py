"""Metrics of the tags of words, which lead where every word has one: parts of speech, and other tags without O."""

from collections.abc import Iterable, Sequence

import numpy as np

from ..tallies import Tally, label_counts, ratio
from .predictions import EntitiesPrediction, TaggedExample
from .tag_schemes import labels_as_tags, spans_to_tags, tag_indices

TagPairs = Sequence[tuple[str, str]]  # the gold and the predicted tag of each word


def tag_pairs(
    predictions: Sequence[EntitiesPrediction], examples: Sequence[TaggedExample], labels: Sequence[str], scheme: str
) -> list[TagPairs]:
    """The gold and the predicted tag of each word that is not ignored, for each example."""
    names, indices = labels_as_tags(labels, scheme), tag_indices(labels, scheme)
    pairs: list[TagPairs] = []
    for prediction, example in zip(predictions, examples, strict=True):
        wanted = spans_to_tags(example.spans or (), len(prediction.tags), scheme)
        tags = [names[indices[tag]] if tag in indices else tag for tag in wanted]
        counted = set(range(len(tags))).difference(example.ignored)
        pairs.append([(tags[word], prediction.tags[word]) for word in sorted(counted)])
    return pairs


def count_right(pairs: Iterable[TagPairs]) -> list[tuple[int, int]]:
    """How many words of each example have the gold tag, and how many there are."""
    return [(sum(gold == predicted for gold, predicted in one), len(one)) for one in pairs]


def tally_tags(pairs: Sequence[TagPairs], labels: Sequence[str]) -> Tally:
    """The tags of each example, for accuracy and the F1 of the tags, averaged over those that words have.

    Args:
        pairs: the gold and the predicted tag of each word, for each example.
        labels: all tags.
    """
    from scipy.sparse import coo_array, csr_array

    index, size = {label: i for i, label in enumerate(labels)}, len(labels)
    entries = [
        (row, column)
        for row, one in enumerate(pairs)
        for gold, found in one
        for column in (index[gold], size + index[found], *[2 * size + index[gold]] * (gold == found))
    ]
    rows, columns = np.array(entries, dtype=np.int64).reshape(-1, 2).T
    counts = csr_array(coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(pairs), 3 * size)))

    def formulas(sums: np.ndarray) -> dict[str, np.ndarray]:
        truth, found, correct = np.split(sums, 3, axis=1)
        words, f1 = truth.sum(1), ratio(2 * correct, truth + found)
        return {
            "accuracy": ratio(correct.sum(1), words),
            "f1": ratio((f1 * (truth > 0)).sum(1), (truth > 0).sum(1)),
            "f1_weighted": ratio((f1 * truth).sum(1), words),
        }

    return Tally(counts, formulas, by_label=label_counts(labels, "words"))
