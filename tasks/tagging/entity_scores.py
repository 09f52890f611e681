"""Figures for entities: strictly, as conlleval and seqeval count them, and by overlap.

https://www.clips.uantwerpen.be/conll2000/chunking/output.html, https://github.com/chakki-works/seqeval
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from .tag_schemes import Chunk


def entity_figures(found: Sequence[Sequence[Chunk]], gold: Sequence[Sequence[Chunk]]) -> dict[str, float]:
    """Precision, recall and F1 over all entities: strictly (same words, same label), and by overlap.

    By overlap, an entity counts as found if it shares a word with one of the same label on the other side.
    """
    strict, overlap = _count_hits(found, gold)
    f1, precision, recall = _figures(strict.total(), strict.total(), _total(found), _total(gold))
    touched = overlap["found"].total(), overlap["gold"].total()
    f1_overlap, precision_overlap, recall_overlap = _figures(*touched, _total(found), _total(gold))
    return {
        "f1": f1,
        "precision": precision,
        "recall": recall,
        "f1_overlap": f1_overlap,
        "precision_overlap": precision_overlap,
        "recall_overlap": recall_overlap,
    }


def entity_figures_by_label(
    found: Sequence[Sequence[Chunk]], gold: Sequence[Sequence[Chunk]], labels: Sequence[str]
) -> list[dict[str, Any]]:
    """A row a label: precision, recall and F1 strictly, F1 by overlap, and how many entities there are."""
    strict, overlap = _count_hits(found, gold)
    given, there = (Counter(chunk.label for row in rows for chunk in row) for rows in (found, gold))
    rows = []
    for label in labels:
        f1, precision, recall = _figures(strict[label], strict[label], given[label], there[label])
        touched = overlap["found"][label], overlap["gold"][label]
        f1_overlap, _, _ = _figures(*touched, given[label], there[label])
        rows.append(
            {
                "label": label,
                "precision": precision,
                "recall": recall,
                "f1": f1,
                "f1_overlap": f1_overlap,
                "entities": there[label],
            }
        )
    return rows


def _count_hits(
    found: Sequence[Sequence[Chunk]], gold: Sequence[Sequence[Chunk]]
) -> tuple[Counter[str], Mapping[str, Counter[str]]]:
    """By label: entities found exactly; and of those found and of the gold ones, how many touch the other side."""
    strict: Counter[str] = Counter()
    overlap: dict[str, Counter[str]] = {"found": Counter(), "gold": Counter()}
    for guesses, truths in zip(found, gold, strict=True):
        strict.update(chunk.label for chunk in set(guesses) & set(truths))
        for side, ours, theirs in (("found", guesses, truths), ("gold", truths, guesses)):
            words = {(chunk.label, word) for chunk in theirs for word in range(chunk.start, chunk.stop)}
            overlap[side].update(
                chunk.label
                for chunk in ours
                if any((chunk.label, word) in words for word in range(chunk.start, chunk.stop))
            )
    return strict, overlap


def _figures(right: int, recalled: int, given: int, there: int) -> tuple[float, float, float]:
    """F1, precision and recall; 0 where nothing is there to be counted."""
    precision = right / given if given else 0.0
    recall = recalled / there if there else 0.0
    both = precision + recall
    return (2 * precision * recall / both if both else 0.0), precision, recall


def _total(rows: Sequence[Sequence[Chunk]]) -> int:
    return sum(map(len, rows))
