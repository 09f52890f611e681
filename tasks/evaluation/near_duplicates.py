"""Test texts that almost equal a training text, by MinHash (Broder 1997) with locality-sensitive hashing.

A text is the set of its sequences of N_GRAM bytes in lower case. The share of equal minima of two texts estimates the
Jaccard similarity of their sets; only texts with an equal band of minima are compared (Leskovec et al., Mining of
Massive Datasets, section 3.4, http://www.mmds.org). Of many training texts, the 384 bytes of each are in files.

N training texts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.atomic_files import disk_errors
from ..data.examples import Example
from .example_lists import short_place, shorten

N_GRAM = 5  # bytes
HASHES, BANDS = 64, 16  # 4 minima per band: a pair of similarity 0.8 shares one with a probability of 0.9998
SIMILAR = 0.8
MAX_BYTES = 5000  # of a text
MAX_CANDIDATES = 50
MAX_LISTED = 25
AT_ONCE = 2**16  # texts
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_KEYS = np.random.default_rng(0).integers(2**63, size=(HASHES, 1), dtype=np.uint64)  # of the hash functions


@dataclass(frozen=True)
class NearDuplicate:
    """A test row and the training row that is most similar."""

    where: str
    text: str
    training_where: str
    training_text: str
    similarity: float

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        return dict(vars(self))


def signature(texts: Sequence[str]) -> np.ndarray:
    """The smallest hashes of the byte sequences of an example's texts, (HASHES,) uint32."""
    joined = "\n".join(" ".join(text.split()).casefold() for text in texts)
    content = np.frombuffer(joined.encode("utf-8", "surrogatepass")[:MAX_BYTES].ljust(N_GRAM), dtype=np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(content, N_GRAM).astype(np.uint64)
    grams = np.unique(windows @ (np.uint64(256) ** np.arange(N_GRAM, dtype=np.uint64)))
    mixed = (grams[None] ^ _KEYS) * _MULTIPLIER
    mixed = (mixed ^ (mixed >> np.uint64(29))) * _MULTIPLIER
    return (mixed >> np.uint64(32)).min(1).astype(np.uint32)


class TrainingTexts:
    """The signatures of training texts, and the order of each band of them.

    Args:
        examples: of the training data; each is read once here, and again if it is listed.
        folder: for files with the signatures, which are mapped into memory until `close`; None: they are in memory.

    Raises:
        HeadwayError: the disk is full.
    """

    def __init__(self, examples: Sequence[Example], folder: Path | None = None) -> None:
        self._examples, self._folder, size = examples, folder, len(examples)
        found = (signature(one.texts) for one in examples)
        self._signatures = self._store("signatures", found, (size, HASHES), np.uint32)
        keys = map(self._keys_of, range(BANDS))
        self._keys = self._store("keys", keys, (BANDS, size), np.uint32)
        orders = (np.argsort(one, kind="stable").astype(np.int32) for one in self._keys)
        self._order = self._store("order", orders, (BANDS, size), np.int32)
        ranked = (one[order] for one, order in zip(self._keys, self._order, strict=True))
        self._keys = self._store("ranked", ranked, (BANDS, size), np.uint32)  # ascending

    def _store(self, name: str, rows: Iterable[np.ndarray], shape: tuple[int, int], dtype: Any) -> np.ndarray:
        """Rows as an array in memory, or in a file."""
        if self._folder is None:
            return np.fromiter(rows, dtype=np.dtype((dtype, shape[1])), count=shape[0])
        path = self._folder / name
        with disk_errors(path), path.open("wb") as file:
            for row in rows:
                file.write(row.tobytes())
        return np.memmap(path, dtype, "r", shape=shape)

    def _keys_of(self, band: int) -> np.ndarray:
        """The key of a band of each text, (N,)."""
        starts = range(0, len(self._signatures), AT_ONCE)
        return np.concatenate([_band_keys(self._signatures[start : start + AT_ONCE], band) for start in starts])

    def close(self) -> None:
        """Closes the files, which Windows does not delete before."""
        self._signatures = self._keys = self._order = np.zeros((0, 0))

    def nearest(self, example: Example) -> tuple[int, float] | None:
        """The position and the similarity of the most similar training text; None if it is below SIMILAR."""
        own = signature(example.texts)
        near: set[int] = set()
        for band, key in enumerate(_band_keys(own[None], slice(None))[0]):
            first = int(np.searchsorted(self._keys[band], key))
            last = int(np.searchsorted(self._keys[band][first : first + MAX_CANDIDATES], key, side="right"))
            near.update(self._order[band, first : first + last].tolist())
        if not near:
            return None
        candidates = sorted(near)
        shares = (self._signatures[candidates] == own).mean(1)
        best = int(shares.argmax())
        return (candidates[best], float(shares[best])) if shares[best] >= SIMILAR else None

    def describe(self, example: Example, position: int, similarity: float) -> NearDuplicate:
        """A test row beside the training row at a position."""
        other = self._examples[position]
        first, second = (shorten(" / ".join(one.texts)) for one in (example, other))
        return NearDuplicate(short_place(example.where), first, short_place(other.where), second, similarity)


class NearDuplicates:
    """Counts the test rows that almost equal a training row, and keeps the most similar ones.

    Args:
        training: the training texts.
    """

    def __init__(self, training: TrainingTexts) -> None:
        self._training = training
        self.number = 0
        self.listed: list[NearDuplicate] = []  # the most similar ones first

    def add(self, example: Example) -> bool:
        """Adds a test row; returns whether it is a near duplicate."""
        found = self._training.nearest(example)
        if found is None:
            return False
        self.number += 1
        if len(self.listed) < MAX_LISTED or found[1] > self.listed[-1].similarity:
            self.listed.append(self._training.describe(example, *found))
            self.listed.sort(key=lambda one: -one.similarity)
            del self.listed[MAX_LISTED:]
        return True


def _band_keys(signatures: np.ndarray, band: int | slice) -> np.ndarray:
    """A hash of the minima of a band, or of each one, of signatures (N, HASHES): (N,) or (N, BANDS) uint32."""
    parts = signatures.reshape(len(signatures), BANDS, -1)[:, band].astype(np.uint64)
    mixed = np.zeros(parts.shape[:-1], dtype=np.uint64)
    for i in range(parts.shape[-1]):
        mixed = (mixed ^ parts[..., i]) * _MULTIPLIER
        mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(32)).astype(np.uint32)
