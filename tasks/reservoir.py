"""A random sample of rows that are read once, by columns, in bounded memory.

Each row has a random key, and the rows with the smallest keys are the sample: all sets of rows of this size are
equally probable (bottom-k sampling, Cohen and Kaplan 2007, https://doi.org/10.1145/1281100.1281133).
"""

from typing import Self

import numpy as np

MOST = 2**16  # rows: a share of them has a standard error of at most 0.2 points
MOST_BYTES = 2**27
KEYS = " keys"
SPARE = 1.5  # times the size of the sample: rows that are held until the surplus is dropped


class Reservoir:
    """A sample of rows with the same columns, in their order.

    Args:
        most: its number of rows; up to this number all are kept. Default: MOST.
        seed: of the keys. With the same seed, the rows at the same positions are drawn.
    """

    def __init__(self, most: int | None = None, seed: int = 0) -> None:
        self.most = MOST if most is None else most
        self.number = 0  # rows that were added
        self._random = np.random.default_rng(seed)
        self._parts: list[dict[str, np.ndarray]] = []
        self._held = 0

    @classmethod
    def of_rows(cls, bytes_per_row: int) -> Self:
        """One that takes at most MOST_BYTES."""
        return cls(max(1, min(MOST, MOST_BYTES // max(1, bytes_per_row))))

    def add(self, keys: np.ndarray | None = None, **columns: np.ndarray) -> None:
        """Adds rows.

        Args:
            keys: of the rows, (E,), such as the hashes of their groups: rows with the same key are drawn together.
                Default: random ones.
            **columns: the values of the rows, (E, ...) each.
        """
        size = len(next(iter(columns.values())))
        keys = self._random.random(size) if keys is None else keys
        self.number += size
        self._parts.append({KEYS: keys, **columns})
        self._held += size
        if self._held > SPARE * self.most:
            self._drop()

    def __len__(self) -> int:
        return min(self.number, self.most)

    @property
    def is_sample(self) -> bool:
        """Whether rows are missing."""
        return self.number > self.most

    def column(self, name: str) -> np.ndarray:
        """The values of the sampled rows; empty if there is no row."""
        self._drop()
        return self._parts[0][name] if self._parts else np.zeros(0)

    def describe(self, what: str) -> str:
        """A clause that says how many rows are in the sample; empty if all are."""
        return f"{what} a random sample of {len(self):,} of {self.number:,} rows" if self.is_sample else ""

    def _drop(self) -> None:
        """Joins the parts, without the rows that are not drawn."""
        if not self._parts or (len(self._parts) == 1 and self._held <= self.most):
            return
        joined = {name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]}
        if self._held > self.most:
            kept = np.sort(np.argpartition(joined[KEYS], self.most - 1)[: self.most])
            joined = {name: values[kept] for name, values in joined.items()}
        self._parts, self._held = [joined], len(joined[KEYS])
