"""Tags of words outside of entities that are not written as O: "_" in CoNLL-U, "-", a zero, "B-O"."""

import re
from collections import Counter
from collections.abc import Collection, Iterable

from .tag_schemes import OUTSIDE, is_prefixed

ZERO = "0"
MARKS = frozenset({ZERO, "o", "_", "-", "--", "*"})
NAMES = frozenset({"none", "null", "out", "outside", "other"})  # in lower case; only beside tags with prefixes
PREFIXED = re.compile(r"[BIESLUM]-[O_-]")


def infer_outside_tags(tags: Iterable[str], names: Collection[str] = ()) -> frozenset[str]:
    """The tags that mean outside of entities, other than O.

    Beside tags with prefixes (B-PER), a tag that is a mark or a name for nothing means outside. Beside types without
    prefixes, a mark does if it is the most frequent tag or O occurs too; "-" may be a part of speech.

    Args:
        tags: Tags of all words.
        names: Names of tags that may be given as numbers.
    """
    counts = Counter(tags)
    marks = {tag for tag in counts if tag in MARKS and tag not in names}
    if names or any(tag.isdecimal() and tag != ZERO for tag in counts):
        marks.discard(ZERO)  # the tags are numbers
    wrong = {tag for tag in counts if PREFIXED.fullmatch(tag) and tag not in names}
    named = {tag for tag in counts if tag.lower() in NAMES and tag not in names}
    types = Counter({tag: n for tag, n in counts.items() if tag not in marks | wrong | named | {OUTSIDE}})
    if types and is_prefixed(types.elements()):
        return frozenset(marks | wrong | named)
    if OUTSIDE in counts or (marks and counts.most_common(1)[0][0] in marks):
        return frozenset(marks) if types else frozenset()
    return frozenset()


def show_tag(tag: str) -> str:
    """A tag for messages; a zero is distinguished from the letter."""
    return '"0" (zero)' if tag == ZERO else f'"{tag}"'
