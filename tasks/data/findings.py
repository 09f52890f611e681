"""Findings about the texts of labelled data: duplicates, leaks, lengths and unknown words."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .digests import digests, number_equal
from .examples import Example, ExampleWarning
from .groups import key_bytes, text_key
from .places import format_places
from .token_counts import TokenCounts

MIN_CHARACTERS = 3  # of a text that is not short
MAX_UNKNOWN = 0.1  # share of unknown tokens from which the vocabulary is probably for another language

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """A problem of the data, or a fact that is worth knowing.

    Args:
        kind: Identifier: "unusable", "labels", "duplicate", "conflict", "leak", "rare", "similar", "long", "cut", ...
        level: "error" (training is not possible), "warning" or "note".
        message: What was found.
        places: Locations of all rows: "train.tsv, line 12".
    """

    kind: str
    level: Level
    message: str
    places: tuple[str, ...] = ()


def repeated_texts(train: Sequence[Example]) -> Iterator[Finding]:
    """Texts that occur in several rows, with the same label or with different labels."""
    texts = number_equal(digests(key_bytes(_normalized_texts(example)) for example in train))
    (repeated,) = np.nonzero(np.bincount(texts, minlength=1)[texts] > 1)
    if not len(repeated):
        return
    _, firsts, group = np.unique(texts[repeated], return_index=True, return_inverse=True)
    gold = number_equal(digests(_gold_bytes(train[i]) for i in repeated.tolist()))
    differs = gold != gold[firsts][group]
    in_conflict = np.isin(group, group[differs])
    is_first = np.zeros(len(repeated), dtype=bool)
    is_first[firsts] = True
    if differs.any() and not train[0].labels_may_differ:
        conflicts = np.flatnonzero(in_conflict)
        conflicts = conflicts[np.argsort(group[conflicts], kind="stable")]  # text by text
        first = train[int(repeated[conflicts[0]])]
        other = train[int(repeated[np.flatnonzero(differs & (group == group[conflicts[0]]))[0]])]
        places = _places(train, repeated[conflicts])
        number = int((in_conflict & is_first).sum())
        what = f"{count(number, 'text')} {'has' if number == 1 else 'have'} different labels in different rows"
        shown = f"{_show_gold(first)} and {_show_gold(other)}"
        yield Finding("conflict", "warning", f"{what}, for example {shown}: {format_places(places)}.", places)
    repeats = repeated[~in_conflict & ~is_first]
    if len(repeats):
        places = _places(train, repeats)
        what = f"{count(len(repeats), 'row')} {'repeats' if len(repeats) == 1 else 'repeat'}"
        message = f"{what} the text and label of an earlier row: {format_places(places)}."
        yield Finding("duplicate", "note", message, places)


def leaked_texts(
    train: Iterable[Example], evaluation: Sequence[Example], purpose: str = "evaluation"
) -> Iterator[Finding]:
    """Texts that are in both the training data (or whatever chooses) and the evaluation data."""
    if not evaluation:
        return
    known, other = (digests(key_bytes(text_key(example)) for example in side) for side in (train, evaluation))
    texts = number_equal(np.concatenate([known, other]))
    places = _places(evaluation, np.flatnonzero(np.isin(texts[len(known) :], texts[: len(known)])))
    others = "training" if purpose == "evaluation" else "training or evaluation"
    if places:
        what = f"{len(places):,} of {len(evaluation):,} {purpose} texts {are(places)} also in the {others} data"
        yield Finding(
            "leak",
            "warning",
            f"{what}, which makes the metrics too high: {format_places(places)}. Delete them from one of the two.",
            places,
        )


def short_texts(train: Sequence[Example]) -> Iterator[Finding]:
    """Texts with hardly any characters."""
    places = tuple(
        example.where for example in train if min(len(text.strip()) for text in example.texts) < MIN_CHARACTERS
    )
    if places:
        what = f"{count(len(places), 'text')} {have(places)} fewer than {MIN_CHARACTERS} characters"
        yield Finding("short", "note", f"{what}: {format_places(places)}.", places)


def long_texts(train: Sequence[Example], counts: TokenCounts) -> Iterator[Finding]:
    """Texts with more tokens than a sequence, which are divided into windows or truncated."""
    limit = counts.limit
    if counts.divided:
        places = _places(train, counts.divided.keys())
        num_windows = sum(counts.divided.values())
        yield Finding(
            "long",
            "note",
            f"{len(places):,} of {count(len(train), 'text')} {are(places)} longer than {limit:,} tokens and "
            f"{are(places)} read in {num_windows:,} overlapping windows: {format_places(places)}.",
            places,
        )
    if counts.truncated:
        places = _places(train, counts.truncated.keys())
        num_tokens = sum(counts.truncated.values())
        share = num_tokens / sum(counts.lengths)
        yield Finding(
            "cut",
            "warning",
            f"{len(places):,} of {count(len(train), 'text')} {are(places)} truncated to {limit:,} tokens "
            f"({counts.cut_note}): {num_tokens:,} tokens ({share:.1%} of all) are not read: {format_places(places)}.",
            places,
        )


def unknown_share(num_unknown: int, num_tokens: int) -> Iterator[Finding]:
    """A vocabulary that lacks the words of the texts: a large share of the tokens is unknown."""
    if num_unknown > MAX_UNKNOWN * num_tokens:
        yield Finding(
            "unknown",
            "warning",
            f"{num_unknown / num_tokens:.0%} of the tokens are unknown to the model's vocabulary, which is probably "
            "for another language. Choose a --model for the language of the texts.",
        )


def warnings_as_findings(places: Mapping[ExampleWarning, Sequence[str]], num_examples: int) -> Iterator[Finding]:
    """One finding per warning.

    Args:
        places: The places of the examples that have each warning; one example may have it several times.
        num_examples: Number of all examples.
    """
    for warning, repeated in places.items():
        distinct = tuple(dict.fromkeys(repeated))
        counts = len(repeated), len(distinct), num_examples
        yield Finding("remark", warning.level, describe_warning(warning, counts, distinct), distinct)


def describe_warning(warning: ExampleWarning, counts: tuple[int, int, int], places: Sequence[str]) -> str:
    """A sentence about a warning.

    Args:
        warning: What it says.
        counts: How often it occurs, the number of the examples that have it, and that of all examples.
        places: Of the examples that have it; the first ones will do.
    """
    times, number, total = counts
    share = f"{f'{times:,} times in ' * (times > number)}{number:,} of {count(total, 'example')}"
    detail = f" ({warning.detail}{', ...' if times > 1 else ''})" if warning.detail else ""
    return f"{share}: {warning.message}{detail}: {format_places(places, omitted=number - len(places))}."


def _normalized_texts(example: Example) -> tuple[str, ...]:
    """The texts with single spaces, for comparison."""
    return tuple(" ".join(text.split()) for text in example.texts)


def _gold_bytes(example: Example) -> bytes:
    """The labels of an example as bytes that are equal for the same labels in any order."""
    gold = example.gold
    if isinstance(gold, tuple):
        gold = sorted(gold)
    elif isinstance(gold, float):
        gold += 0.0  # -0.0 is 0.0
    return repr(gold).encode("utf-8", "surrogatepass")


def _places(examples: Sequence[Example], positions: Iterable[int]) -> tuple[str, ...]:
    return tuple(examples[int(i)].where for i in positions)


def _show_gold(example: Example) -> str:
    gold = example.gold
    if isinstance(gold, tuple):
        return ", ".join(map(repr, gold)) or "none"
    return repr(gold) if isinstance(gold, str) else f"{gold:g}" if isinstance(gold, float) else str(gold)


def count(number: int, noun: str) -> str:
    """A number with a noun in the singular or plural."""
    return f"{number:,} {noun}" + "s" * (number != 1)


def have(things: Sequence[Any]) -> str:
    """The verb for one thing or several."""
    return "has" if len(things) == 1 else "have"


def are(things: Sequence[Any]) -> str:
    """The verb for one thing or several."""
    return "is" if len(things) == 1 else "are"
