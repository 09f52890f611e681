"""Words as vectors: a model's own table of them, sums and differences of words, and a word in its sentences.

The table is the token embedding: one vector a word, whatever stands around it, with which word arithmetic is done
(Mikolov et al. 2013, https://aclanthology.org/N13-1090/). What the layers make of a word differs from sentence to
sentence (Ethayarajh 2019, https://arxiv.org/abs/1909.00512).

Shapes: V words of the vocabulary, C hidden size, N places where a word stands.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...core.errors import HeadwayError
from ...core.tokenizers.tokenizer import Tokenizer
from ..data.words import WordSegmenter
from .embedder import Embedder, cosines, unit


@dataclass(frozen=True)
class Neighbour:
    """A word of the vocabulary and how near it is."""

    word: str
    score: float  # the cosine, -1 to 1


@dataclass(frozen=True)
class Occurrence:
    """A word where it stands: sentence[start:end]."""

    sentence: str
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class InContext:
    """A word in several sentences."""

    places: tuple[Occurrence, ...]
    cosines: np.ndarray  # (N, N), of what the word is at each place
    to_static: np.ndarray  # (N,), with its vector in the table


class WordTable:
    """The words of a model's vocabulary with the one vector that its table has for each.

    Args:
        embedder: of the model.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.model = embedder.model
        self.tokenizer = embedder.tokenizer
        self.table: np.ndarray = embedder.backbone.token_embedding.weight.detach().float().cpu().numpy()
        words = _whole_words(self.tokenizer, len(self.table))
        self.ids = np.array(list(words), dtype=np.int64)
        self.words = list(words.values())

    def tokens(self, word: str) -> list[int]:
        """The token of a word; several where the vocabulary does not have it as a whole.

        Raises:
            HeadwayError: there is nothing in it, or nothing that the vocabulary knows.
        """
        space = " " if self.tokenizer.kind == "byte-level-bpe" else ""
        ids = self.tokenizer.encode(space + word.strip()).ids
        if not word.strip() or not ids or set(ids) == {self.tokenizer.unk_id}:
            raise HeadwayError(f"{word!r}: the vocabulary of {self.model} has no such word. Try another.")
        return ids

    def vector(self, word: str) -> np.ndarray:
        """The vector of a word, (C,): the mean of its tokens' where there are several."""
        return self.table[self.tokens(word)].mean(0)

    def nearest(self, expression: str, top: int = 10) -> list[Neighbour]:
        """The words nearest to a word, or to "king - man + woman"; those that were named are left out.

        Every word counts with length 1. Signs have spaces around them.

        Raises:
            HeadwayError: a word is missing or not known.
        """
        if top < 1:
            raise HeadwayError(f"--top {top}: a number of words, 1 or more.")
        parts = parse_expression(expression)
        target = sum(sign * unit(self.vector(word)) for sign, word in parts)
        scores = cosines(np.asarray(target)[None], self.table[self.ids])[0]
        # "King" and "king" are one word to whoever asks.
        named = {word.casefold() for _, word in parts}
        order = np.argsort(-scores, kind="stable")
        found = (i for i in order.tolist() if self.words[i].casefold() not in named)
        return [Neighbour(self.words[i], float(scores[i])) for i, _ in zip(found, range(top), strict=False)]


def parse_expression(expression: str) -> list[tuple[int, str]]:
    """The words of "king - man + woman" with their signs.

    Raises:
        HeadwayError: a sign has no word behind it.
    """
    first, *rest = re.split(r"\s+([+-])(?=\s|$)", " " + expression.strip())
    parts = [(1, first.strip())] if first.strip() or not rest else []
    signs, words = rest[::2], rest[1::2]
    parts += [(1 if sign == "+" else -1, word.strip()) for sign, word in zip(signs, words, strict=True)]
    if not all(word for _, word in parts):
        raise HeadwayError(f'"{expression}": a word belongs on both sides of a sign, as in "king - man + woman".')
    return parts


def in_context(embedder: Embedder, word: str, sentences: Sequence[str]) -> InContext:
    """What a word is in each of some sentences, and how far from its one vector in the table.

    Args:
        embedder: its layers are those that are compared.
        word: looked for without regard to capital letters, at every place where it stands.
        sentences: each must have it.

    Raises:
        HeadwayError: a sentence does not have the word, or the layers are laid side by side.
    """
    places: list[Occurrence] = []
    vectors: list[np.ndarray] = []
    wanted = [word[start:end].casefold() for start, end in WordSegmenter().split(word)]
    for sentence in sentences:
        found = embedder.embed_words(sentence)
        here = [one.text.casefold() for one in found.words]
        starts = [i for i in range(len(here) - len(wanted) + 1) if here[i : i + len(wanted)] == wanted]
        if not wanted or not starts:
            raise HeadwayError(f'"{sentence}": the word "{word}" is not in it. Name it as it stands there.')
        for i in starts:
            last = i + len(wanted)
            places.append(Occurrence(sentence, found.words[i].start, found.words[last - 1].end))
            vectors.append(found.vectors[i:last].mean(0))
    together = np.stack(vectors) if vectors else np.empty((0, embedder.size), dtype=np.float32)
    static = WordTable(embedder).vector(word)[None]
    if together.shape[1] != static.shape[1]:
        raise HeadwayError("--combine concat: vectors of several layers have no place in the table. Use sum.")
    return InContext(tuple(places), cosines(together, together), cosines(together, static)[:, 0])


def _whole_words(tokenizer: Tokenizer, size: int) -> dict[int, str]:
    """The tokens that are whole words, by their ids: no pieces of words, no special tokens."""
    ids = range(min(size, tokenizer.vocab_size))
    tokens = tokenizer.tokens(ids)
    if tokenizer.kind == "byte-level-bpe":
        begun = {i: tokenizer.decode([i]).strip() for i, token in zip(ids, tokens, strict=True) if token[:1] == "Ġ"}
        return {i: word for i, word in begun.items() if word and "\N{REPLACEMENT CHARACTER}" not in word}
    return {
        i: token
        for i, token in zip(ids, tokens, strict=True)
        if token and not token.startswith("##") and not re.fullmatch(r"\[\w+\]|<.+>", token)
    }
