"""Groups of rows that belong on the same side of a train/test split: rows with the same texts, and those of one group.

Texts are the same if they differ only in upper and lower case or in white space: most tokenizers read these alike, so
a model that was trained on one of them knows the label of the other.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from .digests import digests, number_equal
from .examples import Example
from .labels import is_missing
from .rows import Table


def text_key(example: Example) -> tuple[str, ...]:
    """The texts of an example in a form that is equal for the same texts."""
    return tuple(" ".join(text.split()).casefold() for text in example.texts)


def key_bytes(texts: Sequence[str]) -> bytes:
    """Texts as bytes that differ for different texts."""
    if len(texts) > 1:
        texts = (*texts, *(str(len(text)) for text in texts))  # where each ends
    return "\0".join(texts).encode("utf-8", "surrogatepass")


def example_groups(examples: Iterable[Example], table: Table | None = None, column: str | None = None) -> np.ndarray:
    """The number of the group of each example, from 0 in the order of their first rows, (N,).

    The group is the value in a column of the example's row, else its document, else its texts.
    """
    return number_equal(
        digests(
            _group(example, None if table is None or column is None else table.rows[example.row].get(column))
            for example in examples
        )
    )


def _group(example: Example, value: object) -> bytes:
    if not is_missing(value):
        return b"column " + key_bytes([str(value)])
    if example.group is not None:
        return b"document " + key_bytes([example.group])
    return b"texts " + key_bytes(text_key(example))


def without_known_texts(held_out: Sequence[int], kept: Sequence[int], examples: Sequence[Example]) -> list[int]:
    """The held-out positions without those whose texts are among the kept ones, for example in another group."""
    texts = number_equal(digests(key_bytes(text_key(example)) for example in examples))
    others = np.asarray(held_out, dtype=np.int64)
    return others[~np.isin(texts[others], texts[np.asarray(kept, dtype=np.int64)])].tolist()
