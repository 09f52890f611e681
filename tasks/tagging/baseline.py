"""Tagged entities beside a constant prediction: no entity, or the most frequent tag where every word has one."""

from collections import Counter
from collections.abc import Sequence

from ..base.baseline import Baseline, agreement, indicators
from .entity_scores import Spans, entity_metrics


def entity_baseline(
    predicted: Spans, gold: Spans, words: Sequence[Sequence[int]], *, outside: bool
) -> Baseline | None:
    """The predicted entities beside the constant prediction; None if all words have the same type.

    Args:
        predicted: the predicted entities of each example.
        gold: the correct ones.
        words: the words of each example that count.
        outside: whether words can be outside of all entities.
    """
    found, right = _types(predicted, words), _types(gold, words)
    counts = Counter(right)
    if len(counts) < 2:
        return None
    labels = sorted({label for row in (*found, *right) for label in row})
    deviations = agreement(indicators(found, labels), indicators(right, labels))
    if outside:
        score = entity_metrics(predicted, gold)["f1"]
        return Baseline("finding no entity", "f1", score, 0.0, deviations, len(gold))
    (tag, count), *_ = counts.most_common()
    accuracy = sum(one == other for one, other in zip(found, right, strict=True)) / len(right)
    constant = f"always predicting {' '.join(tag)!r}"
    return Baseline(constant, "accuracy", accuracy, count / len(right), deviations, len(gold))


def _types(spans: Spans, words: Sequence[Sequence[int]]) -> list[tuple[str, ...]]:
    """The entity type of each word that counts; empty outside of entities."""
    found: list[tuple[str, ...]] = []
    for some, counted in zip(spans, words, strict=True):
        types = {word: (span.label,) for span in some for word in range(span.start, span.stop)}
        found += [types.get(word, ()) for word in counted]
    return found
