"""Tables with one word per row: the rows of a sentence are joined, as in CoNLL.

A sentence is a run of rows with the same number in a column such as "Sentence #" or "sentence_id". The cell may be
empty in all rows but the first of the sentence.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

from ....core.errors import HeadwayError
from ..column_names import normalize_name
from ..labels import is_missing
from ..rows import SAMPLE_ROWS, Rows, RowStream

SENTENCE_NAMES = ("sentence", "sent", "sentenceid", "sentid", "sentenceidx", "sentenceno", "sentencenumber")
WORD_NAMES = ("word", "token", "words", "tokens")
TAG_NAMES = ("tag", "tags", "ner", "nertag", "nertags", "label", "labels", "entity", "bio", "iob", "pos")
NUMBER = re.compile(r"(?:[^\W\d]+\W{0,3})?\d{1,18}(?:\.0)?")  # "Sentence: 12", "s12", "12.0"
MIN_WORDS = 2  # mean number of rows of a sentence


def join_words(stream: RowStream, wanted: bool | None) -> RowStream:
    """The sentences of a table of words; any other table unchanged.

    Args:
        stream: A table.
        wanted: Whether the rows are words. Default: inferred from the names of the columns and the first rows.

    Raises:
        HeadwayError: The rows should be words, but there is no column of sentences or of words.
    """
    if wanted is False:
        return stream
    sentence, word, tag = (_named(stream, names) for names in (SENTENCE_NAMES, WORD_NAMES, TAG_NAMES))
    if wanted and not (sentence and word):
        raise HeadwayError(
            f"{stream.source}: --join-words needs a column of the sentence's number ({', '.join(SENTENCE_NAMES[:4])}) "
            f"and one of words ({', '.join(WORD_NAMES[:2])}). The columns are: {', '.join(stream.columns)}."
        )
    if not (sentence and word and (tag or wanted)) or not (wanted or _are_words(stream, sentence, word)):
        return stream
    read = stream.read
    note = (
        f'each row is a word; the rows of a sentence are joined by column "{sentence}" (--no-join-words reads the '
        "rows as they are)"
    )
    return replace(
        stream,
        kind=f"{stream.kind}, a word per row",
        read=lambda: _sentences(read, sentence),
        notes=(*stream.notes, note),
    )


def _named(stream: RowStream, names: tuple[str, ...]) -> str | None:
    columns = {normalize_name(column): column for column in reversed(stream.columns)}
    return next((columns[name] for name in names if name in columns), None)


def _are_words(stream: RowStream, sentence: str, word: str) -> bool:
    """Whether the first rows have numbers of sentences, at least two rows for most of them, and single words."""
    rows = [row for _, row in islice(stream, SAMPLE_ROWS)]
    numbers = [None if is_missing(row.get(sentence)) else str(row.get(sentence)).strip() for row in rows]
    given = [number for number in numbers if number is not None]
    starts = sum(number is not None and (i == 0 or number != numbers[i - 1]) for i, number in enumerate(numbers))
    words = [row.get(word) for row in rows]
    return (
        bool(given)
        and numbers[0] is not None
        and all(NUMBER.fullmatch(number) for number in given)
        and len(rows) >= MIN_WORDS * starts
        and not any(isinstance(one, list) or re.search(r"\s", str(one).strip()) for one in words)
    )


def _sentences(read: Callable[[], Rows], sentence: str) -> Rows:
    """One row per sentence: its number, and a list per other column."""
    held: list[dict[str, Any]] = []
    first, number = 0, None
    for place, row in read():
        given = row.get(sentence)
        if held and not is_missing(given) and given != number:
            yield first, _joined(held, sentence, number)
            held = []
        if not held:
            first, number = place, given
        held.append(row)
    if held:
        yield first, _joined(held, sentence, number)


def _joined(rows: list[dict[str, Any]], sentence: str, number: Any) -> dict[str, Any]:
    return {name: number if name == sentence else [row.get(name) for row in rows] for name in rows[0]}
