"""Which columns hold the words and their tags, or the text and its character spans."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from ...core.errors import HeadwayError
from ..data.column_names import normalize_name
from ..data.columns import ColumnMapping
from ..data.rows import SAMPLE_ROWS, RowStream, Table
from .outside_tags import MARKS
from .tag_schemes import OUTSIDE
from .words_and_tags import is_tagged

GLINER_WORDS = "tokenized_text"  # whose spans are numbers of words
# Column names of words, and of tags or spans, in published data sets and exports of annotation tools.
WORD_COLUMNS = ("tokens", "words", "token", "word", GLINER_WORDS)
TAG_COLUMNS = ("ner_tags", "spans", "ner", "tags", "tag", "entities", "labels", "label", "word_labels", "annotations")
# Columns with a class for every word, not entities: those of CoNLL-U, and parts of speech in other data.
CLASS_COLUMNS = ("upos", "xpos", "feats", "deprel", "lemma", "pos", "pos_tags")
HEAD_COLUMNS = ("head", "deps")  # of CoNLL-U: numbers of words
UNSPECIFIED = "_"  # in CoNLL-U
ENTITY_TAG = re.compile(r"[BIESLUM]-\S+")


def infer_tag_columns(
    table: Table | RowStream,
    given: Mapping[str, Any],
    infer: Callable[[Mapping[str, Any]], ColumnMapping],
    need_label: bool,
) -> ColumnMapping:
    """The columns of words and tags, or of texts and character spans.

    Args:
        table: the rows.
        given: the columns that the user named.
        infer: infers the columns that are not named.
        need_label: whether there must be a column of tags or spans.

    Raises:
        HeadwayError: the columns cannot be inferred, or several columns of tags are named.
    """
    chosen, notes = dict(given), []
    if not chosen.get("label") and (found := find_column(table, TAG_COLUMNS, chosen.get("text"))):
        chosen["label"] = found
        notes.append(f'label: column "{found}" (by name)')
    tagged = entity_tag_columns(table) if need_label else []
    if not chosen.get("label") and len(tagged) == 1:
        chosen["label"] = tagged[0]
        notes.append(f'label: column "{tagged[0]}" (its values are B- and I- tags)')
    universal = find_column(table, ("upos",)) and find_column(table, ("form", *WORD_COLUMNS))
    if universal and not chosen.get("text"):
        chosen["text"] = universal
        notes.append(f'text: column "{universal}" (by name)')
    if universal and need_label and not chosen.get("label"):
        chosen["label"], note = _part_of_speech_column(table)
        notes.append(note)
    columns = infer(chosen)
    _refuse_heads(table, columns.label)
    if isinstance(columns.label, tuple):
        raise HeadwayError(
            f"{table.source}: tags are in one column, but --label names {len(columns.label)} "
            f"({', '.join(columns.label)}). Name one column."
        )
    if columns.label in tagged and (others := [one for one in tagged if one != columns.label]):
        listed = ", ".join(f'"{one}"' for one in others)
        notes.append(f"there are B- and I- tags in column {listed} too (--label {others[0]} reads them instead)")
    words = find_column(table, WORD_COLUMNS)
    if words and not chosen.get("text") and has_tags(table, words, columns.label):
        notes.append(f'text: column "{words}" (by name)')
        others = [note for note in columns.notes if not note.startswith("text:")]
        return replace(columns, texts={**columns.texts, "text": words}, notes=(*others, *notes))
    return replace(columns, notes=(*columns.notes, *notes))


def is_class_column(column: str) -> bool:
    """Whether a column has, by its name, a class for every word: a part of speech, morphological features."""
    return normalize_name(column) in map(normalize_name, CLASS_COLUMNS)


def _part_of_speech_column(table: Table | RowStream) -> tuple[str, str]:
    """The universal parts of speech, or those of the language without them; and a note."""
    rows = [row for _, row in islice(table, SAMPLE_ROWS)]
    there = [
        name
        for name in ("upos", "xpos", "feats", "deprel")
        if any(set(row.get(name) or ()) - {UNSPECIFIED} for row in rows)
    ]
    chosen, *others = there or ["upos"]
    also = f" (--label {' or '.join(others)} reads another column)" if others else ""
    return chosen, f'label: column "{chosen}"{also}'


def _refuse_heads(table: Table | RowStream, label: Any) -> None:
    if isinstance(label, str) and normalize_name(label) in HEAD_COLUMNS and find_column(table, ("deprel",)):
        raise HeadwayError(
            f'{table.source}: column "{label}" has the numbers of words, which are not tags. Name another column with '
            "--label (upos, xpos, feats, deprel); `headway probe MODEL --data FILE --structure` reads the heads."
        )


def find_column(table: Table | RowStream, names: Sequence[str], except_for: Any = None) -> str | None:
    """The column with the first of these names that a column has."""
    columns = {normalize_name(column): column for column in reversed(table.columns) if column != except_for}
    return next((columns[normalize_name(name)] for name in names if normalize_name(name) in columns), None)


def has_tags(table: Table | RowStream, words: str, label: str | None) -> bool:
    """Whether a column has a tag for each word of another column, or spans of its words, in one of the first rows."""
    if label is None:
        return False
    cells = [(row.get(words), row.get(label)) for _, row in islice(table, SAMPLE_ROWS)]
    by_words = normalize_name(words) == normalize_name(GLINER_WORDS)
    return any(isinstance(given, list) and cell and (by_words or is_tagged(given, cell)) for given, cell in cells)


def entity_tag_columns(table: Table | RowStream) -> list[str]:
    """The columns with lists of tags of entities in the first rows: B-PER, I-PER, O or a mark for it."""
    rows = [row for _, row in islice(table, SAMPLE_ROWS)]
    return [column for column in table.columns if _has_entity_tags([row.get(column) for row in rows])]


def _has_entity_tags(cells: Sequence[Any]) -> bool:
    if not cells or not all(isinstance(cell, list) for cell in cells):
        return False
    tags = {tag for cell in cells for tag in cell if isinstance(tag, str)}
    return any(ENTITY_TAG.fullmatch(tag) for tag in tags) and all(
        tag == OUTSIDE or tag in MARKS or ENTITY_TAG.fullmatch(tag) for tag in tags
    )
