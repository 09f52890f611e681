"""Word vectors: the token embedding of a model, word arithmetic on it, and a word in different contexts.

The token embedding has one vector per word, independent of context; word arithmetic is that of Mikolov et al. 2013
(https://aclanthology.org/N13-1090/). The hidden states of a word differ from sentence to sentence (Ethayarajh 2019,
https://arxiv.org/abs/1909.00512).

Shapes: V words of the vocabulary, C hidden size, N occurrences of a word.
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
    """A word of the vocabulary and its similarity."""

    word: str
    score: float  # the cosine, -1 to 1


@dataclass(frozen=True)
class Occurrence:
    """A word in a sentence: sentence[start:end]."""

    sentence: str
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class ContextComparison:
    """A word in several sentences."""

    occurrences: tuple[Occurrence, ...]
    cosines: np.ndarray  # (N, N), between the hidden states of the occurrences
    to_static: np.ndarray  # (N,), of the occurrences with the token embedding of the word


class WordTable:
    """The token embedding of a model as a table of words.

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
        """The token of a word; several tokens if the vocabulary does not have the whole word.

        Raises:
            HeadwayError: the word is empty or unknown to the vocabulary.
        """
        ids = self.tokenizer.encode_word(word.strip())
        if not word.strip() or not ids or set(ids) == {self.tokenizer.unk_id}:
            raise HeadwayError(f"{word!r}: the vocabulary of {self.model} has no such word. Try another.")
        return ids

    def vector(self, word: str) -> np.ndarray:
        """The vector of a word, (C,): the mean over its tokens."""
        return self.table[self.tokens(word)].mean(0)

    def nearest(self, expression: str, top: int = 10) -> list[Neighbour]:
        """The words nearest to a word, or to "king - man + woman", without the words of the expression.

        Word vectors are scaled to length 1 before they are added. Signs need spaces around them.

        Raises:
            HeadwayError: a word is missing or unknown.
        """
        if top < 1:
            raise HeadwayError(f"--top {top}: a number of words, 1 or more.")
        parts = parse_expression(expression)
        target = sum(sign * unit(self.vector(word)) for sign, word in parts)
        scores = cosines(np.asarray(target)[None], self.table[self.ids])[0]
        # Users regard "King" and "king" as one word.
        excluded = {word.casefold() for _, word in parts}
        order = np.argsort(-scores, kind="stable")
        found = (i for i in order.tolist() if self.words[i].casefold() not in excluded)
        return [Neighbour(self.words[i], float(scores[i])) for i, _ in zip(found, range(top), strict=False)]


def parse_expression(expression: str) -> list[tuple[int, str]]:
    """The words of "king - man + woman" with their signs.

    Raises:
        HeadwayError: a sign has no word after it.
    """
    first, *rest = re.split(r"\s+([+-])(?=\s|$)", " " + expression.strip())
    parts = [(1, first.strip())] if first.strip() or not rest else []
    signs, words = rest[::2], rest[1::2]
    parts += [(1 if sign == "+" else -1, word.strip()) for sign, word in zip(signs, words, strict=True)]
    if not all(word for _, word in parts):
        raise HeadwayError(f'"{expression}": write a word on both sides of a sign, as in "king - man + woman".')
    return parts


def compare_contexts(embedder: Embedder, word: str, sentences: Sequence[str]) -> ContextComparison:
    """Compares the hidden states of a word in several sentences with each other and with its token embedding.

    Args:
        embedder: computes the hidden states.
        word: matched without regard to case, at every occurrence.
        sentences: each with the word.

    Raises:
        HeadwayError: a sentence does not have the word, or the layers are concatenated.
    """
    occurrences: list[Occurrence] = []
    vectors: list[np.ndarray] = []
    wanted = [word[start:end].casefold() for start, end in WordSegmenter().split(word)]
    for sentence in sentences:
        found = embedder.embed_words(sentence)
        words = [one.text.casefold() for one in found.words]
        starts = [i for i in range(len(words) - len(wanted) + 1) if words[i : i + len(wanted)] == wanted]
        if not wanted or not starts:
            raise HeadwayError(f'"{sentence}" does not have the word "{word}". Spell it as in the sentence.')
        for i in starts:
            last = i + len(wanted)
            occurrences.append(Occurrence(sentence, found.words[i].start, found.words[last - 1].end))
            vectors.append(found.vectors[i:last].mean(0))
    states = np.stack(vectors) if vectors else np.empty((0, embedder.size), dtype=np.float32)
    static = WordTable(embedder).vector(word)[None]
    if states.shape[1] != static.shape[1]:
        raise HeadwayError(
            "--combine concat: concatenated layers cannot be compared with the token embedding. Use --combine sum."
        )
    return ContextComparison(tuple(occurrences), cosines(states, states), cosines(states, static)[:, 0])


def _whole_words(tokenizer: Tokenizer, size: int) -> dict[int, str]:
    """The tokens that are whole words, by id; without word pieces and special tokens."""
    ids = range(min(size, tokenizer.vocab_size))
    tokens = tokenizer.tokens(ids)
    begun = {
        i: tokenizer.spell(i)
        for i, token in zip(ids, tokens, strict=True)
        if tokenizer.begins_word(token) and not re.fullmatch(r"\[\w+\]|<.+>", token)
    }
    return {i: word for i, word in begun.items() if word and "\N{REPLACEMENT CHARACTER}" not in word}
