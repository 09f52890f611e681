"""The lines of CoNLL files: which separator they use, and which of them are comments."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .conll_u import WORD_ID

DOCUMENT_START = "-DOCSTART-"  # the line before each document of CoNLL-2003
ENTITY_TAG = re.compile(r"O|[BIESLUM]-\S+")
PART_OF_SPEECH = re.compile(r"[A-Z]+\$?|\W+")  # the tag of "#" is "#"


def usual_width(rows: Iterable[Sequence[str]]) -> int:
    """The number of columns that most rows have; 0 without rows."""
    widths = Counter(map(len, rows))
    return widths.most_common(1)[0][0] if widths else 0


@dataclass(frozen=True)
class LineSplitter:
    """Splits the lines of a file into columns.

    Args:
        tabs: Whether TABs separate the columns. Otherwise U+0020 does (words may contain other spaces).
        width: Number of columns.
        tags: Tags of the first lines.
    """

    tabs: bool
    width: int
    tags: frozenset[str]

    @classmethod
    def infer(cls, lines: Sequence[str]) -> "LineSplitter":
        """The separator of most of some lines, and the tags in them."""
        others = [line for line in lines if line.strip() and not line.startswith(("#", DOCUMENT_START))]
        tabs = 2 * sum("\t" in line for line in others) > len(others)
        bare = cls(tabs, 0, frozenset())
        rows = [bare.split(line) for line in others]
        return cls(tabs, usual_width(rows), frozenset(row[-1] for row in rows))

    def split(self, line: str) -> list[str]:
        """The columns of a line that is not blank."""
        if self.tabs:
            word, *tags = line.rstrip("\r\n").split("\t")
            return [word, *(tag.strip() for tag in tags)]
        return [cell for cell in line.rstrip("\r\n").replace("\t", " ").split(" ") if cell]

    def is_comment(self, line: str) -> bool:
        """Tells comments ("# id 4d9b domain=en", "# sent_id = 1") from the word "#" and its tags."""
        if not line.startswith("#"):
            return False
        if self.tabs != ("\t" in line) and self.width > 1:
            return self.tabs or line.startswith("# ")
        if not line.startswith(("# ", "#\t")):
            return False
        row = self.split(line)
        ends_in_tag = row[-1] in self.tags or ENTITY_TAG.fullmatch(row[-1])
        ends_in_tag = ends_in_tag or (len(row) == self.width and PART_OF_SPEECH.fullmatch(row[-1]))
        # Among words alone, a line of another width is a comment, even if it ends like a tag. With spaces or TABs it
        # may be a line whose tag is missing.
        return not ends_in_tag or (self.width == 1 and len(row) != 1)

    def ends_sentence(self, line: str) -> bool:
        """Whether a line is blank or starts a document."""
        return not line.strip() or line.startswith(DOCUMENT_START)

    def token_lines(self, lines: Iterable[str]) -> list[str]:
        """The lines without comments and document starts."""
        return [line for line in lines if not line.startswith(DOCUMENT_START) and not self.is_comment(line)]

    @staticmethod
    def has_universal_ids(rows: Iterable[Sequence[str]]) -> bool:
        """Whether all rows start with the id of a word in CoNLL-U."""
        return all(WORD_ID.fullmatch(row[0]) for row in rows)
