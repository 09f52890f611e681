"""Precision, recall and F1 of entities: exact, as in conlleval and seqeval, and by overlap.

https://www.clips.uantwerpen.be/conll2000/chunking/output.html, https://github.com/chakki-works/seqeval
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from ..tallies import Tally, label_counts, ratio
from .tag_schemes import WordSpan

NO_ENTITY = "no entity"
OVERALL = 7  # counts of an example over all types

Spans = Sequence[Sequence[WordSpan]]  # the entities of each example


def entity_metrics(predicted: Spans, gold: Spans) -> dict[str, float]:
    """Precision, recall and F1 over all entities: exact (same words and type), and by overlap.

    By overlap, an entity is correct if it shares a word with an entity of the same type on the other side.
    """
    return tally_entities(predicted, gold).metrics()


def tally_entities(
    predicted: Spans, gold: Spans, words: Sequence[tuple[int, int]] = (), types: Sequence[str] = ()
) -> Tally:
    """The entities of each example, for `entity_metrics`, and the accuracy of words.

    Args:
        predicted: the predicted entities of each example.
        gold: the correct ones.
        words: of each example, how many have the gold tag, and how many there are; without it, there is no accuracy.
        types: the types that are counted one by one, as well.
    """
    from scipy.sparse import csr_array, hstack

    rows = [
        (
            *(len(found), len(truth), len(_equal(found, truth))),
            *(len(_overlapping(found, truth)), len(_overlapping(truth, found)), *of),
        )
        for found, truth, of in zip(predicted, gold, words or [(0, 0)] * len(gold), strict=True)
    ]

    def formulas(sums: np.ndarray) -> dict[str, np.ndarray]:
        found, truth, correct, overlapping, recalled, right, total = sums[:, :OVERALL].T
        scores = {}
        for suffix, hits, recall_hits in (("", correct, correct), ("_overlap", overlapping, recalled)):
            precision, recall = ratio(hits, found), ratio(recall_hits, truth)
            scores[f"f1{suffix}"] = ratio(2 * precision * recall, precision + recall)
            scores |= {f"precision{suffix}": precision, f"recall{suffix}": recall}
        return {**scores, "accuracy": ratio(right, total)} if words else scores

    overall = csr_array(np.array(rows, dtype=float).reshape(-1, OVERALL))
    if not types:
        return Tally(overall, formulas)
    pairs = zip(predicted, gold, strict=True)
    blocks = [
        (truth, found, _equal(found, truth), _overlapping(found, truth), _overlapping(truth, found))
        for found, truth in pairs
    ]
    counts = csr_array(hstack([overall, _count_types(blocks, types)]))

    def overlap(sums: np.ndarray) -> dict[str, np.ndarray]:
        truth, found, _, overlapping, recalled = np.split(sums[:, OVERALL:], len(blocks[0]), axis=1)
        precision, recall = ratio(overlapping, found), ratio(recalled, truth)
        return {"f1_overlap": ratio(2 * precision * recall, precision + recall)}

    return Tally(counts, formulas, by_label=label_counts(types, "entities", OVERALL, overlap))


def _count_types(rows: Sequence[tuple[Collection[WordSpan], ...]], types: Sequence[str]) -> Any:
    """How many spans of each type are in each block of an example, (E, B T) for B blocks."""
    from scipy.sparse import coo_array

    index, size = {label: i for i, label in enumerate(types)}, len(types)
    entries = [
        (row, block * size + index[span.label])
        for row, blocks in enumerate(rows)
        for block, spans in enumerate(blocks)
        for span in spans
        if span.label in index
    ]
    places, columns = np.array(entries, dtype=np.int64).reshape(-1, 2).T
    return coo_array((np.ones(len(places)), (places, columns)), shape=(len(rows), len(rows[0]) * size))


def confused_types(predicted: Spans, gold: Spans, num_words: Sequence[int]) -> list[tuple[str, str]]:
    """The gold and the predicted type of each word, if at least one is an entity.

    Args:
        predicted: the predicted entities of each example.
        gold: the correct ones.
        num_words: of each example.
    """
    pairs = []
    for found, truth, count in zip(predicted, gold, num_words, strict=True):
        types = zip(_types_of_words(truth, count), _types_of_words(found, count), strict=True)
        pairs += [pair for pair in types if pair != (NO_ENTITY, NO_ENTITY)]
    return pairs


def _types_of_words(spans: Sequence[WordSpan], count: int) -> list[str]:
    types = [NO_ENTITY] * count
    for span in spans:
        types[span.start : span.stop] = [span.label] * (span.stop - span.start)
    return types


def _equal(spans: Sequence[WordSpan], others: Sequence[WordSpan]) -> set[WordSpan]:
    return set(spans) & set(others)


def _overlapping(spans: Sequence[WordSpan], others: Sequence[WordSpan]) -> list[WordSpan]:
    words = {(other.label, word) for other in others for word in range(other.start, other.stop)}
    return [span for span in spans if any((span.label, word) in words for word in range(span.start, span.stop))]
