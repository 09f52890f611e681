"""Labels of words that are compared with predictions, and their corrections in tags.

A word is checked by the type of its entity, O outside of entities.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ...core.errors import HeadwayError
from ..base.label_checks import Correction, LabelCheckHooks, LabelCorrector, LabelsToCheck, refuse_other_label
from ..data.columns import ColumnMapping
from ..data.rows import Table
from .predictions import TaggedExample
from .tag_schemes import OUTSIDE, WordSpan, entity_types, spans_to_tags, tags_to_spans
from .tagged_rows import TaggedRowReader
from .words_and_tags import is_tagged, tag_texts


class WordLabelChecks(LabelCheckHooks):
    """The hooks of a tagger for wrong labels."""

    labels: tuple[str, ...]
    scheme: str

    @property
    def tags_every_word(self) -> bool:
        """Whether each word has a class."""
        raise NotImplementedError

    def row_reader(self, table: Table, columns: ColumnMapping, *, labelled: bool = True) -> TaggedRowReader:
        """Reads the words and the entities of a row."""
        raise NotImplementedError

    def labels_to_check(self, examples: Sequence[TaggedExample]) -> list[LabelsToCheck]:
        """The type of each word that has a tag."""
        given_types = {span.label for example in examples for span in example.spans or ()}
        classes = (OUTSIDE, *sorted({*entity_types(self.labels, self.scheme), *given_types} - {OUTSIDE}))
        index = {label: i for i, label in enumerate(classes)}
        found = [
            (position, word, index[label])
            for position, example in enumerate(examples)
            for word, label in enumerate(word_types(example.spans or (), len(example.words)))
            if word not in example.ignored
        ]
        owners, words, given = np.array(found, dtype=np.int64).reshape(-1, 3).T
        return [LabelsToCheck(owners, words, classes, given, of_words=True)]

    def predicted_labels(self, labels: LabelsToCheck, predictions: Sequence[Any]) -> np.ndarray:
        """The probability of each word's predicted type; the rest is divided evenly among the other types."""
        classes = labels.classes
        index = {label: i for i, label in enumerate(classes)}
        spans = [
            None if one is None else tags_to_spans(one.tags, self.scheme != "IO", every_word=self.tags_every_word)
            for one in predictions
        ]
        types = [
            None if of_words is None else word_types(of_words, len(one.tags))
            for one, of_words in zip(predictions, spans, strict=True)
        ]
        found = np.full((len(labels.given), len(classes)), np.nan)
        for i, (owner, word) in enumerate(zip(labels.examples.tolist(), labels.items.tolist(), strict=True)):
            probability = 0.0 if predictions[owner] is None else predictions[owner].probabilities[word]
            if (of_words := types[owner]) is not None and probability:  # 0: the model has not read the word
                found[i] = (1 - probability) / max(1, len(classes) - 1)
                found[i, index[of_words[word]]] = probability
        return found

    def label_corrector(self, table: Table, columns: ColumnMapping) -> LabelCorrector:
        """Writes tags in the scheme of the data; a corrected word is joined with entities of its type beside it."""
        column, text = str(columns.label), columns.texts["text"]
        reading = self.row_reader(table, columns).reading
        outside = Counter(
            tag
            for row in table.rows
            if isinstance(row[column], list)
            for tag in map(str, row[column])
            if tag == OUTSIDE or tag in reading.outside
        )

        def correct(example: TaggedExample, corrections: Sequence[Correction]) -> Mapping[str, Any]:
            row = table.rows[example.row]
            cell = row[column]
            is_list = isinstance(cell, list) and is_tagged(row[text], cell)
            if not is_list or any(map(str.isdecimal, tag_texts(cell))):
                raise HeadwayError(
                    f'{example.where}: labels of words are corrected where column "{column}" has a list with the name '
                    "of a tag for each word. Save the data as .conll, or as .jsonl with such lists."
                )
            before = word_types(example.spans or (), len(example.words))
            for one in corrections:
                if one.word is None or example.words[one.word : one.word + 1] != (one.item,):
                    raise HeadwayError(
                        f'{example.where}: word {one.word} (from 0) is not "{one.item}". The data has changed since '
                        "the search, or it is another file. Search again."
                    )
                refuse_other_label(example, one, before[one.word])
            new = {one.word: one.label for one in corrections if one.word is not None}
            if self.tags_every_word:
                return {column: [new.get(word, tag) for word, tag in enumerate(cell)]}
            spans = list(example.spans or ())
            after = spans_to_tags(correct_spans(spans, new), len(before), self.scheme)
            as_read = spans_to_tags(spans, len(before), self.scheme)
            outside_tag = outside.most_common(1)[0][0] if outside else OUTSIDE
            return {
                column: [
                    tag if word not in new and old == now else outside_tag if now == OUTSIDE else now
                    for word, (tag, old, now) in enumerate(zip(cell, as_read, after, strict=True))
                ]
            }

        return correct


def word_types(spans: Iterable[WordSpan], length: int) -> list[str]:
    """The type of the entity of each word."""
    types = [OUTSIDE] * length
    for span in spans:
        types[span.start : span.stop] = [span.label] * (span.stop - span.start)
    return types


def correct_spans(spans: Sequence[WordSpan], new: Mapping[int, str]) -> list[WordSpan]:
    """Entities in which some words have another type.

    The words of an entity before and after a corrected word stay entities. A corrected word is joined with entities of
    its type beside it.
    """
    parts = []  # (start, stop, type, whether it may be joined)
    for span in spans:
        start = span.start
        for word in [one for one in sorted(new) if span.start <= one < span.stop]:
            parts.append((start, word, span.label, False))
            start = word + 1
        parts.append((start, span.stop, span.label, False))
    parts += [(word, word + 1, label, True) for word, label in new.items() if label != OUTSIDE]
    found: list[WordSpan] = []
    last_is_new = False
    for start, stop, label, is_new in sorted(one for one in parts if one[0] < one[1]):
        if found and (is_new or last_is_new) and (found[-1].stop, found[-1].label) == (start, label):
            found[-1] = WordSpan(found[-1].start, stop, label)
        else:
            found.append(WordSpan(start, stop, label))
        last_is_new = is_new
    return found
