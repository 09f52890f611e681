"""Word segmentation: divides raw text into words like those of the training data.

A text is divided at spaces and punctuation, as by the BasicTokenizer of BERT (Devlin et al. 2019,
https://arxiv.org/abs/1810.04805); at spaces only; or into single characters, as in Chinese data sets. Which of these,
and which punctuation belongs to the neighbouring letters ("@name", "'s"), is inferred from the words of the training
data.

Offsets count code points of the unchanged text. A combining mark, a joiner or a variation selector stays with its base
character. Invisible characters (a right-to-left mark, a soft hyphen) at the edges of a word are dropped.
"""

import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

WORD_UNITS = ("words", "spaces", "characters")
SEPARATORS = frozenset("\u200b\u2060\ufeff")  # of zero width
ZERO_WIDTH_JOINER = "\u200d"  # joins emoji into one
INVISIBLE = frozenset("\u00ad\u200c\u200d\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2061\u2062\u2063\u2064"
                      "\u2066\u2067\u2068\u2069")  # fmt: skip
SKIN_TONES = range(0x1F3FB, 0x1F400)
FLAG_LETTERS = range(0x1F1E6, 0x1F200)  # two of them are a flag
# The ideographs that BERT surrounds with spaces (BasicTokenizer._is_chinese_char).
IDEOGRAPHS = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2CEAF), (0x2F800, 0x2FA1F))
# A property is inferred if more than MOST of the words have it, or it is rejected if less than FEW have it.
MOST, FEW = 0.9, 0.05
MIN_OCCURRENCES = 3  # of punctuation, for an inference about it

Kind = Literal["space", "mark", "punctuation", "ideograph", "letter"]


@dataclass(frozen=True)
class WordSegmenter:
    """Divides texts into words.

    Args:
        units: "words" (at spaces and punctuation), "spaces" or "characters".
        joined_left: Punctuation that belongs to the letter before it.
        joined_right: Punctuation that belongs to the letter after it.
    """

    units: str = "words"
    joined_left: str = ""
    joined_right: str = ""

    def split(self, text: str) -> list[tuple[int, int]]:
        """The offsets (start, end) of the words, in order. Words do not overlap and contain no spaces."""
        words: list[tuple[int, int]] = []
        start = 0
        last: str | None = None  # the last character of the current word that is not a mark
        for position, character in enumerate(text):
            kind = _kind(character)
            if kind == "space":
                words += _trimmed(text, start, position) if last is not None else ()
                last = None
            elif last is None:
                start, last = position, character
            elif kind != "mark":
                if text[position - 1] != ZERO_WIDTH_JOINER and self._is_boundary(last, character):
                    words += _trimmed(text, start, position)
                    start = position
                last = character
        return words + (_trimmed(text, start, len(text)) if last is not None else [])

    def _is_boundary(self, left: str, right: str) -> bool:
        """Whether a word ends between two neighbouring characters."""
        if ord(left) in FLAG_LETTERS and ord(right) in FLAG_LETTERS:
            return False
        if self.units != "words":
            return self.units == "characters"
        kinds = _kind(left), _kind(right)
        if "ideograph" in kinds:
            return True
        return (kinds[0] == "punctuation" and left not in self.joined_right) or (
            kinds[1] == "punctuation" and right not in self.joined_left
        )

    def join(self, words: Sequence[str]) -> tuple[str, list[int]]:
        """Joins words into one text.

        There is a space between words, except between single characters (units="characters") and between ideographs.

        Returns:
            The text, and the offset at which each word starts.
        """
        text, starts = [], []
        length = 0
        previous = ""
        for word in words:
            no_space = self.units == "characters" or (is_ideograph(previous[-1:]) and is_ideograph(word[:1]))
            if starts and not no_space:
                text.append(" ")
                length += 1
            starts.append(length)
            text.append(word)
            length += len(word)
            previous = word
        return "".join(text), starts


def infer_segmenter(words: Iterable[str]) -> WordSegmenter:
    """The segmenter that divides texts into words like the given ones."""
    counts = Counter(words)
    single_letter = Counter[bool]()  # words with letters, by whether they are a single letter
    alone, inside, left, right = Counter[str](), Counter[str](), Counter[str](), Counter[str]()  # punctuation
    for word, count in counts.items():
        kinds = [_kind(character) for character in word]
        if "letter" in kinds:
            single_letter[len(word) - kinds.count("mark") == 1] += count
        context = inside if "letter" in kinds else alone
        for position, (character, kind) in enumerate(zip(word, kinds, strict=True)):
            if kind == "punctuation":
                context[character] += count
                left[character] += count * (position > 0 and kinds[position - 1] in ("letter", "mark"))
                right[character] += count * (kinds[position + 1 : position + 2] == ["letter"])
    if single_letter.total():
        are_characters = single_letter[True] > MOST * single_letter.total()
    else:
        are_characters = all(len(word) == 1 for word in counts)
    if are_characters:
        return WordSegmenter("characters")
    if inside.total() >= MIN_OCCURRENCES and alone.total() < FEW * inside.total():
        return WordSegmenter("spaces")
    return WordSegmenter("words", *(_usually_joined(joined, alone + inside) for joined in (left, right)))


def _usually_joined(joined: Counter[str], total: Counter[str]) -> str:
    """The punctuation that is joined to a letter in more than half of its occurrences."""
    return "".join(sorted(sign for sign in total if total[sign] >= MIN_OCCURRENCES and 2 * joined[sign] > total[sign]))


def ends_in_digits(words: Iterable[str]) -> bool:
    """Whether almost every word has a digit appended, as in the Weibo NER files (口0)."""
    counts = Counter(len(word) > 1 and word[-1].isdecimal() for word in words)
    return counts[True] > MOST * counts.total()


def is_ideograph(character: str) -> bool:
    """Whether a character is a Chinese character (Japanese and Korean use them too)."""
    return character != "" and any(first <= ord(character) <= last for first, last in IDEOGRAPHS)


@lru_cache(maxsize=1 << 16)
def _kind(character: str) -> Kind:
    category = unicodedata.category(character)
    if character.isspace() or character in SEPARATORS or category == "Cc":
        return "space"
    if category[0] == "M" or category == "Cf" or ord(character) in SKIN_TONES:
        return "mark"
    if category[0] in "PS":
        return "punctuation"
    return "ideograph" if is_ideograph(character) else "letter"


def _trimmed(text: str, start: int, stop: int) -> list[tuple[int, int]]:
    """The offsets of a word without invisible characters at its edges; empty if it has no others."""
    while start < stop and text[start] in INVISIBLE:
        start += 1
    while start < stop and text[stop - 1] in INVISIBLE:
        stop -= 1
    return [(start, stop)] if start < stop else []


def tokens_of_spans(spans: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The tokens that overlap each span of a text.

    Args:
        spans: in order, without overlap.
        offsets: of the tokens.
    """
    starts, ends = [start for start, _ in spans], [end for _, end in spans]
    found: list[list[int]] = [[] for _ in spans]
    for token, (start, end) in enumerate(offsets):
        for i in range(bisect_right(ends, start), bisect_left(starts, end)):
            found[i].append(token)
    return found
