"""Findings about the texts of labelled data: duplicates, leaks, lengths and unknown words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .examples import Example, ExampleWarning
from .features import Features, num_truncated_tokens, total_length
from .groups import text_key
from .places import format_places

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
    by_text: dict[tuple[str, ...], list[Example]] = {}
    for example in train:
        by_text.setdefault(_normalized_texts(example), []).append(example)
    conflicts: list[list[Example]] = []
    repeats: list[Example] = []
    for examples in by_text.values():
        if all(_same_gold(example, examples[0]) for example in examples):
            repeats += examples[1:]
        else:
            conflicts.append(examples)
    if conflicts:
        first, *others = conflicts[0]
        other = next(example for example in others if not _same_gold(example, first))
        places = tuple(example.where for examples in conflicts for example in examples)
        what = f"{count(len(conflicts), 'text')} {have(conflicts)} different labels in different rows"
        shown = f"{_show_gold(first)} and {_show_gold(other)}"
        yield Finding("conflict", "warning", f"{what}, for example {shown}: {format_places(places)}.", places)
    if repeats:
        places = tuple(example.where for example in sorted(repeats, key=lambda example: example.row))
        what = f"{count(len(repeats), 'row')} {'repeats' if len(repeats) == 1 else 'repeat'}"
        message = f"{what} the text and label of an earlier row: {format_places(places)}."
        yield Finding("duplicate", "note", message, places)


def leaked_texts(train: Sequence[Example], evaluation: Sequence[Example]) -> Iterator[Finding]:
    """Texts that are in both the training data and the evaluation data."""
    known = {text_key(example) for example in train}
    places = tuple(example.where for example in evaluation if text_key(example) in known)
    if places:
        what = f"{len(places):,} of {len(evaluation):,} evaluation texts {are(places)} also in the training data"
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


def long_texts(
    train: Sequence[Example], windows_by_example: Sequence[list[Features]], limit: int
) -> Iterator[Finding]:
    """Texts with more tokens than a sequence, which are divided into windows or truncated."""
    pairs = list(zip(train, windows_by_example, strict=True))
    divided = [
        (example.where, windows)
        for example, windows in pairs
        if len(windows) > 1 and any(window.length > limit for window in windows)
    ]
    if divided:
        places = tuple(where for where, _ in divided)
        num_windows = sum(len(windows) for _, windows in divided)
        yield Finding(
            "long",
            "note",
            f"{len(places):,} of {count(len(train), 'text')} {are(places)} longer than {limit:,} tokens and "
            f"{are(places)} read in {num_windows:,} overlapping windows: {format_places(places)}.",
            places,
        )
    truncated = [(example.where, tokens) for example, windows in pairs if (tokens := num_truncated_tokens(windows))]
    if truncated:
        places = tuple(where for where, _ in truncated)
        num_tokens = sum(tokens for _, tokens in truncated)
        share = num_tokens / sum(map(total_length, windows_by_example))
        yield Finding(
            "cut",
            "warning",
            f"{len(places):,} of {count(len(train), 'text')} {are(places)} truncated to {limit:,} tokens "
            f"(--long-texts cut): {num_tokens:,} tokens ({share:.1%} of all) are not read: {format_places(places)}.",
            places,
        )


def unknown_tokens(windows_by_example: Sequence[list[Features]], unknown_id: int | None) -> Iterator[Finding]:
    """A vocabulary that lacks the words of the texts."""
    windows = [window for windows in windows_by_example for window in windows]
    num_unknown = 0 if unknown_id is None else sum(window.input_ids.count(unknown_id) for window in windows)
    yield from unknown_share(num_unknown, sum(len(window.input_ids) for window in windows))


def unknown_share(num_unknown: int, num_tokens: int) -> Iterator[Finding]:
    """A large share of unknown tokens."""
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
        times = f"{len(repeated):,} times in " if len(repeated) > len(distinct) else ""
        share = f"{times}{len(distinct):,} of {count(num_examples, 'example')}"
        detail = f" ({warning.detail}{', ...' if len(repeated) > 1 else ''})" if warning.detail else ""
        message = f"{share}: {warning.message}{detail}: {format_places(distinct)}."
        yield Finding("remark", warning.level, message, distinct)


def _normalized_texts(example: Example) -> tuple[str, ...]:
    """The texts with single spaces, for comparison."""
    return tuple(" ".join(text.split()) for text in example.texts)


def _same_gold(one: Example, other: Example) -> bool:
    """Whether two examples have the same labels, in any order."""
    if isinstance(one.gold, tuple) and isinstance(other.gold, tuple):
        return sorted(one.gold) == sorted(other.gold)
    return one.gold == other.gold


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
