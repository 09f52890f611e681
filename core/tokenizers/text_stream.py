"""Tokens to text as they come: whole characters only, and nothing that may turn out to be part of a stop string.

A token of byte-level BPE (Radford et al. 2019) is a piece of UTF-8 that may begin or end inside a character.
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
        tokenizer: of the tokens.
        stop: texts that end the stream; they are not part of it.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self.text = ""  # without the bytes of a character that is not complete
        self.stopped = False
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._rest = b""
        self._shown = 0

    def push(self, token: int) -> None:
        """Adds a token; nothing is added behind a stop string."""
        if self.stopped:
            return
        data = self._rest + token_bytes(self._tokenizer, token)
        characters, length = codecs.utf_8_decode(data, "replace", False)
        self._rest = data[length:]
        # A stop string may have begun in what was there before.
        start = max(0, len(self.text) - max(map(len, self._stop), default=0))
        self.text += characters
        found = [place for stop in self._stop if (place := self.text.find(stop, start)) >= 0]
        if found:
            self.text = self.text[: min(found)]
            self.stopped = True

    def piece(self, *, last: bool = False) -> str:
        """The text that was not shown before and is sure to stay; with `last`, all the rest."""
        end = len(self.text) if last or self.stopped else len(self.text) - self._held_back()
        piece = self.text[self._shown : end]
        self._shown = max(self._shown, end)
        return piece

    def fork(self) -> Self:
        """A stream that goes on from here on its own."""
        return copy(self)

    def _held_back(self) -> int:
        """How many characters at the end may be the beginning of a stop string."""
        longest = max(map(len, self._stop), default=1) - 1
        ends = (self.text[-length:] for length in range(min(longest, len(self.text)), 0, -1))
        return next((len(end) for end in ends if any(stop.startswith(end) for stop in self._stop)), 0)


def token_bytes(tokenizer: Tokenizer, token: int) -> bytes:
    """What a token adds to the text; nothing for a special token or one beyond the vocabulary."""
    if not tokenizer.decode([token]):
        return b""
    (spelling,) = tokenizer.tokens([token])
    if tokenizer.kind != "byte-level-bpe":
        joined = tokenizer.kind == "wordpiece" and spelling.startswith("##")
        return (spelling[2:] if joined else f" {spelling}").encode()
    alphabet = _byte_alphabet()
    if any(character not in alphabet for character in spelling):  # a token that was added is spelt as it is
        return spelling.encode()
    return bytes(alphabet[character] for character in spelling)


@cache
def _byte_alphabet() -> dict[str, int]:
    """The characters that GPT-2's vocabulary writes bytes with: printable Latin-1 as itself, others from U+0100 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
