"""Digests of values, by which equal ones are found among millions without keeping them.

A digest has 128 bits: two different values among a billion have the same one with a probability of 1e-21.
"""

import hashlib
from collections.abc import Hashable, Iterable

import numpy as np

BYTES = 16


def digest(value: bytes) -> bytes:
    """The digest of a value, BYTES bytes."""
    return hashlib.blake2b(value, digest_size=BYTES).digest()


def digests(values: Iterable[bytes]) -> np.ndarray:
    """The digest of each value, (N, 2) uint64."""
    found = bytearray()
    for value in values:
        found += digest(value)
    return as_digests(found)


def as_digests(joined: bytearray) -> np.ndarray:
    """Digests, one after the other, as an array, (N, 2) uint64."""
    return np.frombuffer(joined, dtype=np.uint64).reshape(-1, 2)


def number_equal(found: np.ndarray) -> np.ndarray:
    """Numbers the distinct digests from 0, in the order of their first occurrence.

    Args:
        found: Digests, (N, 2).

    Returns:
        The number of each digest, (N,) int64.
    """
    order = np.lexsort((found[:, 1], found[:, 0]))  # stable: equal digests stay in their order
    ranked = found[order]
    starts = np.ones(len(found), dtype=bool)
    starts[1:] = (ranked[1:] != ranked[:-1]).any(axis=1)
    del ranked
    firsts = order[starts]  # the first occurrence of each
    numbers = np.empty(len(firsts), dtype=np.int64)
    numbers[np.argsort(firsts)] = np.arange(len(firsts))
    result = np.empty(len(found), dtype=np.int64)
    result[order] = numbers[np.cumsum(starts) - 1]
    return result


def number_values(values: Iterable[Hashable]) -> np.ndarray:
    """Numbers the distinct values from 0 in the order of their first occurrence; None is -1. (N,) int64."""
    numbers: dict[Hashable, int] = {}
    return np.fromiter(
        (-1 if value is None else numbers.setdefault(value, len(numbers)) for value in values), dtype=np.int64
    )
