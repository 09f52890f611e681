"""Metrics of the tags of words, which lead where every word has one: parts of speech, and other tags without O."""

from collections.abc import Sequence
from typing import Any

from .. import metrics
from .predictions import EntitiesPrediction, TaggedExample
from .tag_schemes import labels_as_tags, spans_to_tags, tag_indices

TagPairs = Sequence[tuple[str, str]]  # the gold and the predicted tag of each word


def tag_pairs(
    predictions: Sequence[EntitiesPrediction], examples: Sequence[TaggedExample], labels: Sequence[str], scheme: str
) -> TagPairs:
    """The gold and the predicted tag of each word that is not ignored."""
    names, indices = labels_as_tags(labels, scheme), tag_indices(labels, scheme)
    pairs: list[tuple[str, str]] = []
    for prediction, example in zip(predictions, examples, strict=True):
        wanted = spans_to_tags(example.spans or (), len(prediction.tags), scheme)
        tags = [names[indices[tag]] if tag in indices else tag for tag in wanted]
        counted = set(range(len(tags))).difference(example.ignored)
        pairs += [(tags[word], prediction.tags[word]) for word in sorted(counted)]
    return pairs


def tag_accuracy(pairs: TagPairs) -> float:
    """The share of words with the gold tag."""
    return sum(gold == predicted for gold, predicted in pairs) / len(pairs) if pairs else 0.0


def tag_metrics(pairs: TagPairs, labels: Sequence[str]) -> dict[str, float]:
    """Accuracy, and the F1 of the tags, averaged over those that occur and weighted by their words."""
    rows = [row for row in tag_metrics_by_label(pairs, labels) if row["words"] or row["precision"]]
    words = max(1, sum(row["words"] for row in rows))
    return {
        "accuracy": tag_accuracy(pairs),
        "f1": sum(row["f1"] for row in rows) / max(1, len(rows)),
        "f1_weighted": sum(row["f1"] * row["words"] for row in rows) / words,
    }


def tag_metrics_by_label(pairs: TagPairs, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Precision, recall, F1 and the number of words of each tag."""
    found = metrics.metrics_by_label([(one,) for _, one in pairs], [(one,) for one, _ in pairs], labels)
    return [{"words" if name == "examples" else name: value for name, value in row.items()} for row in found]
