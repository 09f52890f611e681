"""Groups of rows that belong on the same side of a train/test split: rows with the same texts, and those of one group.

Texts are the same if they differ only in upper and lower case or in white space: most tokenizers read these alike, so
a model that was trained on one of them knows the label of the other.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from .digests import as_digests, digest, number_equal
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


def example_groups(
    examples: Iterable[Example], table: Table | None = None, column: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the group and of the texts of each example, from 0 in the order of their first rows, (N,) each.

    The group is the value in a column of the example's row, else its document, else its texts.
    """
    texts, groups = bytearray(), bytearray()
    for example in examples:
        of_texts = digest(key_bytes(text_key(example)))
        texts += of_texts
        groups += _own_group(example, table, column) or of_texts
    numbers = number_equal(as_digests(texts))
    return numbers if groups == texts else number_equal(as_digests(groups)), numbers


def group_hashes(examples: Iterable[Example], table: Table | None = None, column: str | None = None) -> np.ndarray:
    """A hash of the group of each example, (N,) uint64: the same in every part of the data; groups as above."""
    groups = bytearray()
    for example in examples:
        groups += _own_group(example, table, column) or digest(key_bytes(text_key(example)))
    return as_digests(groups)[:, 0].copy()


def _own_group(example: Example, table: Table | None, column: str | None) -> bytes | None:
    """The digest of an example's group; None if it is in the group of its texts."""
    value = None if table is None or column is None else table.rows[example.row].get(column)
    if not is_missing(value):
        return digest(b"column " + key_bytes([str(value)]))
    return None if example.group is None else digest(b"document " + key_bytes([example.group]))


def without_known_texts(held_out: Sequence[int], kept: Sequence[int], texts: np.ndarray) -> list[int]:
    """The held-out positions without those whose texts are among the kept ones, for example in another group.

    Args:
        held_out: positions of examples.
        kept: positions of the other examples.
        texts: the number of the texts of each example, (N,).
    """
    others = np.asarray(held_out, dtype=np.int64)
    return others[~np.isin(texts[others], texts[np.asarray(kept, dtype=np.int64)])].tolist()
