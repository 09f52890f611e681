"""Confidence intervals of metrics, by the bootstrap over examples or over groups of examples.

Each group has, in each replicate, a weight drawn from a Poisson distribution of mean 1, independently of all others:
the number of times it would be drawn from a large sample (Hanley and MacGibbon 2006,
https://doi.org/10.1016/j.cmpb.2006.04.006; Chamandy et al. 2012 for data that are read once). Only sums are kept.
A metric that is a mean of 0 or 1 over independent examples has Wilson's interval instead (1927), which holds at small
numbers and near 0 and 1. Of very many examples, a sample of their groups, drawn by their hash, tells whether they are
independent, and metrics that depend on all examples are those of a sample. So memory does not grow with E.

E examples, K columns of counts, R replicates.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .reservoir import Reservoir
from .tallies import LOWER_IS_BETTER, Formulas, LabelCounts, Tally, measured

REPLICATES = 1000
LEVEL = 0.95
BOUNDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)  # quantiles
DEVIATIONS = 1.959964  # of a normal distribution, on both sides of which 5 % lie
CHUNK = 2**22  # weights that exist at a time
AT_ONCE = 4096  # examples of a joined tally that are counted together


@dataclass(frozen=True)
class Interval:
    """A metric with the bounds of its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """The three numbers by name."""
        return {"value": self.value, "low": self.low, "high": self.high}


def draw_weights(groups: np.ndarray, replicates: int = REPLICATES, seed: int = 0) -> np.ndarray:
    """Poisson weights of groups, (E, R) uint8; equal groups have equal weights, whenever they are asked for.

    The weights of a group are a hash of its number (splitmix64, Steele et al. 2014), 16 bits for each of them.

    Args:
        groups: the group of each example, (E,) uint64.
        replicates: R.
        seed: of the hash.
    """
    words = np.arange(-(-replicates // 4), dtype=np.uint64) + np.uint64(1 + (seed << 20))
    x = _mix(groups)[:, None] + words * np.uint64(0x9E3779B97F4A7C15)
    return _POISSON[_mix(x).view(np.uint16)[:, :replicates]]


def _mix(x: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _poisson_table() -> np.ndarray:
    """The number that each of 2**16 equally probable events stands for."""
    probabilities = [math.exp(-1) / math.factorial(number) for number in range(9)]
    ends = np.round(np.cumsum(probabilities) * 2**16).astype(np.int64)
    return np.searchsorted(ends, np.arange(2**16), side="right").astype(np.uint8)


_POISSON = _poisson_table()


class Bootstrap:
    """The sums of all examples and of R random samples of them; parts of the examples are added one after the other.

    Args:
        replicates: R.
        seed: of the samples.
    """

    def __init__(self, replicates: int = REPLICATES, seed: int = 0) -> None:
        self.replicates, self.seed = replicates, seed
        self.num_examples = 0
        self._counted = 0  # examples that the sums are of
        self._sums = np.zeros((0, 0))  # (1 + R, K): of all examples, then of the samples
        self._formulas: Formulas | None = None
        self._sizes: Formulas | None = None
        self._proportions: frozenset[str] = frozenset()
        self._by_label: LabelCounts | None = None
        self._groups = Reservoir()  # of the examples; empty if each is a separate group
        self._later: Reservoir | None = None  # what is compared of examples whose tallies are joined at the end
        self._first: tuple[Tally, np.ndarray] | None = None  # the first of these tallies, and its groups

    def add(self, tally: Tally, groups: Sequence[int] | np.ndarray | None = None) -> None:
        """Adds examples.

        Args:
            tally: of the examples.
            groups: the number or the hash of the group of each, (E,); the rows of a group may come in different
                parts. None: each example is a separate group.
        """
        size = tally.counts.shape[0]
        if groups is None:
            numbers = np.arange(self.num_examples, self.num_examples + size, dtype=np.uint64)
        else:
            numbers = np.asarray(groups, dtype=np.uint64)
            self._groups.add(_mix(numbers), groups=numbers)  # those of a group are drawn together
        self.num_examples += size
        if tally.join is None or tally.numbers is None:
            self._add(tally, numbers)
            return
        if self._later is None:
            self._first, self._later = (tally, numbers), Reservoir.of_rows(tally.numbers[:1].nbytes)
        self._later.add(numbers=tally.numbers, groups=numbers)

    @property
    def independent(self) -> bool:
        """Whether no two examples are of one group."""
        groups = self._groups.column("groups")
        return len(np.unique(groups)) == len(groups)

    @property
    def note(self) -> str:
        """What the metrics are measured on, if it is a sample; else empty."""
        if self._later is None or self._first is None or self._first[0].counts.shape[0] == self._later.number:
            return ""
        return self._later.describe(f"{', '.join(self.intervals())}: of")

    def intervals(self) -> dict[str, Interval]:
        """The metrics that can be measured, with their intervals."""
        self._join()
        if self._formulas is None:
            return {}
        independent = self.independent
        values = measured(self._formulas(self._sums[:1]))
        samples = self._formulas(self._sums[1:])
        return {
            name: self._interval(name, value, samples[name], independent=independent) for name, value in values.items()
        }

    def by_label(self) -> list[dict[str, Any]]:
        """A row per label: precision, recall and F1 with their intervals, and the number of correct labels."""
        if self._by_label is None:
            return []
        scores = self._by_label.scores(self._sums)  # (1 + R, L) each
        bounds = {name: np.quantile(values[1:], BOUNDS, axis=0) for name, values in scores.items()}
        truth, found, _ = (counts[0] for counts in self._by_label.split(self._sums[:1]))
        sizes = {"precision": found, "recall": truth}

        def interval(name: str, i: int) -> Interval:
            value, (low, high) = float(scores[name][0, i]), bounds[name][:, i]
            if low == high == value and value in (0, 1):  # no sample shows what is possible beside all or nothing
                return wilson(value, max(1, int(sizes.get(name, truth + found)[i])))
            return _around(value, low, high)

        return [
            {"label": label, **{name: interval(name, i) for name in scores}, self._by_label.unit: int(truth[i])}
            for i, label in enumerate(self._by_label.labels)
        ]

    def differences(self, other: "Bootstrap") -> dict[str, Interval]:
        """By how much each metric of both exceeds that of the other one, which has counted the same groups.

        The samples of both are the same examples, so what makes an example hard for both does not widen the interval.
        """
        self._join()
        other._join()
        if self._formulas is None or other._formulas is None:
            return {}
        values, found = measured(self._formulas(self._sums[:1])), measured(other._formulas(other._sums[:1]))
        samples, others = self._formulas(self._sums[1:]), other._formulas(other._sums[1:])
        return {
            name: _around(value - found[name], *_quantiles(value - found[name], samples[name] - others[name]))
            for name, value in values.items()
            if name in found
        }

    def _join(self) -> None:
        """Adds the tallies that have to be joined first."""
        if self._later is None or self._first is None or self._formulas is not None:
            return
        tally, groups = self._first
        if len(groups) == self._later.number:  # nothing to join
            self._add(tally, groups)
            return
        assert tally.join is not None
        part, groups = tally.join(self._later.column("numbers")), self._later.column("groups")
        for start in range(0, len(groups), AT_ONCE):
            rows = slice(start, start + AT_ONCE)
            self._add(part(rows), groups[rows])

    def _add(self, tally: Tally, groups: np.ndarray) -> None:
        if not len(self._sums):
            self._sums = np.zeros((1 + self.replicates, tally.counts.shape[1]))
        self._formulas, self._proportions, self._by_label = tally.formulas, tally.proportions, tally.by_label
        self._sizes = tally.sizes
        self._sums[0] += tally.counts.sum(0)
        self._counted += len(groups)
        at_once = max(1, CHUNK // max(1, self.replicates))
        for start in range(0, len(groups), at_once):
            weights = draw_weights(groups[start : start + at_once], self.replicates, self.seed)
            self._sums[1:] += (tally.counts[start : start + at_once].T @ weights.astype(float)).T

    def _interval(self, name: str, value: float, samples: np.ndarray, *, independent: bool) -> Interval:
        defined = samples[np.isfinite(samples)] if math.isfinite(value) else np.array([value])
        if independent and name in self._proportions:
            return wilson(value, self._counted)
        if np.ptp(defined) == 0 and value in (0, 1) and name not in LOWER_IS_BETTER:
            sizes = measured(self._sizes(self._sums[:1])) if self._sizes else {}
            # no sample shows what is possible beside all or nothing
            return wilson(value, int(sizes.get(name, self._counted)))
        return _around(value, *np.quantile(defined, BOUNDS))


def _quantiles(value: float, samples: np.ndarray) -> tuple[float, float]:
    """The bounds of the samples that are finite; the value, if none is."""
    defined = samples[np.isfinite(samples)]
    low, high = np.quantile(defined, BOUNDS) if len(defined) else (value, value)
    return float(low), float(high)


def _around(value: float, low: float, high: float) -> Interval:
    """An interval that contains the value."""
    return Interval(float(value), float(min(low, value)), float(max(high, value)))


def wilson(share: float, size: int) -> Interval:
    """Wilson's interval of a share of `size` independent examples."""
    z = DEVIATIONS**2 / size
    middle = (share + z / 2) / (1 + z)
    half = DEVIATIONS * math.sqrt(share * (1 - share) / size + z / size / 4) / (1 + z)
    return Interval(share, max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share)))
