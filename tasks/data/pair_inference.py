"""Inference of pairs of texts from column names that belong together, and the note about texts that are not read."""

from .column_names import PARTNERS, normalize_name, second_names
from .partial_mapping import PartialMapping
from .places import shorten

FIRST, SECOND = "text", "pair"  # the fields
FILLED = 0.9  # share of the rows that have a second text; rows without one could not be used


def assign_known_pair(mapping: PartialMapping) -> None:
    """Assigns the columns of a pair that is usual in published data: "question" and "sentence"."""
    if not {FIRST, SECOND} <= {field.name for field in mapping.open_fields}:
        return
    texts = {normalize_name(column): column for column in _filled_texts(mapping)}
    for first, names in PARTNERS.items():
        second = next((texts[name] for name in map(normalize_name, names) if name in texts), None)
        if first in texts and second is not None:
            _assign(mapping, texts[first], second)
            return


def assign_numbered_pair(mapping: PartialMapping) -> None:
    """Assigns two texts whose names belong together: "#1 String" and "#2 String", "text" and "text2"."""
    if SECOND not in {field.name for field in mapping.open_fields}:
        return
    texts = _filled_texts(mapping)
    for first in [mapping.texts[FIRST]] if FIRST in mapping.texts else texts:
        names = second_names(first)
        second = next((column for column in texts if normalize_name(column) in names and column != first), None)
        if second is not None:
            _assign(mapping, first, second)
            return


def note_unread_texts(mapping: PartialMapping) -> None:
    """Says which columns contain texts that are not read, if one of them could be the second text."""
    texts = mapping.text_candidates
    if mapping.named and texts and SECOND in {field.name for field in mapping.open_fields}:
        names = shorten(", ".join(map(mapping.quote, texts)), 200)
        what = f"column{'s' * (len(texts) > 1)} {names}, which contain{'s' * (len(texts) == 1)} texts as well"
        mapping.notes["unread"] = f"not read: {what} ({mapping.option(SECOND)} reads one as the second text)"


def _filled_texts(mapping: PartialMapping) -> list[str]:
    least = FILLED * len(mapping.rows)
    return [column for column in mapping.text_candidates if len(mapping.contents[column].cells) >= least]


def _assign(mapping: PartialMapping, first: str, second: str) -> None:
    if FIRST not in mapping.texts:
        mapping.assign_text(FIRST, first, f'the first of two, with "{second}"')
    required = next(field.required for field in mapping.fields if field.name == SECOND)
    optional = "" if required else f"; {mapping.no_column(SECOND)} leaves it out"
    mapping.assign_text(SECOND, second, f'the second of two, with "{first}"{optional}')
