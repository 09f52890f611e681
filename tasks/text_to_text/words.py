"""Splits text of any language into words and sentences, for scores and baselines.

rouge-score's own tokenizer keeps a-z and 0-9 only: "été" becomes "t", and Chinese becomes nothing. `words` gives the
same on ASCII text and reads the letters of every script.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

# Scripts without spaces between words, by the Unicode blocks of their letters.
HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
KANA = "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"
SOUTHEAST_ASIAN = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
HAN_LETTER, KANA_LETTER = re.compile(f"[{HAN}]"), re.compile(f"[{KANA}]")
SPACELESS_LETTER = re.compile(f"[{HAN}{KANA}{SOUTHEAST_ASIAN}]")
SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[.!?…][\"'”’»)\]])\s+|(?<=[。！？])|\n+")


def words(text: str) -> list[str]:
    """The words in lower case, without punctuation; in scripts without spaces, every character is a word."""
    text = unicodedata.normalize("NFC", text).lower()
    spaced = "".join(character if _is_letter(character) else " " for character in text)
    return SPACELESS_LETTER.sub(r" \g<0> ", spaced).split()


@lru_cache(maxsize=1 << 16)
def _is_letter(character: str) -> bool:
    """Whether a character belongs to a word: a letter, a digit, or a mark on one, as the vowel signs of Hindi."""
    return character.isalnum() or unicodedata.category(character).startswith("M")


def sentences(text: str) -> list[str]:
    """The sentences of a text: they end with a line, or with punctuation before white space (。！？ need none)."""
    return [sentence for part in SENTENCE_END.split(text) if (sentence := part.strip())]


def spaceless_script(texts: Sequence[str]) -> str | None:
    """The script of most letters, if it has no spaces between words: "Japanese", "Chinese" or "other"; else None."""
    sample = "".join(texts)
    letters = sum(map(str.isalnum, sample))
    if 2 * len(SPACELESS_LETTER.findall(sample)) <= letters:
        return None
    han, kana = len(HAN_LETTER.findall(sample)), len(KANA_LETTER.findall(sample))
    if kana and 10 * kana >= han:  # Japanese mixes them; Chinese has hardly any kana
        return "Japanese"
    return "Chinese" if 2 * han > letters else "other"
