"""Hashes of the texts that a model was trained on, so that an evaluation on the same texts is noticed.

The model folder holds hashes of 40 bits that are salted with the fingerprint of the training data. They do not contain
the texts, but a reader with a text can find out whether the model was trained on it; deleting the file prevents it. Of
many texts only the lowest hashes are stored: a random sample, from which the share of known texts is estimated.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from ...core.errors import HeadwayError
from ..data.examples import Example
from ..data.groups import text_key

FILE = "training_rows.hashes"  # in a model folder: little-endian numbers of 64 bits, ascending
DTYPE = np.dtype("<u8")
BYTES = 5  # of a hash: with 200,000 of them, one in five million other texts is taken for a known one
MAX_HASHES = 200_000


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """The sorted hashes of the texts of training examples."""

    hashes: np.ndarray
    salt: str

    @classmethod
    def of(cls, examples: Iterable[Any], salt: str) -> Self:
        """The hashes of examples."""
        return cls(np.unique(_hash(examples, salt))[:MAX_HASHES], salt)

    @classmethod
    def read(cls, folder: Path, info: dict[str, Any]) -> Self | None:
        """Those of a model folder with this headway.json, if it has them.

        Raises:
            HeadwayError: the file is damaged.
        """
        path, data = folder / FILE, info.get("data")
        train = data.get("train") if isinstance(data, dict) else None
        if not path.exists() or not isinstance(train, dict):
            return None
        content = path.read_bytes()
        if len(content) % DTYPE.itemsize:
            raise HeadwayError(f"{path} is damaged or truncated. Delete it, or copy the model folder again.")
        return cls(np.frombuffer(content, DTYPE), str(train.get("fingerprint")))

    def write(self, folder: Path) -> None:
        """Writes them into a model folder."""
        (folder / FILE).write_bytes(self.hashes.astype(DTYPE).tobytes())

    def count_known(self, examples: Sequence[Example]) -> int:
        """How many examples have texts of the training data; estimated if not all hashes are stored."""
        hashes = _hash(examples, self.salt)
        complete = len(self.hashes) < MAX_HASHES
        compared = hashes if complete else hashes[hashes <= self.hashes[-1]]
        known = int(np.isin(compared, self.hashes).sum())
        return known if complete else round(known * len(hashes) / max(1, len(compared)))

    def are_known(self, examples: Sequence[Example]) -> np.ndarray:
        """Whether each example has texts of the training data, (N,) bool; true where that is not stored."""
        hashes = _hash(examples, self.salt)
        known = np.isin(hashes, self.hashes)
        return known if len(self.hashes) < MAX_HASHES else known | (hashes > self.hashes[-1])

    def describe_known(self, examples: Sequence[Example]) -> str | None:
        """A warning if examples have texts of the training data."""
        known = self.count_known(examples)
        if not known:
            return None
        about = "" if len(self.hashes) < MAX_HASHES else "about "
        return (
            f"{about}{known:,} of the {len(examples):,} rows have texts that the model was trained on, which makes "
            "the metrics too high. Evaluate it on other rows."
        )


def _hash(examples: Iterable[Any], salt: str) -> np.ndarray:
    key = salt.encode()[:64]
    texts = ("\0".join(text_key(example)).encode("utf-8", "surrogatepass") for example in examples)
    digests = (hashlib.blake2b(text, digest_size=BYTES, key=key).digest() for text in texts)
    return np.fromiter((int.from_bytes(digest, "big") for digest in digests), dtype=np.uint64)
