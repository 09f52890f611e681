"""Incremental decoding: text from tokens as they are generated, in complete characters and without stop strings.

A token of byte-level BPE (Radford et al. 2019) is a sequence of UTF-8 bytes that may start or end inside a character.
"""

import codecs
from collections.abc import Sequence
from copy import copy
from functools import cache
from typing import Self

from .tokenizer import Tokenizer


class TextStream:
    """The text of the tokens pushed so far, up to the first stop string.

    Args:
        tokenizer: decodes the tokens.
        stop: strings that end the text; they are not part of it.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self.text = ""  # without the bytes of an incomplete character
        self.stopped = False
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._incomplete = b""
        self._shown = 0

    def push(self, token: int) -> None:
        """Adds a token; ignored after a stop string."""
        if self.stopped:
            return
        data = self._incomplete + token_bytes(self._tokenizer, token)
        characters, length = codecs.utf_8_decode(data, "replace", False)
        self._incomplete = data[length:]
        # A stop string may start in the existing text.
        start = max(0, len(self.text) - max(map(len, self._stop), default=0))
        self.text += characters
        found = [place for stop in self._stop if (place := self.text.find(stop, start)) >= 0]
        if found:
            self.text = self.text[: min(found)]
            self.stopped = True

    def piece(self, *, last: bool = False) -> str:
        """The new text that cannot become part of a stop string; with `last`, all remaining text."""
        end = len(self.text) if last or self.stopped else len(self.text) - self._held_back()
        piece = self.text[self._shown : end]
        self._shown = max(self._shown, end)
        return piece

    def fork(self) -> Self:
        """An independent copy."""
        return copy(self)

    def _held_back(self) -> int:
        """Number of characters at the end that may be the beginning of a stop string."""
        longest = max(map(len, self._stop), default=1) - 1
        ends = (self.text[-length:] for length in range(min(longest, len(self.text)), 0, -1))
        return next((len(end) for end in ends if any(stop.startswith(end) for stop in self._stop)), 0)


def token_bytes(tokenizer: Tokenizer, token: int) -> bytes:
    """The UTF-8 bytes that a token adds to a text; empty for a special token or an unknown id."""
    if not tokenizer.decode([token]):
        return b""
    (token_text,) = tokenizer.tokens([token])
    if tokenizer.kind != "byte-level-bpe":
        joined = tokenizer.kind == "wordpiece" and token_text.startswith("##")
        return (token_text[2:] if joined else f" {token_text}").encode()
    alphabet = _byte_alphabet()
    if any(character not in alphabet for character in token_text):  # added tokens are plain text
        return token_text.encode()
    return bytes(alphabet[character] for character in token_text)


@cache
def _byte_alphabet() -> dict[str, int]:
    """The characters that stand for bytes in GPT-2's vocabulary: printable Latin-1 itself, others from U+0100 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
