"""The character encoding of a text file: given, marked by a byte-order mark, UTF-8, or detected by charset-normalizer.

Detection sees the lines with bytes beyond ASCII. Its result is a guess, so a note shows a word as it was decoded.
"""

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from ....core.errors import HeadwayError
from ..places import shorten

if TYPE_CHECKING:
    from charset_normalizer.models import CharsetMatch

UTF8 = "utf-8"
# (byte-order mark, encoding); the longest first because UTF-32 starts like UTF-16.
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Encodings that spreadsheets and editors write. The rarer ones would be detected by mistake more often than rightly.
CANDIDATES = (
    *("gb18030", "big5", "cp932", "euc_jp", "cp949"),
    *("cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp874"),
    *("mac_roman", "cp850"),
)
NAMES = {
    "cp1252": "Windows-1252",
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16 (little-endian)",
    "utf-16-be": "UTF-16 (big-endian)",
    "utf-32": "UTF-32",
    "gb18030": "GB18030",
    "big5": "Big5",
    "cp932": "Shift-JIS",
    "euc_jp": "EUC-JP",
    "cp949": "EUC-KR",
    "koi8_r": "KOI8-R",
    "mac_roman": "Mac Roman",
    "cp850": "DOS code page 850",
}
JAPANESE = ("cp932", "euc_jp")
SAMPLE_BYTES = 1 << 16  # given to the detection
SIMILAR_CHAOS = 0.05  # charset-normalizer's share of implausible characters: other readings are shown up to here
MAX_WORDS = 100  # compared in two encodings
MAX_OTHER = 3  # other readings shown
MIN_WIDE = 0.3  # share of NUL bytes in every second place from which text is UTF-16 without a mark

# A sign inside a word, such as "¿ó³w": the text has another encoding. Not beside CJK, whose words have no spaces.
SIGN_IN_WORD = re.compile(r"[a-zA-Z\u00c0-\u052f][¹²³¼½¾¡¿¢£¤¥¦§¨©¬®¯±´¶¸][a-zA-Z\u00c0-\u052f]")
BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
LETTERS = re.compile(r"[^\W\d_]*[^\x00-\x7f\W\d_][^\W\d_]*")  # a word with a letter beyond ASCII
WORD = re.compile(r"[^\W\d_\u02b0-\u02ff\ufffd]+")  # without modifier letters such as a circumflex alone
# Letters that texts in an encoding must have, and their share: other text decodes to rare ones.
SCRIPTS = {
    "cp949": (re.compile("[\uac00-\ud7a3]"), 0.6),
    "cp932": (re.compile("[\u3040-\u30ff]"), 0.1),
    "euc_jp": (re.compile("[\u3040-\u30ff]"), 0.1),
    "gb18030": (re.compile("[\u4e00-\u9fff]"), 0.6),
    "big5": (re.compile("[\u4e00-\u9fff]"), 0.6),
}


@dataclass(frozen=True)
class Encoding:
    """An encoding, and how it was found.

    Args:
        name: Name of the Python codec.
        notes: What was inferred, and how to overrule it; empty for UTF-8.
    """

    name: str
    notes: tuple[str, ...] = ()

    @property
    def is_wide(self) -> bool:
        """Whether a line break is more than one byte."""
        return codecs.lookup(self.name).name.startswith(("utf-16", "utf-32"))


def given_encoding(name: str) -> Encoding:
    """The encoding that the user chose.

    Raises:
        HeadwayError: There is no such encoding of text.
    """
    try:
        codec = codecs.lookup(name)
    except (LookupError, ValueError):
        codec = None
    if codec is None or not getattr(codec, "_is_text_encoding", True):
        raise HeadwayError(
            f"--encoding {name}: there is no such encoding. Usual ones: utf-8, cp1252 (Western Windows), cp1251 "
            "(Cyrillic), utf-16, gb18030 (Chinese), cp932 (Japanese)."
        )
    # A byte-order mark is never a part of the text.
    return Encoding("utf-8-sig" if codec.name == UTF8 else codec.name)


def detect_encoding(head: bytes) -> Encoding | None:
    """The encoding of a text, or None if it is in no known one.

    Args:
        head: The text, or its beginning up to the end of a line.
    """
    for mark, name in MARKS:
        if head.startswith(mark):
            return Encoding(name, () if name == "utf-8-sig" else (f"encoding: {NAMES[name]} (byte-order mark)",))
    if (name := _unmarked_wide(head)) is not None:
        return Encoding(name, (f"encoding: {NAMES[name]} (detected; --encoding overrules)",))
    if head.isascii() or _is_utf8(head):
        return Encoding(UTF8)
    return None if b"\0" in head else _detect_legacy(head)


def _unmarked_wide(head: bytes) -> str | None:
    """UTF-16 without a byte-order mark: in text with ASCII characters, every second byte is often NUL."""
    pairs = len(head) // 2
    for name, first, second in (("utf-16-le", 0, 1), ("utf-16-be", 1, 0)):
        nul, others = head[second::2].count(0), head[first::2].count(0)
        if pairs and nul > MIN_WIDE * pairs and others < 0.01 * pairs:
            return name
    return None


def _is_utf8(head: bytes) -> bool:
    """Whether a text is UTF-8; with single damaged lines it still is, and reading reports those."""
    try:
        head.decode(UTF8)
    except UnicodeDecodeError:
        lines = [line for line in head.split(b"\n") if BEYOND_ASCII.search(line)]
        valid = sum(line.decode(UTF8, "ignore").encode(UTF8) == line for line in lines)
        return 2 * valid > len(lines)
    return True


def _detect_legacy(head: bytes) -> Encoding | None:
    from charset_normalizer import from_bytes

    sample = b"\n".join(line for line in head.split(b"\n") if BEYOND_ASCII.search(line))[:SAMPLE_BYTES]
    if b"\n" in sample and len(sample) == SAMPLE_BYTES:
        sample = sample[: sample.rindex(b"\n")]  # no character is cut
    matches = [one for one in from_bytes(sample, cp_isolation=list(CANDIDATES)) if _has_script(str(one), one.encoding)]
    if not matches:
        return None
    # Several encodings may give the same text or equally likely ones: the Western one is then the most usual. Kana
    # are in no other language, but Japanese bytes can be read as rare Korean syllables.
    matches.sort(
        key=lambda one: (one.encoding not in JAPANESE, one.chaos, -one.coherence, "cp1252" not in _same_text(one))
    )
    if SIGN_IN_WORD.search(str(matches[0])):
        whole = [one for one in matches if one.encoding not in SCRIPTS and not SIGN_IN_WORD.search(str(one))][:1]
        matches = [*whole, *(one for one in matches if one not in whole)]
    best, *others = [
        "cp1252" if "cp1252" in _same_text(one) else one.encoding
        for one in matches
        if one is matches[0] or one.chaos <= matches[0].chaos + SIMILAR_CHAOS
    ]
    shown = _shown_word(str(matches[0]), best, others)
    detected = f"detected: {shown}" if shown else "detected"
    return Encoding(best, (f"encoding: {NAMES.get(best, best)} ({detected}; --encoding overrules)",))


def _same_text(match: "CharsetMatch") -> list[str]:
    """The encodings in which the bytes are the same text."""
    return match.could_be_from_charset


def _shown_word(text: str, encoding: str, others: Sequence[str]) -> str:
    """A word of the text as it was decoded, and as it would be in other encodings that give other words."""
    words = list(islice(dict.fromkeys(found[0] for found in LETTERS.finditer(text)), MAX_WORDS))
    found: dict[str, str] = {}  # reading -> encoding
    shown = words[0] if words else ""
    for other in others:
        for word in [shown] if found else words:
            read = word.encode(encoding).decode(other, "replace")
            if read != word and WORD.fullmatch(read):
                shown = word
                found.setdefault(read, other)
                break
    readings = [f'in {other}: "{shorten(read, 20)}"' for read, other in list(found.items())[:MAX_OTHER]]
    return "; ".join([f'"{shorten(shown, 20)}"', *readings]) if shown else ""


def _has_script(text: str, encoding: str) -> bool:
    """Whether the letters beyond ASCII are those of the languages that are written in an encoding."""
    if encoding not in SCRIPTS:
        return True
    letters, share = SCRIPTS[encoding]
    return len(letters.findall(text)) > share * sum(not character.isascii() for character in text)
