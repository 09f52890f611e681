"""Tags of words <-> entities, in the schemes that people write.

IOB1 (Ramshaw & Marcus 1995, https://aclanthology.org/W95-0107), IOB2 and BIOES (Tjong Kim Sang & Veenstra 1999,
https://aclanthology.org/E99-1023; the letters BILOU and BMES say the same), and IO, bare labels without prefixes.
Tags are read by the rules of conlleval (https://www.clips.uantwerpen.be/conll2000/chunking/output.html), which take
every scheme alike and make an entity even of an illegal sequence.

Shapes: W words, L labels.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ...core.errors import HeadwayError

OUTSIDE = "O"
# How a scheme writes the beginning, the inside, the end of an entity, and an entity of a single word.
LETTERS = {"IOB1": "BI", "IOB2": "BI", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES", "IO": ""}
ROLES = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S"}

Parsed = tuple[str, str] | None  # the role (B, I, E or S) and the label of a tag; None outside of entities


@dataclass(frozen=True, order=True)
class Chunk:
    """An entity by its words: words[start:stop]."""

    start: int
    stop: int
    label: str


# -- one tag


def is_prefixed(tags: Iterable[str]) -> bool:
    """Whether tags are written with prefixes (B-PER), judged by most of them: "E-mail" may be a bare label."""
    counts = Counter(_has_prefix(tag) for tag in tags if tag != OUTSIDE)
    return counts[True] >= counts[False]


def _has_prefix(tag: str) -> bool:
    return tag[:1] in ROLES and tag[1:2] in ("-", "")


def parse_tag(tag: str, prefixed: bool) -> Parsed:
    """The role and the label of a tag.

    Raises:
        HeadwayError: it has no label, or no prefix that a scheme has.
    """
    if tag == OUTSIDE:
        return None
    if not prefixed and tag:
        return "I", tag
    role, dash, label = tag.partition("-")
    if role in ROLES and not label:
        raise HeadwayError(f'the tag "{tag}" names no entity type. Write {role}-TYPE, such as {role}-PER, or O.')
    if role not in ROLES:
        what = f'begins with "{role}-"' if dash else "has no prefix" if tag else "is empty"
        raise HeadwayError(
            f'the tag "{tag}" {what}; a tag is O, or B- or I- (also E-, S-, L-, U-, M-) and an entity type. '
            "Correct it."
        )
    return ROLES[role], label


# -- tags <-> entities


def counted_tags_to_spans(tags: Sequence[str], uncounted: Collection[int], prefixed: bool = True) -> list[Chunk]:
    """As `tags_to_spans`, of the tags of some words alone; an entity may reach over the others.

    Args:
        tags: of all words.
        uncounted: the words whose tags say nothing.
        prefixed: whether the tags have prefixes.
    """
    words = [word for word in range(len(tags)) if word not in uncounted]
    found = tags_to_spans([tags[word] for word in words], prefixed)
    return [Chunk(words[one.start], words[one.stop - 1] + 1, one.label) for one in found]


def tags_to_spans(tags: Sequence[str], prefixed: bool = True) -> list[Chunk]:
    """The entities that tags of any scheme say, in order.

    Raises:
        HeadwayError: a tag cannot be read.
    """
    chunks: list[Chunk] = []
    start = 0
    before: Parsed = None
    for position, tag in enumerate([*tags, OUTSIDE]):
        now = parse_tag(tag, prefixed)
        begins = now is not None and _begins(before, now)
        if before is not None and (now is None or begins):
            chunks.append(Chunk(start, position, before[1]))
        if begins:
            start = position
        before = now
    return chunks


def _begins(before: Parsed, now: tuple[str, str]) -> bool:
    """Whether an entity begins at a tag: where none could go on."""
    return before is None or before[0] in "ES" or now[0] in "BS" or before[1] != now[1]


def spans_to_tags(chunks: Iterable[Chunk], length: int, scheme: str) -> list[str]:
    """The tags of `length` words with these entities, which do not overlap and are in order."""
    tags = [OUTSIDE] * length
    before = None
    for chunk in chunks:
        size = chunk.stop - chunk.start
        touches = before is not None and (before.stop, before.label) == (chunk.start, chunk.label)
        letters = _letters(size, scheme, touches)
        tags[chunk.start : chunk.stop] = [f"{letter}-{chunk.label}" for letter in letters] or [chunk.label] * size
        before = chunk
    return tags


def _letters(size: int, scheme: str, touches: bool) -> str:
    """The prefixes of an entity of `size` words; `touches` where one of its label stands right before it."""
    if scheme == "IO":
        return ""
    if scheme == "IOB1":
        return ("B" if touches else "I") + "I" * (size - 1)
    if scheme == "IOB2":
        return "B" + "I" * (size - 1)
    begin, inside, end, single = LETTERS[scheme]
    return single if size == 1 else begin + inside * (size - 2) + end


def tags_for(labels: Iterable[str], scheme: str) -> list[str]:
    """Every tag that a scheme has for these labels."""
    return [f"{letter}-{label}" for label in labels for letter in LETTERS[scheme]] or list(labels)


# -- which scheme


def detect_scheme(rows: Iterable[Sequence[str]]) -> tuple[str, list[int]]:
    """The scheme that fits tagged sentences best, and the positions of the sentences that break it.

    Raises:
        HeadwayError: a tag cannot be read.
    """
    rows = [list(row) for row in rows]
    prefixed = is_prefixed(tag for row in rows for tag in row)
    if not prefixed:
        return "IO", []
    parsed = [[parse_tag(tag, prefixed) for tag in row] for row in rows]
    letters = {tag[0] for row in rows for tag in row if tag != OUTSIDE}
    if letters & set("ESLUM"):
        candidates = [_family(letters)]
    else:
        candidates = ["IOB2", "IOB1"]
    broken = {scheme: [i for i, row in enumerate(parsed) if not is_legal(row, scheme)] for scheme in candidates}
    scheme = min(candidates, key=lambda one: len(broken[one]))
    return scheme, broken[scheme]


def scheme_of(labels: Sequence[str]) -> str:
    """The scheme that the label names of a model tell; IOB1 where a type of entity has no tag to begin with."""
    if not is_prefixed(labels):
        return "IO"
    letters = {label[0] for label in labels if _has_prefix(label)}
    if letters & set("ESLUM"):
        return _family(letters)
    begin, inside = ({label[2:] for label in labels if label.startswith(letter)} for letter in ("B-", "I-"))
    return "IOB2" if inside <= begin else "IOB1"


def _family(letters: set[str]) -> str:
    return "BMES" if "M" in letters else "BILOU" if letters & set("LU") else "BIOES"


def plain_labels(labels: Sequence[str], scheme: str) -> list[str]:
    """The labels of a model as tags: what is none in its scheme ("[CLS]" in some published models) is outside."""
    return [label if _can_parse(label, scheme) else OUTSIDE for label in labels]


def _can_parse(tag: str, scheme: str) -> bool:
    return scheme == "IO" or tag == OUTSIDE or (_has_prefix(tag) and tag[2:] != "")


def types_of(labels: Sequence[str], scheme: str) -> tuple[str, ...]:
    """The types of entities that a model's labels tell apart, in their order."""
    parsed = [parse_tag(label, scheme != "IO") for label in plain_labels(labels, scheme)]
    return tuple(dict.fromkeys(one[1] for one in parsed if one is not None))


def positions_of_tags(labels: Sequence[str], scheme: str) -> dict[str, int]:
    """Where among a model's labels each tag of its scheme stands.

    Where a published model lacks a tag, another one of the same type stands for it.
    """
    found: dict[str, int] = {}
    tags = plain_labels(labels, scheme)
    for wanted in (OUTSIDE, *tags_for(types_of(labels, scheme), scheme)):
        same = [i for i, tag in enumerate(tags) if _type(tag, scheme) == _type(wanted, scheme)]
        exact = [i for i in same if tags[i] == wanted]
        if same:
            found[wanted] = (exact or same)[0]
    return found


def _type(tag: str, scheme: str) -> str | None:
    parsed = parse_tag(tag, scheme != "IO")
    return parsed and parsed[1]


def is_legal(row: Sequence[Parsed], scheme: str) -> bool:
    """Whether the tags of a sentence follow a scheme."""
    return all(may_follow(before, now, scheme) for before, now in pairwise([None, *row, None]))


def may_follow(before: Parsed, now: Parsed, scheme: str) -> bool:
    """Whether a tag may stand right after another one; None is outside, and what is before and after a sentence."""
    goes_on = before is not None and now is not None and before[1] == now[1]
    if scheme == "IOB2":
        return now is None or now[0] == "B" or goes_on
    if scheme == "IOB1":
        return now is None or now[0] == "I" or goes_on
    if scheme == "IO":
        return True
    inside = before is not None and before[0] in "BI"
    if now is not None and now[0] in "IE":
        return inside and goes_on
    return not inside


def viterbi_decode(log_probabilities: Tensor, labels: Sequence[str], scheme: str) -> list[int]:
    """The most probable sequence of labels that follows the scheme (Viterbi), as positions in `labels`.

    Args:
        log_probabilities: (W, L).
        labels: a tag each.
        scheme: that `labels` are written in.
    """
    if not len(log_probabilities):
        return []
    parsed = [parse_tag(label, scheme != "IO") for label in plain_labels(labels, scheme)]

    def barred(pairs: Iterable[tuple[Parsed, Parsed]]) -> Tensor:
        return torch.tensor([0.0 if may_follow(*pair, scheme) else -torch.inf for pair in pairs])

    steps = barred((a, b) for a in parsed for b in parsed).view(len(labels), len(labels))  # from, to
    scores = log_probabilities[0] + barred((None, label) for label in parsed)
    came_from: list[Tensor] = []
    for row in log_probabilities[1:]:
        best, origin = (scores[:, None] + steps).max(0)
        scores = best + row
        came_from.append(origin)
    path = [int((scores + barred((label, None) for label in parsed)).argmax())]
    for origin in reversed(came_from):
        path.append(int(origin[path[-1]]))
    return path[::-1]
