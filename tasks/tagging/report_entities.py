"""Errors of entities by their kind, as in MUC-5 (Chinchor and Sundheim 1993, https://aclanthology.org/M93-1007)."""

from collections import Counter
from collections.abc import Callable, Sequence

from ..base.report_parts import ReportCollector, ReportPart, ReportTable
from .predictions import EntitiesPrediction, TaggedExample
from .tag_schemes import WordSpan, tags_to_spans

SpanPairs = tuple[list[list[WordSpan]], list[list[WordSpan]]]  # the predicted and the gold entities of each example
KINDS = CORRECT, TYPE, BOUNDARY, BOTH, MISSED = ("correct", "wrong type", "wrong boundaries", "both wrong", "missed")
SPURIOUS = "spurious"


def entity_spans(
    predictions: Sequence[EntitiesPrediction], examples: Sequence[TaggedExample], scheme: str, *, every_word: bool
) -> SpanPairs:
    """The predicted and the gold entities of each example, without ignored words."""
    predicted = [
        tags_to_spans(prediction.tags, scheme != "IO", example.ignored, every_word=every_word)
        for prediction, example in zip(predictions, examples, strict=True)
    ]
    return predicted, [list(example.spans or ()) for example in examples]


def entity_errors(predicted: Sequence[WordSpan], gold: Sequence[WordSpan]) -> list[tuple[str, str]]:
    """The type and the kind of each gold entity, and of predicted ones that share no word with a gold one.

    A gold entity is compared with the predicted one that shares the most words with it, of the same type if two share
    as many.
    """
    found = []
    for one in gold:
        near = [other for other in predicted if _shared(one, other)]
        if not near:
            found.append((one.label, MISSED))
            continue
        best = max(near, key=lambda other: (other == one, _shared(one, other), other.label == one.label))
        same_type, same_words = best.label == one.label, (best.start, best.stop) == (one.start, one.stop)
        kind = CORRECT if same_type and same_words else TYPE if same_words else BOUNDARY if same_type else BOTH
        found.append((one.label, kind))
    return found + [(one.label, SPURIOUS) for one in predicted if not any(_shared(one, other) for other in gold)]


def _shared(one: WordSpan, other: WordSpan) -> int:
    return max(0, min(one.stop, other.stop) - max(one.start, other.start))


class EntityErrors(ReportCollector):
    """Counts the kinds of errors of each type.

    Args:
        spans: predictions and examples -> predicted and gold entities.
    """

    def __init__(self, spans: Callable[[Sequence[EntitiesPrediction], Sequence[TaggedExample]], SpanPairs]) -> None:
        self._spans = spans
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, predictions: Sequence[EntitiesPrediction], examples: Sequence[TaggedExample]) -> None:
        """Adds examples with their predictions."""
        for predicted, gold in zip(*self._spans(predictions, examples), strict=True):
            self._counts.update(entity_errors(predicted, gold))

    def parts(self) -> list[ReportPart]:
        """A row per type, and one for all."""
        types = sorted({label for label, _ in self._counts})
        rows = [{"type": label, **{kind: self._counts[label, kind] for kind in (*KINDS, SPURIOUS)}} for label in types]
        if len(types) > 1:
            names = (*KINDS, SPURIOUS)
            rows.append({"type": "all", **{kind: sum(self._counts[label, kind] for label in types) for kind in names}})
        note = (
            "Of the entities of each type: right ones, those found with another type or with other words, and those "
            "that no prediction touches. Spurious: predicted entities of this type that touch no entity."
        )
        return [ReportTable("Kinds of errors", rows, note)] if rows else []
