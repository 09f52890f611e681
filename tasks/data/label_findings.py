"""Findings about the labels of labelled data: rare, missing, unbalanced and similar ones."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, combinations

from .examples import Example
from .findings import Finding, are, count, have
from .labels import UNLABELLED, merged_spellings, merging_key
from .places import format_places

MIN_EXAMPLES = 5  # of a label that is not rare
MAX_IMBALANCE = 10  # ratio of the most frequent to the least frequent label
MIN_TYPO_LENGTH = 5  # letters of a label, from which a difference of one letter may be a typing error
MAX_TYPO_LENGTH = 60  # letters of a label, up to which it is compared letter by letter
MAX_COMPARED = 5_000  # labels that are compared with each other
MAX_ALIKE = 20  # labels that differ in the same letter; more are an enumeration, not typing errors
MAX_SHOWN = 5  # labels in one message


def label_findings(train: Sequence[Example], evaluation: Sequence[Example]) -> Iterator[Finding]:
    """All findings about labels; none if the examples have no labels."""
    counts = Counter(label for example in train for label in example.labels)
    if counts:
        yield from _rare_labels(counts)
        yield from _imbalance(train, counts)
        yield from _unlabelled_rows(train)
        yield from _minus_one(train, evaluation, counts)
        yield from _one_sided_labels(evaluation, counts)
        yield from _similar_labels(train, counts)


def _rare_labels(counts: Counter[str]) -> Iterator[Finding]:
    rare = [f"{label!r} ({number})" for label, number in counts.most_common() if number < MIN_EXAMPLES]
    if rare:
        what = f"{count(len(rare), 'label')} {have(rare)} fewer than {MIN_EXAMPLES} examples"
        yield Finding("rare", "warning", f"{what}, which is too few to learn from: {_first(rare)}.")


def _imbalance(train: Sequence[Example], counts: Counter[str]) -> Iterator[Finding]:
    ranked = counts.most_common()
    (most_frequent, highest), (least_frequent, lowest) = ranked[0], ranked[-1]
    if highest >= MAX_IMBALANCE * lowest and all(len(example.labels) == 1 for example in train):
        what = f"{most_frequent!r} has {highest:,} examples and {least_frequent!r} has {lowest:,}"
        yield Finding("imbalance", "note", f"{what}; --class-weight balanced gives rare labels a higher weight.")


def _unlabelled_rows(train: Sequence[Example]) -> Iterator[Finding]:
    places = tuple(example.where for example in train if not (example.labels or example.often_unlabelled))
    if places:
        what = f"{count(len(places), 'row')} {have(places)} no label, which means that no label applies"
        yield Finding("unlabelled", "note", f"{what}: {format_places(places)}.", places)


def _minus_one(train: Sequence[Example], evaluation: Sequence[Example], counts: Counter[str]) -> Iterator[Finding]:
    """The label -1 among class ids."""
    others = counts.keys() - {UNLABELLED}
    if "0" not in others or not all(label.isdecimal() for label in others):
        return
    places = tuple(example.where for example in chain(train, evaluation) if UNLABELLED in example.labels)
    if places:
        what = f"{count(len(places), 'row')} {have(places)} the label -1"
        meaning = "which means unlabelled in GLUE; here it is a label like the others"
        message = f"{what}, {meaning}: {format_places(places)}. Delete the rows, unless -1 is a label."
        yield Finding("minus one", "warning", message, places)


def _one_sided_labels(evaluation: Sequence[Example], counts: Counter[str]) -> Iterator[Finding]:
    """Labels that are only in the training data, or only in the evaluation data."""
    evaluated = {label for example in evaluation for label in example.labels}
    missing = [repr(label) for label in counts if label not in evaluated]
    if evaluation and missing:
        what = f"{count(len(missing), 'label')} {are(missing)} not in the evaluation data"
        them = "it" if len(missing) == 1 else "them"
        yield Finding("unmeasured", "note", f"{what}, so no metric covers {them}: {_first(missing)}.")
    untrained = sorted(repr(label) for label in evaluated - counts.keys())
    if untrained:
        places = tuple(example.where for example in evaluation if set(example.labels) - counts.keys())
        what = f"{count(len(untrained), 'label')} {are(untrained)} only in the evaluation data"
        them = "it" if len(untrained) == 1 else "them"
        message = f"{what}, so the model does not learn {them}: {_first(untrained)} ({format_places(places)})."
        yield Finding("untrained", "warning", message, places)


def _similar_labels(train: Sequence[Example], counts: Counter[str]) -> Iterator[Finding]:
    """Labels that differ only in case, spaces or one letter."""
    messages: list[str] = []
    if spellings := merged_spellings(counts):
        # Only labels of whole texts can be merged; annotated spans are often missing in a text, labels are not.
        option = "" if train and train[0].often_unlabelled else " with --merge-labels"
        more = f"; and {len(spellings) - MAX_SHOWN} more" if len(spellings) > MAX_SHOWN else ""
        messages.append(f"labels differ only in case or spaces:{option} {'; '.join(spellings[:MAX_SHOWN])}{more}.")
    distinct = {merging_key(label): label for label in sorted(counts, key=counts.__getitem__)}
    similar = [f"{a!r} ({counts[a]:,}) and {b!r} ({counts[b]:,})" for a, b in _typing_errors(list(distinct.values()))]
    if similar:
        messages.append(f"these labels may be meant to be the same: {_first(similar)}.")
    if messages:
        yield Finding("similar", "warning", " ".join(messages))


def _typing_errors(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of labels that differ in one letter, in a space or a dash."""
    if len(labels) > MAX_COMPARED:
        return []  # not written by hand
    # Labels that differ in one letter share a key: the name, or the name without one of its letters.
    by_key: dict[str, list[str]] = {}
    for label in labels:
        name = _normalize(label)
        shorter = (name[:i] + name[i + 1 :] for i in range(len(name))) if len(name) <= MAX_TYPO_LENGTH else ()
        for key in {name, *shorter}:
            by_key.setdefault(key, []).append(label)
    groups = [group for group in by_key.values() if len(group) <= MAX_ALIKE]
    pairs = dict.fromkeys(pair for group in groups for pair in combinations(group, 2))
    return [pair for pair in pairs if _are_similar(*pair)]


def _normalize(label: str) -> str:
    return re.sub(r"[\s_-]", "", label).casefold()


def _are_similar(one: str, other: str) -> bool:
    """Whether the normalized labels are equal, or so long that a difference of one letter may be a typing error."""
    shorter, longer = sorted((_normalize(one), _normalize(other)), key=len)
    if not any(letter.isalpha() for letter in shorter):
        return False  # "-1" and "1"
    if shorter == longer:
        return True
    start = next((i for i, (x, y) in enumerate(zip(shorter, longer, strict=False)) if x != y), len(shorter))
    difference = shorter[start : start + 1] + longer[start : start + 1]
    if len(shorter) < MIN_TYPO_LENGTH or any(character.isdigit() for character in difference):
        return False  # "1 star" and "2 stars"
    if len(shorter) < len(longer):
        return shorter[start:] == longer[start + 1 :]
    swapped = shorter[start : start + 2] == longer[start : start + 2][::-1]
    return shorter[start + 1 :] == longer[start + 1 :] or (swapped and shorter[start + 2 :] == longer[start + 2 :])


def _first(labels: Sequence[str]) -> str:
    """The first labels, and the number of the others."""
    more = f" and {len(labels) - MAX_SHOWN} more" if len(labels) > MAX_SHOWN else ""
    return ", ".join(labels[:MAX_SHOWN]) + more
