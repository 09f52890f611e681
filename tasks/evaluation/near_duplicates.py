"""Test texts that almost equal a training text, by MinHash (Broder 1997) with locality-sensitive hashing.

A text is the set of its sequences of N_GRAM bytes in lower case. The share of equal minima of two texts estimates the
Jaccard similarity of their sets; only texts with an equal band of minima are compared (Leskovec et al., Mining of
Massive Datasets, section 3.4, http://www.mmds.org). 256 bytes are kept for each training text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.examples import Example
from .example_lists import short_place, shorten

N_GRAM = 5  # bytes
HASHES, BANDS = 64, 16  # 4 minima per band: a pair of similarity 0.8 shares one with a probability of 0.9998
SIMILAR = 0.8
MAX_BYTES = 5000  # of a text
MAX_CANDIDATES = 50
MAX_LISTED = 25
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
    """The signatures of training texts.

    Args:
        examples: of the training data.
    """

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples
        self._signatures = np.stack([signature(one.texts) for one in examples])
        self._bands: dict[bytes, list[int]] = {}
        for i, one in enumerate(self._signatures):
            for key in _band_keys(one):
                self._bands.setdefault(key, []).append(i)

    def nearest(self, example: Example) -> NearDuplicate | None:
        """The most similar training text; None if none has a similarity of at least SIMILAR."""
        own = signature(example.texts)
        near = {i for key in _band_keys(own) for i in self._bands.get(key, [])[:MAX_CANDIDATES]}
        if not near:
            return None
        candidates = sorted(near)
        shares = (self._signatures[candidates] == own).mean(1)
        best = int(shares.argmax())
        if shares[best] < SIMILAR:
            return None
        other = self._examples[candidates[best]]
        texts = (shorten(" / ".join(one.texts)) for one in (example, other))
        first, second = texts
        return NearDuplicate(short_place(example.where), first, short_place(other.where), second, float(shares[best]))


def _band_keys(one: np.ndarray) -> Iterable[bytes]:
    return (bytes([band]) + part.tobytes() for band, part in enumerate(np.split(one, BANDS)))
