r"""Turns the parts of a prompt into tokens that are those of the whole prompt encoded at once.

Where a prompt is cut: GPT-2's byte-level BPE (Radford et al. 2019) never merges white space with the characters
before it, but " positive" is one token. A query is therefore cut where its trailing white space begins, and the space
before a label belongs to the label: "Sentiment:" + " positive". If {label} follows a character directly, the cut is
at the last white space before it, and the tokens that all labels share after the cut are moved to the query.
"""

import re
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache, partial

from ...core.errors import HeadwayError
from ...core.tokenizers.tokenizer import Tokenizer
from .forward_passes import Label, Query
from .templates import SEPARATOR

CACHED = 4096  # texts of which the tokens are remembered: demonstrations; and what comes before a label
LAST_WORD = re.compile(r"\s+\S*$")  # with the white space before it


class PromptEncoder:
    """Encodes queries and demonstrations.

    Args:
        tokenizer: of the model.
        words: label -> how the prompt spells it; empty if the answer is generated.

    Raises:
        HeadwayError: two labels have the same words, or the words of one have no tokens.
    """

    def __init__(self, tokenizer: Tokenizer, words: Mapping[str, str]) -> None:
        self._tokenizer, self._words = tokenizer, words
        self._encode_block = lru_cache(CACHED)(partial(_encode, tokenizer))
        self._labels_after = lru_cache(CACHED)(partial(_encode_labels, tokenizer, dict(words)))

    def block(self, text: str, *, first: bool) -> tuple[int, ...]:
        """The tokens of a description or a demonstration, with the separator before it unless it is the first."""
        return self._encode_block(text if first else SEPARATOR + text)

    def queries(self, texts: Sequence[str], *, first: bool) -> list[Query]:
        """Queries with the labels that may follow; `first` if the prompt starts with the query."""
        cuts = [self._cut(text if first else SEPARATOR + text) for text in texts]
        heads = self._tokenizer.encode_batch([head for head, _ in cuts])
        queries = []
        for head, (_, tail) in zip(heads, cuts, strict=True):
            common, labels = self._labels_after(tail)
            queries.append(Query((*head.ids, *common) or self._start(), labels))
        return queries

    def continuations(self, parts: Sequence[tuple[str, str]], *, first: bool) -> list[Query]:
        """The tokens of (head, tail) each: a query for the head, and the tail with the space before it as its label.

        Args:
            parts: the text up to the cut, and what follows it, which may be empty.
            first: whether the prompt starts with the head.

        Raises:
            HeadwayError: two labels have the same words.
        """
        check_words(self._words, list(self._words.values()))
        heads = [head if first else SEPARATOR + head for head, _ in parts]
        encodings = self._tokenizer.encode_batch([head + tail for head, (_, tail) in zip(heads, parts, strict=True)])
        queries = []
        for head, encoding in zip(heads, encodings, strict=True):
            inside = len(head.rstrip())
            cut = next((i for i, (_, end) in enumerate(encoding.offsets) if end > inside), len(encoding.ids))
            queries.append(Query(tuple(encoding.ids[:cut]) or self._start(), (tuple(encoding.ids[cut:]),)))
        return queries

    def open_query(self, text: str, *, first: bool) -> tuple[int, ...]:
        """A query whose answer is generated, without trailing spaces: the model generates them."""
        text = (text if first else SEPARATOR + text).rstrip(" ")
        return _encode(self._tokenizer, text) or self._start()

    def _start(self) -> tuple[int, ...]:
        if self._tokenizer.end_of_text_id is None:
            raise HeadwayError(
                "The prompt is empty, and the vocabulary has no end-of-text token to start from. Write a template "
                "that has other text than {text}."
            )
        return (self._tokenizer.end_of_text_id,)

    def _cut(self, query: str) -> tuple[str, str]:
        """The query up to the cut, and the rest, which is encoded together with the label."""
        stripped = query.rstrip()
        if stripped != query:
            return stripped, query[len(stripped) :]
        match = LAST_WORD.search(query)
        return (query[: match.start()], query[match.start() :]) if match else ("", query)


def _encode(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text).ids)


def _encode_labels(
    tokenizer: Tokenizer, words: Mapping[str, str], tail: str
) -> tuple[tuple[int, ...], tuple[Label, ...]]:
    """The tokens of `tail` that all labels share, and the remaining tokens of each label."""
    encodings = tokenizer.encode_batch([tail + word for word in words.values()])
    ids = [encoding.ids for encoding in encodings]
    shared = 0
    for i, (_, end) in enumerate(encodings[0].offsets):
        if end > len(tail) or any(one[i : i + 1] != [ids[0][i]] for one in ids):
            break
        shared += 1
    labels = tuple(tuple(one[shared:]) for one in ids)
    check_words(words, labels)
    return tuple(ids[0][:shared]), labels


def check_words(words: Mapping[str, str], spelled: Sequence[Hashable]) -> None:
    """Raises HeadwayError if what the prompt has for a label is empty, or the same as for another one.

    Args:
        words: label -> how the prompt spells it.
        spelled: the tokens or the characters of each label.
    """
    seen: dict[Hashable, str] = {}
    for (label, word), tokens in zip(words.items(), spelled, strict=True):
        if not tokens:
            raise HeadwayError(
                f"The label {label!r} is spelled {word!r} in the prompt, which has no tokens. Give it a word "
                f"(--verbalize {label}=WORDS)."
            )
        if tokens in seen:
            raise HeadwayError(
                f"The labels {seen[tokens]!r} and {label!r} are both spelled {word!r} in the prompt. Give "
                f"each its own words (--verbalize {label}=WORDS)."
            )
        seen[tokens] = label
