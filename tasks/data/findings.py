"""What can be wrong, or worth knowing, about labelled data: one generator for each kind of finding."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from .examples import Example, ExampleWarning
from .features import Features, num_truncated_tokens, total_length
from .labels import UNLABELLED
from .places import format_places

FEWEST_EXAMPLES = 5  # of a label; with fewer it can hardly be learnt
IMBALANCE = 10  # times as many examples of the commonest label as of the rarest
SHORT = 3  # characters; what is shorter says little
UNKNOWN_SHARE = 0.1  # of the tokens: the vocabulary is then one for another language
TYPO_LETTERS = 5  # in a name of a label, from which on one changed letter may be a slip of the hand
MOST_NAMED = 5  # labels in one sentence

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """Something about the data that a person should know."""

    kind: str  # "unusable", "labels", "duplicate", "conflict", "leak", "rare", "similar", "long", "cut", ...
    level: Level  # an error stops training
    message: str
    places: tuple[str, ...] = ()  # all of them: "train.tsv, line 12"


def duplicates(train: Sequence[Example]) -> Iterator[Finding]:
    """The same text in several rows, with one label or with different ones."""
    by_text: dict[tuple[str, ...], list[Example]] = {}
    for example in train:
        by_text.setdefault(_text_of(example), []).append(example)
    conflicts, repeats = [], []
    for same in by_text.values():
        agree = all(_agree(example, same[0]) for example in same)
        repeats += same[1:] if agree else []
        conflicts += [] if agree else [same]
    if conflicts:
        one = conflicts[0]
        labels = f"{_gold(one[0])} and {next(_gold(example) for example in one if not _agree(example, one[0]))}"
        places = tuple(example.where for same in conflicts for example in same)
        texts = f"{_count(len(conflicts), 'text')} {_have(conflicts)} different labels in different rows"
        yield Finding("conflict", "warning", f"{texts}, for example {labels}: {format_places(places)}.", places)
    if repeats:
        places = tuple(example.where for example in sorted(repeats, key=lambda example: example.row))
        rows = f"{_count(len(repeats), 'row')} {'repeats' if len(repeats) == 1 else 'repeat'}"
        yield Finding(
            "duplicate", "note", f"{rows} the text and label of an earlier row: {format_places(places)}.", places
        )


def leaks(train: Sequence[Example], held_out: Sequence[Example]) -> Iterator[Finding]:
    """The same text in the training data and in the evaluation data."""
    known = {_text_of(example) for example in train}
    places = tuple(example.where for example in held_out if _text_of(example) in known)
    if places:
        both = f"{len(places):,} of {len(held_out):,} evaluation texts {_are(places)} in the training data as well"
        mend = "Delete them from one of the two."
        yield Finding(
            "leak", "warning", f"{both}, which flatters the figures: {format_places(places)}. {mend}", places
        )


def about_labels(train: Sequence[Example], held_out: Sequence[Example], counts: Counter[str]) -> Iterator[Finding]:
    """Labels that are rare, missing on one side, or far from balanced; rows without any."""
    if not counts:
        return
    rare = [f"{label!r} ({count})" for label, count in counts.most_common() if count < FEWEST_EXAMPLES]
    if rare:
        few = f"{_count(len(rare), 'label')} {_have(rare)} fewer than {FEWEST_EXAMPLES} examples"
        yield Finding("rare", "warning", f"{few}, too few to learn: {_named(rare)}.")
    (most, common), (least, scarce) = counts.most_common()[0], counts.most_common()[-1]
    if common >= IMBALANCE * scarce and all(len(example.labels) == 1 for example in train):
        far = f"{most!r} has {common:,} examples and {least!r} {scarce:,}"
        yield Finding("imbalance", "note", f"{far}; with --class-weight balanced rare labels count for more.")
    without = tuple(example.where for example in train if not (example.labels or example.often_unlabelled))
    if without:
        rows = f"{_count(len(without), 'row')} {_have(without)} no label, which is read as none applies"
        yield Finding("unlabelled", "note", f"{rows}: {format_places(without)}.", without)
    others = counts.keys() - {UNLABELLED}
    placed = tuple(example.where for example in (*train, *held_out) if UNLABELLED in example.labels)
    if placed and "0" in others and all(label.isdecimal() for label in others):
        rows = f"{_count(len(placed), 'row')} {_have(placed)} the label -1"
        meaning = "which GLUE writes where nobody has said it; here it is learnt as a label like the others"
        mend = "Delete the rows, unless it is one."
        yield Finding("minus one", "warning", f"{rows}, {meaning}: {format_places(placed)}. {mend}", placed)
    measured = {label for example in held_out for label in example.labels}
    unmeasured = [repr(label) for label in counts if label not in measured]
    if held_out and unmeasured:
        labels = f"{_count(len(unmeasured), 'label')} {_are(unmeasured)} not in the evaluation data"
        yield Finding("unmeasured", "note", f"{labels}, so nothing is measured there: {_named(unmeasured)}.")
    untrained = tuple(example.where for example in held_out if set(example.labels) - counts.keys())
    if untrained:
        labels = _named(sorted(repr(label) for label in measured - counts.keys()))
        places = format_places(untrained)
        yield Finding(
            "untrained", "warning", f"{labels}: in the evaluation data only, never trained: {places}.", untrained
        )


def similar_labels(counts: Counter[str]) -> Iterator[Finding]:
    """Labels that differ in case, spaces or one letter only."""
    # Names that are one letter apart have a key in common: the name itself, or the name without one of its letters.
    by_key: dict[str, list[str]] = {}
    for label in counts:
        name = _plain(label)
        for key in {name, *(name[:i] + name[i + 1 :] for i in range(len(name)))}:
            by_key.setdefault(key, []).append(label)
    pairs = dict.fromkeys(pair for labels in by_key.values() for pair in combinations(labels, 2))
    alike = [f"{a!r} ({counts[a]:,}) and {b!r} ({counts[b]:,})" for a, b in pairs if _look_alike(_plain(a), _plain(b))]
    if alike:
        yield Finding("similar", "warning", f"these labels may be meant to be one: {_named(alike)}.")


def _plain(label: str) -> str:
    return re.sub(r"[\s_-]", "", label).casefold()


def _look_alike(a: str, b: str) -> bool:
    """Whether two names are equal, or long enough for one changed letter to be a slip of the hand."""
    shorter, longer = sorted((a, b), key=len)
    if not any(letter.isalpha() for letter in shorter):
        return False  # "-1" and "1"
    if a == b:
        return True
    start = next((i for i, (x, y) in enumerate(zip(shorter, longer, strict=False)) if x != y), len(shorter))
    differs = shorter[start : start + 1] + longer[start : start + 1]
    if len(shorter) < TYPO_LETTERS or any(sign.isdigit() for sign in differs):
        return False  # "1 star" and "2 stars" are meant to differ
    if len(shorter) < len(longer):
        return shorter[start:] == longer[start + 1 :]
    swapped = shorter[start : start + 2] == longer[start : start + 2][::-1]
    return shorter[start + 1 :] == longer[start + 1 :] or (swapped and shorter[start + 2 :] == longer[start + 2 :])


def short_texts(train: Sequence[Example]) -> Iterator[Finding]:
    """Texts of hardly any letters."""
    places = tuple(example.where for example in train if min(len(text.strip()) for text in example.texts) < SHORT)
    if places:
        yield Finding(
            "short",
            "note",
            f"{_count(len(places), 'text')} {_have(places)} fewer than {SHORT} characters: {format_places(places)}.",
            places,
        )


def long_texts(
    train: Sequence[Example], windows_by_example: Sequence[list[Features]], limit: int
) -> Iterator[Finding]:
    """Texts that are longer than a sequence may be, and what becomes of them."""
    cut_up = [len(windows) > 1 and any(one.length > limit for one in windows) for windows in windows_by_example]
    windowed = tuple(example.where for example, several in zip(train, cut_up, strict=True) if several)
    if windowed:
        num_windows = sum(len(windows) for windows, several in zip(windows_by_example, cut_up, strict=True) if several)
        yield Finding(
            "long",
            "note",
            f"{len(windowed):,} of {_count(len(train), 'text')} {_are(windowed)} longer than {limit:,} tokens and "
            f"{_are(windowed)} read in {num_windows:,} overlapping windows: {format_places(windowed)}.",
            windowed,
        )
    lost = [num_truncated_tokens(windows) for windows in windows_by_example]
    places = tuple(example.where for example, tokens in zip(train, lost, strict=True) if tokens)
    if places:
        share = sum(lost) / sum(map(total_length, windows_by_example))
        yield Finding(
            "cut",
            "warning",
            f"{len(places):,} of {_count(len(train), 'text')} {_are(places)} cut at {limit:,} tokens, as you said: "
            f"{sum(lost):,} tokens ({share:.1%} of all) are never read: {format_places(places)}.",
            places,
        )


def unknown_tokens(windows_by_example: Sequence[list[Features]], unknown: int | None) -> Iterator[Finding]:
    """A vocabulary that does not know the texts' words."""
    tokens = sum(len(one.input_ids) for windows in windows_by_example for one in windows)
    strange = (
        0
        if unknown is None
        else sum(one.input_ids.count(unknown) for windows in windows_by_example for one in windows)
    )
    yield from unknown_share(strange, tokens)


def unknown_share(strange: int, tokens: int) -> Iterator[Finding]:
    """Too large a part of all tokens that the vocabulary does not know."""
    if strange > UNKNOWN_SHARE * tokens:
        yield Finding(
            "unknown",
            "warning",
            f"{strange / tokens:.0%} of the tokens are unknown to the model's vocabulary. It is hardly made for these "
            "texts: choose a --model for their language.",
        )


def about_warnings(found: Mapping[ExampleWarning, Sequence[str]], examples: int) -> Iterator[Finding]:
    """The remarks about so many examples; one may be true of an example several times."""
    for remark, places in found.items():
        distinct = tuple(dict.fromkeys(places))
        times = f"{len(places):,} times in " if len(places) > len(distinct) else ""
        share = f"{times}{len(distinct):,} of {_count(examples, 'example')}"
        first = f" ({remark.detail}{', ...' * (len(places) > 1)})" if remark.detail else ""
        yield Finding(
            "remark", remark.level, f"{share}: {remark.message}{first}: {format_places(distinct)}.", distinct
        )


def _text_of(example: Example) -> tuple[str, ...]:
    """An example's texts as they are compared: spaces do not matter."""
    return tuple(" ".join(text.split()) for text in example.texts)


def _agree(one: Example, other: Example) -> bool:
    """Whether two examples have the same gold; of several labels the order says nothing."""
    if isinstance(one.gold, tuple) and isinstance(other.gold, tuple):
        return sorted(one.gold) == sorted(other.gold)
    return one.gold == other.gold


def _gold(example: Example) -> str:
    gold = example.gold
    if isinstance(gold, tuple):
        return ", ".join(map(repr, gold)) or "none"
    return repr(gold) if isinstance(gold, str) else f"{gold:g}" if isinstance(gold, float) else str(gold)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + "s" * (number != 1)


def _have(things: Sequence[Any]) -> str:
    return "has" if len(things) == 1 else "have"


def _are(things: Sequence[Any]) -> str:
    return "is" if len(things) == 1 else "are"


def _named(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - MOST_NAMED} more" if len(labels) > MOST_NAMED else ""
    return ", ".join(labels[:MOST_NAMED]) + more
