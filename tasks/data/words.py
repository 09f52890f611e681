"""Raw text -> words, the way that the words of the training data were made.

At spaces and signs, as BERT's own splitter does (Devlin et al. 2019); at spaces alone; or one character a word, as
Chinese data sets have it. Which of these, and which signs stay with the letters beside them ("@name", "'s"), is
learnt from the training data's words.

Offsets count code points of the untouched text. A combining mark, a joiner or a variation selector is never parted
from what it belongs to; characters without any shape of their own (a right-to-left mark, a soft hyphen) are left out
at the edges of words.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

WORD_UNITS = ("words", "spaces", "characters")
SEPARATORS = frozenset("\u200b\u2060\ufeff")  # without width, but they part words
JOINER = "\u200d"  # of emoji that are drawn as one
SHAPELESS = frozenset("\u00ad\u200c\u200d\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2061\u2062\u2063\u2064"
                      "\u2066\u2067\u2068\u2069")  # fmt: skip
SKIN_TONES = range(0x1F3FB, 0x1F400)
FLAG_LETTERS = range(0x1F1E6, 0x1F200)
# The ideographs that BERT's clean-up puts spaces around (BasicTokenizer._is_chinese_char).
IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2CEAF), (0x2F800, 0x2FA1F))
ALMOST_ALL = 0.9  # of the words, for a rule to be read off them
HARDLY_ANY = 0.05
FEWEST_SEEN = 3  # times, before anything is concluded about a sign

Kind = Literal["space", "mark", "sign", "ideograph", "letter"]


@dataclass(frozen=True)
class WordSegmenter:
    """How a text is cut into words."""

    units: str = "words"  # one of WORD_UNITS
    joined_left: str = ""  # signs that stay with the letter before them
    joined_right: str = ""  # signs that stay with the letter after them

    def split(self, text: str) -> list[tuple[int, int]]:
        """The words of a text: text[start:end] each, in order, without spaces and without overlaps."""
        words: list[tuple[int, int]] = []
        start = 0
        before: str | None = None  # the last character of the word that is open, marks aside
        for position, character in enumerate(text):
            kind = _kind(character)
            if kind == "space":
                words += _trimmed(text, start, position) if before is not None else ()
                before = None
            elif before is None:
                start, before = position, character
            elif kind != "mark":
                if text[position - 1] != JOINER and self._parts(before, character):
                    words += _trimmed(text, start, position)
                    start = position
                before = character
        return words + (_trimmed(text, start, len(text)) if before is not None else [])

    def _parts(self, a: str, b: str) -> bool:
        """Whether a word ends between two neighbouring characters."""
        if ord(a) in FLAG_LETTERS and ord(b) in FLAG_LETTERS:
            return False
        if self.units != "words":
            return self.units == "characters"
        kinds = _kind(a), _kind(b)
        if "ideograph" in kinds:
            return True
        return (kinds[0] == "sign" and a not in self.joined_right) or (
            kinds[1] == "sign" and b not in self.joined_left
        )

    def join(self, words: Sequence[str]) -> tuple[str, list[int]]:
        """One text of words, and where in it each of them starts.

        A space stands between two words, but not where each character is a word, nor between ideographs.
        """
        text, starts = [], []
        length = 0
        before = ""
        for word in words:
            close = self.units == "characters" or (is_ideograph(before[-1:]) and is_ideograph(word[:1]))
            if starts and not close:
                text.append(" ")
                length += 1
            starts.append(length)
            text.append(word)
            length += len(word)
            before = word
        return "".join(text), starts


def infer_segmenter(words: Iterable[str]) -> WordSegmenter:
    """How a text would have to be cut so that words like these come out."""
    counts = Counter(words)
    lettered = Counter[bool]()  # of the words with letters: is it a single one?
    alone, inside, left, right = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for word, count in counts.items():
        kinds = [_kind(character) for character in word]
        if "letter" in kinds:
            lettered[len(word) - kinds.count("mark") == 1] += count
        side = inside if "letter" in kinds else alone
        for position, (character, kind) in enumerate(zip(word, kinds, strict=True)):
            if kind == "sign":
                side[character] += count
                left[character] += count * (position > 0 and kinds[position - 1] in ("letter", "mark"))
                right[character] += count * (kinds[position + 1 : position + 2] == ["letter"])
    if lettered.total():
        characters = lettered[True] > ALMOST_ALL * lettered.total()
    else:
        characters = all(len(word) == 1 for word in counts)
    if characters:
        return WordSegmenter("characters")
    if inside.total() >= FEWEST_SEEN and alone.total() < HARDLY_ANY * inside.total():
        return WordSegmenter("spaces")
    seen = alone + inside
    return WordSegmenter(
        "words",
        *(
            "".join(sorted(sign for sign in seen if seen[sign] >= FEWEST_SEEN and 2 * side[sign] > seen[sign]))
            for side in (left, right)
        ),
    )


def ends_in_digits(words: Iterable[str]) -> bool:
    """Whether almost every word is something with a digit after it, as in the Weibo files (口0)."""
    counts = Counter(len(word) > 1 and word[-1].isdecimal() for word in words)
    return counts[True] > ALMOST_ALL * counts.total()


def is_ideograph(character: str) -> bool:
    """Whether it is a Chinese character (Japanese and Korean use them as well)."""
    return character != "" and any(first <= ord(character) <= last for first, last in IDEOGRAPHS)


@lru_cache(maxsize=1 << 16)
def _kind(character: str) -> Kind:
    category = unicodedata.category(character)
    if character.isspace() or character in SEPARATORS or category == "Cc":
        return "space"
    if category[0] == "M" or category == "Cf" or ord(character) in SKIN_TONES:
        return "mark"
    if category[0] in "PS":
        return "sign"
    return "ideograph" if is_ideograph(character) else "letter"


def _trimmed(text: str, start: int, stop: int) -> list[tuple[int, int]]:
    """A word without the shapeless characters at its edges; nothing if there is nothing else."""
    while start < stop and text[start] in SHAPELESS:
        start += 1
    while start < stop and text[stop - 1] in SHAPELESS:
        stop -= 1
    return [(start, stop)] if start < stop else []
