"""Converts tags of words to entity spans and back, in the common tagging schemes.

IOB1 (Ramshaw & Marcus 1995, https://aclanthology.org/W95-0107), IOB2 and BIOES (Tjong Kim Sang & Veenstra 1999,
https://aclanthology.org/E99-1023; BILOU and BMES are BIOES with other letters), and IO: labels without prefixes.
Tags are read by the rules of conlleval (https://www.clips.uantwerpen.be/conll2000/chunking/output.html), which are the
same for all schemes and also define the entities of an invalid tag sequence.

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
# The prefixes of each scheme: beginning and inside of an entity; also its end and an entity of a single word.
PREFIXES = {"IOB1": "BI", "IOB2": "BI", "BIOES": "BIES", "BILOU": "BILU", "BMES": "BMES", "IO": ""}
ROLES = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S"}

ParsedTag = tuple[str, str] | None  # role (B, I, E or S) and entity type; None: outside of entities


@dataclass(frozen=True, order=True)
class WordSpan:
    """An entity as a range of words: words[start:stop]."""

    start: int
    stop: int
    label: str


# -- single tags


def is_prefixed(tags: Iterable[str]) -> bool:
    """Whether tags have prefixes (B-PER). The majority decides, as "E-mail" may be an entity type."""
    counts = Counter(_has_prefix(tag) for tag in tags if tag != OUTSIDE)
    return counts[True] >= counts[False]


def _has_prefix(tag: str) -> bool:
    return tag[:1] in ROLES and tag[1:2] in ("-", "")


def parse_tag(tag: str, prefixed: bool) -> ParsedTag:
    """The role and the entity type of a tag.

    Raises:
        HeadwayError: the tag has no type, or no prefix of any scheme.
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


# -- tags <-> spans


def tags_to_spans(
    tags: Sequence[str], prefixed: bool = True, ignored: Collection[int] = (), *, every_word: bool = False
) -> list[WordSpan]:
    """The entities of a sentence, in order.

    Args:
        tags: of all words, in any scheme.
        prefixed: whether the tags have prefixes.
        ignored: the words whose tags are skipped; an entity may contain such words.
        every_word: whether the tags are classes of all words (parts of speech), so that each word is a span.

    Raises:
        HeadwayError: a tag cannot be parsed.
    """
    words = [word for word in range(len(tags)) if word not in ignored]
    if every_word:
        return [WordSpan(word, word + 1, tags[word]) for word in words if tags[word] != OUTSIDE]
    parsed = [parse_tag(tags[word], prefixed) for word in words]
    spans: list[WordSpan] = []
    start = 0
    previous: ParsedTag = None
    for position, tag in enumerate([*parsed, None]):
        begins = tag is not None and _begins(previous, tag)
        if previous is not None and (tag is None or begins):
            spans.append(WordSpan(words[start], words[position - 1] + 1, previous[1]))
        if begins:
            start = position
        previous = tag
    return spans


def _begins(previous: ParsedTag, tag: tuple[str, str]) -> bool:
    """Whether an entity begins at a tag."""
    return previous is None or previous[0] in "ES" or tag[0] in "BS" or previous[1] != tag[1]


def spans_to_tags(spans: Iterable[WordSpan], length: int, scheme: str) -> list[str]:
    """The tags of `length` words with these entities, which are in order and do not overlap."""
    tags = [OUTSIDE] * length
    previous = None
    for span in spans:
        size = span.stop - span.start
        adjacent = previous is not None and (previous.stop, previous.label) == (span.start, span.label)
        prefixes = _prefixes(size, scheme, adjacent)
        tags[span.start : span.stop] = [f"{prefix}-{span.label}" for prefix in prefixes] or [span.label] * size
        previous = span
    return tags


def _prefixes(size: int, scheme: str, adjacent: bool) -> str:
    """The prefixes of an entity of `size` words; `adjacent`: an entity of the same type ends right before it."""
    if scheme == "IO":
        return ""
    if scheme == "IOB1":
        return ("B" if adjacent else "I") + "I" * (size - 1)
    if scheme == "IOB2":
        return "B" + "I" * (size - 1)
    begin, inside, end, single = PREFIXES[scheme]
    return single if size == 1 else begin + inside * (size - 2) + end


def all_tags(types: Sequence[str], scheme: str) -> list[str]:
    """Every tag of a scheme for these entity types, except O."""
    return [f"{prefix}-{label}" for label in types for prefix in PREFIXES[scheme]] or list(types)


# -- schemes


def detect_scheme(rows: Iterable[Sequence[str]], prefixed: bool | None = None) -> tuple[str, list[int]]:
    """The scheme that most sentences follow, and the positions of the sentences that do not follow it.

    Args:
        rows: the tags of each sentence.
        prefixed: whether tags have prefixes; None: inferred.

    Raises:
        HeadwayError: a tag cannot be parsed.
    """
    rows = [list(row) for row in rows]
    if not (is_prefixed(tag for row in rows for tag in row) if prefixed is None else prefixed):
        return "IO", []
    parsed = [[parse_tag(tag, True) for tag in row] for row in rows]
    prefixes = {tag[0] for row in rows for tag in row if tag != OUTSIDE}
    candidates = [_scheme_with_ends(prefixes)] if prefixes & set("ESLUM") else ["IOB2", "IOB1"]
    invalid = {scheme: [i for i, row in enumerate(parsed) if not is_valid(row, scheme)] for scheme in candidates}
    scheme = min(candidates, key=lambda one: len(invalid[one]))
    return scheme, invalid[scheme]


def scheme_of_labels(labels: Sequence[str]) -> str:
    """The scheme of a model's labels; IOB1 if an entity type has an I- label but no B- label."""
    if not is_prefixed(labels):
        return "IO"
    prefixes = {label[0] for label in labels if _has_prefix(label)}
    if prefixes & set("ESLUM"):
        return _scheme_with_ends(prefixes)
    begin, inside = ({label[2:] for label in labels if label.startswith(prefix)} for prefix in ("B-", "I-"))
    return "IOB2" if inside <= begin else "IOB1"


def _scheme_with_ends(prefixes: set[str]) -> str:
    return "BMES" if "M" in prefixes else "BILOU" if prefixes & set("LU") else "BIOES"


def is_valid(tags: Sequence[ParsedTag], scheme: str) -> bool:
    """Whether the tags of a sentence follow a scheme."""
    return all(may_follow(previous, tag, scheme) for previous, tag in pairwise([None, *tags, None]))


def may_follow(previous: ParsedTag, tag: ParsedTag, scheme: str) -> bool:
    """Whether a tag may follow another one; None also stands for the start and the end of a sentence."""
    same_type = previous is not None and tag is not None and previous[1] == tag[1]
    if scheme == "IOB2":
        return tag is None or tag[0] == "B" or same_type
    if scheme == "IOB1":
        return tag is None or tag[0] == "I" or same_type
    if scheme == "IO":
        return True
    open_entity = previous is not None and previous[0] in "BI"
    if tag is not None and tag[0] in "IE":
        return open_entity and same_type
    return not open_entity


# -- the labels of a model


def labels_as_tags(labels: Sequence[str], scheme: str) -> list[str]:
    """A model's labels as tags: a label that is not a tag of the scheme ("[CLS]" in some published models) is O."""
    return [label if _is_tag(label, scheme) else OUTSIDE for label in labels]


def _is_tag(label: str, scheme: str) -> bool:
    return scheme == "IO" or label == OUTSIDE or (_has_prefix(label) and label[2:] != "")


def entity_types(labels: Sequence[str], scheme: str) -> tuple[str, ...]:
    """The entity types among a model's labels, in their order."""
    parsed = [parse_tag(label, scheme != "IO") for label in labels_as_tags(labels, scheme)]
    return tuple(dict.fromkeys(one[1] for one in parsed if one is not None))


def tag_indices(labels: Sequence[str], scheme: str) -> dict[str, int]:
    """The index of each tag of the scheme among a model's labels.

    A tag that a published model does not have is replaced by another tag of the same type.
    """
    indices: dict[str, int] = {}
    tags = labels_as_tags(labels, scheme)
    for wanted in (OUTSIDE, *all_tags(entity_types(labels, scheme), scheme)):
        same_type = [i for i, tag in enumerate(tags) if _type(tag, scheme) == _type(wanted, scheme)]
        exact = [i for i in same_type if tags[i] == wanted]
        if same_type:
            indices[wanted] = (exact or same_type)[0]
    return indices


def _type(tag: str, scheme: str) -> str | None:
    parsed = parse_tag(tag, scheme != "IO")
    return parsed and parsed[1]


def viterbi_decode(log_probabilities: Tensor, labels: Sequence[str], scheme: str) -> list[int]:
    """The most probable sequence of labels that follows the scheme, as indices into `labels`.

    Args:
        log_probabilities: (W, L).
        labels: of the model.
        scheme: of the labels.
    """
    if not len(log_probabilities):
        return []
    parsed = [parse_tag(label, scheme != "IO") for label in labels_as_tags(labels, scheme)]

    def penalties(pairs: Iterable[tuple[ParsedTag, ParsedTag]]) -> Tensor:
        return torch.tensor([0.0 if may_follow(*pair, scheme) else -torch.inf for pair in pairs])

    transitions = penalties((a, b) for a in parsed for b in parsed).view(len(labels), len(labels))  # from, to
    scores = log_probabilities[0] + penalties((None, label) for label in parsed)
    backpointers: list[Tensor] = []
    for row in log_probabilities[1:]:
        best, previous = (scores[:, None] + transitions).max(0)
        scores = best + row
        backpointers.append(previous)
    path = [int((scores + penalties((label, None) for label in parsed)).argmax())]
    for previous in reversed(backpointers):
        path.append(int(previous[path[-1]]))
    return path[::-1]
