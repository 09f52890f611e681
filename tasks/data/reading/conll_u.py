"""CoNLL-U sentences: ten columns by name, comments, multiword tokens and empty nodes.

Follows https://universaldependencies.org/format.html. A line with the id 3-4 is the written form of words 3 and 4
("al" of "a el"), one with 3.1 a node that is not in the text. Neither has a head or tags, so only words are rows.
"""

import re
from collections.abc import Sequence

from ....core.errors import HeadwayError
from ..places import shorten

COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
SENTENCE_COLUMNS = ("sent_id", "text")
WORD_ID = re.compile(r"\d+([-.]\d+)?")
COMMENT = re.compile(r"#\s*(sent_id|text)\s*=\s*(.*)")
NO_SPACE = "SpaceAfter=No"


def is_comment(line: str) -> bool:
    """Whether a line is a comment: those of words begin with an id."""
    return line.startswith("#")


def check_id(where: str, row: Sequence[str]) -> None:
    """Checks that the first column is the id of a word, a multiword token or an empty node.

    Raises:
        HeadwayError: It is not; the message begins with `where`.
    """
    if not WORD_ID.fullmatch(row[0]):
        raise HeadwayError(
            f"{where}: a line of CoNLL-U begins with the number of its word (3), of a multiword token (3-4) or of an "
            f'empty node (3.1), but this one begins with "{shorten(row[0])}". Correct it; files with other columns '
            "have the suffix .conll."
        )


def sentence_row(lines: Sequence[Sequence[str]], comments: Sequence[str]) -> dict[str, str | list[str]]:
    """The columns of a sentence: lists with an entry per word, its id and its text.

    Args:
        lines: The columns of its lines.
        comments: Its comments. Where they do not give the text, it is put together from the words.
    """
    words = [line for line in lines if line[0].isdecimal()]
    row: dict[str, str | list[str]] = {name: [word[i] for word in words] for i, name in enumerate(COLUMNS)}
    given = {match[1]: match[2].strip() for match in map(COMMENT.match, comments) if match}
    return {**row, "sent_id": given.get("sent_id", ""), "text": given.get("text") or sentence_text(lines)}


def sentence_text(lines: Sequence[Sequence[str]]) -> str:
    """The text of a sentence: forms with the spaces that MISC leaves between them, multiword tokens as written."""
    parts: list[str] = []
    last = 0  # word of the multiword token before
    for line in lines:
        first, _, end = line[0].partition("-")
        if "." in first or int(first) <= last:
            continue
        last = int(end or first)
        parts.append(line[1] + " " * (NO_SPACE not in line[9].split("|")))
    return "".join(parts).strip()
