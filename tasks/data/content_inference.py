"""Inference of columns from what their cells look like."""

from .pair_inference import assign_numbered_pair
from .partial_mapping import MIN_FLAGS, PartialMapping
from .places import shorten

MANY_NUMBERS = 20  # distinct numbers from which a note says "numbers" instead of their count
LONGER = 3  # a text column is the main one if its texts are this many times as long as those of the others


def assign_by_content(mapping: PartialMapping, need_label: bool) -> None:
    """Assigns the label and the texts that are missing, as far as only one choice is plausible.

    Args:
        mapping: The columns assigned so far.
        need_label: Whether a label is assigned. If not, the inferred label only helps to find the texts.
    """
    label_is_known = mapping.label is not None
    if not label_is_known:
        flags, candidates = _flag_columns(mapping), mapping.label_candidates
        label_is_known = bool(flags) or len(candidates) == 1
        if flags and need_label:
            mapping.label = flags
            mapping.notes["label"] = f"label: {len(flags)} columns of 0 and 1 ({shorten(', '.join(flags), 200)})"
        elif label_is_known and need_label:
            content = mapping.contents[candidates[0]]
            many = content.is_numeric and content.num_distinct > MANY_NUMBERS
            mapping.assign_label(candidates[0], "numbers" if many else f"{content.num_distinct} different values")
    if mapping.named and (label_is_known or not need_label):
        assign_numbered_pair(mapping)
    _assign_texts(mapping, label_is_known)


def _flag_columns(mapping: PartialMapping) -> tuple[str, ...]:
    """The columns with 0 and 1, if there are enough of them to be one column per label."""
    flags = mapping.flag_columns
    has_both_values = any(mapping.contents[column].num_distinct == 2 for column in flags)
    other_candidates = set(mapping.label_candidates) - set(flags)
    enough = len(flags) >= MIN_FLAGS or (mapping.named and len(flags) == 2 and not other_candidates)
    return tuple(flags) if has_both_values and enough else ()


def _assign_texts(mapping: PartialMapping, label_is_known: bool) -> None:
    """Assigns the main text, and its pair if the file has no header or the pair is required."""
    main = mapping.fields[0]
    open_fields = {field.name: field for field in mapping.open_fields}
    missing = [field.name for field in mapping.open_fields if field.required]
    if main.name not in open_fields:
        if len(missing) == 1:
            _assign_longest(mapping, missing[0])
        return
    pair = open_fields.get("pair")
    texts = mapping.text_candidates
    if (
        pair is not None
        and len(texts) == 2
        and _similar_length(mapping, *texts)
        and (pair.required or (label_is_known and not mapping.named))
    ):
        mapping.assign_text(main.name, texts[0], "the first of two texts")
        mapping.assign_text("pair", texts[1], "the second of two texts")
    elif missing in ([], [main.name]):
        _assign_longest(mapping, main.name)


def _assign_longest(mapping: PartialMapping, field: str) -> None:
    """Assigns the text column that is much longer than the others, or the only one."""
    texts = sorted(mapping.text_candidates, key=lambda column: -mapping.contents[column].mean_length)
    if len(texts) == 1 or (texts and not _similar_length(mapping, *texts[:2])):
        mapping.assign_text(field, texts[0], "the longest texts" if len(texts) > 1 else "the only column of texts")


def _similar_length(mapping: PartialMapping, one: str, other: str) -> bool:
    shorter, longer = sorted((mapping.contents[one].mean_length, mapping.contents[other].mean_length))
    return longer < LONGER * shorter
