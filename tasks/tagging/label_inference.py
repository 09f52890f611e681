"""Infers from tagged training data: the labels, their scheme, and how raw text is divided into words."""

from collections import Counter
from collections.abc import Mapping, Sequence

from ...core.errors import HeadwayError
from ..data.places import format_places
from ..data.words import WordSegmenter, ends_in_digits, infer_segmenter
from .predictions import TaggedExample
from .tag_schemes import OUTSIDE, all_tags

MIN_WORDS = 200  # with fewer words, tags that hardly repeat or rows of single words are not suspicious
MAX_MISALIGNED = 0.2  # of the character spans; with more, the text is divided into characters
MAX_LISTED = 8  # entity types in one sentence
DIVISION = {
    "words": "at spaces and punctuation",
    "spaces": "at spaces",
    "characters": "into characters",
}


def infer_tag_labels(types: Mapping[str, int], scheme: str, tags: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """All labels of a scheme for some entity types; O first, unless IO tags never use it."""
    outside = scheme != "IO" or any(OUTSIDE in row for row in tags)
    return (*([OUTSIDE] if outside else []), *all_tags(sorted(types), scheme))


def infer_word_segmenter(words: Sequence[str]) -> WordSegmenter:
    """How raw text must be divided to get words such as these."""
    return infer_segmenter([word[:-1] or word for word in words] if ends_in_digits(words) else words)


def num_misaligned(examples: Sequence[TaggedExample]) -> int:
    """The number of character spans that do not consist of whole words."""
    return sum(len(one.widened) + len(one.dropped) for one in examples)


def is_misaligned(examples: Sequence[TaggedExample]) -> bool:
    """Whether too many character spans do not consist of whole words (Japanese and Thai have no spaces)."""
    spans = sum(len(one.labels) + len(one.dropped) for one in examples)
    return num_misaligned(examples) > MAX_MISALIGNED * spans


def check_tags(
    source: str, column: str, tags: Sequence[Sequence[str]], counts: Mapping[str, int], scheme: str
) -> None:
    """Checks that a column has tags of words in sentences.

    Args:
        source: of the data, for the message.
        column: of the tags.
        tags: of each row.
        counts: the number of entities of each type.
        scheme: of the tags.

    Raises:
        HeadwayError: each row is a single word, or the tags hardly repeat.
    """
    words = sum(map(len, tags))
    if words < MIN_WORDS:
        return
    if words == len(tags):
        raise HeadwayError(
            f"{source}: every row is a single word without its context. Give one row per sentence, or CoNLL: a word, "
            "a TAB and its tag on each line, and an empty line after each sentence."
        )
    if scheme == "IO" and 5 * len(counts) > words:
        raise HeadwayError(
            f'{source}: column "{column}" has {len(counts)} different values for {words} words '
            f"({next(iter(counts))!r}, ...), so they do not look like tags. Name another column with --label."
        )


def describe_annotation(
    scheme: str | None, counts: Counter[str], tags: Sequence[Sequence[str]], invalid: Sequence[str]
) -> list[str]:
    """Notes on the annotation.

    Args:
        scheme: of the tags; None for character spans.
        counts: the number of entities of each type.
        tags: of each row, if there are any.
        invalid: the places of the rows whose tags do not follow the scheme.
    """
    every_word = scheme == "IO" and not any(OUTSIDE in row for row in tags)  # as with parts of speech
    counts = Counter(tag for row in tags for tag in row) if every_word else counts
    shown = ", ".join(f"{kind} {count:,}" for kind, count in counts.most_common(MAX_LISTED))
    more = f" and {len(counts) - MAX_LISTED} more" if len(counts) > MAX_LISTED else ""
    kind = f"{scheme} tags" if scheme else "character spans"
    what = f"{len(counts):,} tags, one on each of {counts.total():,} words" if every_word else ""
    notes = [f"{what or f'{kind}, {counts.total():,} entities'}: {shown}{more}"]
    if scheme == "IOB1":
        notes.append("IOB1: an entity begins with I-; B- begins one right after another one of the same type")
    if invalid:
        rows = "1 row does" if len(invalid) == 1 else f"{len(invalid):,} rows do"
        notes.append(
            f"{rows} not follow the rules of {scheme}; their tags are read as in conlleval: {format_places(invalid)}"
        )
    return notes
