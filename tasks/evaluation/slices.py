"""Metrics of the parts of the data, each compared with all other examples.

A part is compared by the difference between its metric and that of the rest. Its standard error is the larger one of
two: the standard deviation of the difference in bootstrap samples (intervals.py), and that of a random part of the
same size, which matters where all examples of a small part are right or wrong. The p-values are those of a normal
distribution, corrected for the number of parts (Holm 1979).

E examples, K columns of counts, R replicates.
"""

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..intervals import AT_ONCE, BOUNDS, Interval, draw_weights
from ..reservoir import Reservoir
from ..tallies import LOWER_IS_BETTER, Tally
from .divisions import Parts, Values
from .paired_tests import holm

_Rows = Mapping[tuple[str, str], Sequence[int] | np.ndarray]  # by part: the positions of the examples

REPLICATES = 200
MIN_EXAMPLES = 20  # of a part and of the rest; smaller ones are not compared
SIGNIFICANT = 0.05
ADDITIVE = "mae"  # the metric of numbers: their correlations depend on the spread of the numbers in a part


@dataclass(frozen=True)
class Slice:
    """A part of the data.

    Args:
        by: what divides the data: "length", "label", a column.
        value: of the examples of the part.
        examples: their number.
        score: the metric of the part.
        rest: the metric of all other examples.
        p: that the difference is a random one, corrected for the number of parts; None: too few examples.
        worse: whether the part has the worse metric.
    """

    by: str
    value: str
    examples: int
    score: Interval
    rest: float
    p: float | None
    worse: bool

    @property
    def significant(self) -> bool:
        """Whether the difference is probably not a random one."""
        return self.p is not None and self.p < SIGNIFICANT

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        values = {"by": self.by, "value": self.value, "examples": self.examples}
        interval = {"low": self.score.low, "high": self.score.high, "rest": self.rest}
        return {**values, "score": self.score.value, **interval, "p": self.p, "significant": self.significant}


@dataclass
class _Sums:
    """The sums of the counts in each replicate, after those of all examples: (1 + R, K)."""

    values: np.ndarray
    examples: int = 0

    def add(self, counts: Any, weights: np.ndarray) -> None:
        self.values[0] += counts.sum(0)
        self.values[1:] += (counts.T @ weights).T
        self.examples += counts.shape[0]


@dataclass
class Slices:
    """The sums of every part; examples are added one after the other.

    Metrics that depend on all examples are counted when all are known: of a random sample of very many, the `numbers`
    of their tallies, the groups, and the parts of the data are kept.
    """

    _sums: dict[tuple[str, str], _Sums] = field(default_factory=dict)
    _parts: Parts = field(default_factory=Parts)
    _tally: Tally | None = None
    _total: _Sums | None = None
    _later: Reservoir | None = None  # of examples whose tallies are joined
    _keys: dict[tuple[str, str], int] = field(default_factory=dict)  # of the parts, numbered

    def add(self, tally: Tally, groups: np.ndarray, values: Values) -> None:
        """Adds examples.

        Args:
            tally: of the examples.
            groups: the group of each, (E,) uint64.
            values: of each example.
        """
        self._tally, rows = tally, self._parts.rows(values)
        if tally.numbers is not None and ADDITIVE not in tally.metrics():
            if self._later is None:
                self._later = Reservoir.of_rows(tally.numbers[:1].nbytes)
            parts = [array("H") for _ in groups]
            for key, own in rows.items():
                number = self._keys.setdefault(key, len(self._keys))
                for row in own:
                    parts[row].append(number)
            memberships = np.fromiter((one.tobytes() for one in parts), dtype=object, count=len(parts))
            self._later.add(numbers=tally.numbers, groups=groups, parts=memberships)
        else:
            self._add(tally, groups, rows)

    def _add(self, tally: Tally, groups: np.ndarray, rows: _Rows) -> None:
        weights = draw_weights(groups, REPLICATES).astype(float)
        if self._total is None:
            self._total = self._zero()
        self._total.add(tally.counts, weights)
        for key, own in rows.items():
            sums = self._sums.setdefault(key, self._zero())
            sums.add(tally.counts[own], weights[own])

    def _zero(self) -> _Sums:
        assert self._tally is not None
        return _Sums(np.zeros((1 + REPLICATES, self._tally.counts.shape[1])))

    def _join(self) -> None:
        """Adds what could not be counted before all examples were known."""
        if self._later is None or self._total is not None:
            return
        assert self._tally is not None
        assert self._tally.join is not None
        part, groups = self._tally.join(self._later.column("numbers")), self._later.column("groups")
        keys, parts = list(self._keys), self._later.column("parts")
        for start in range(0, len(groups), AT_ONCE):
            rows: dict[tuple[str, str], list[int]] = {}
            for row, numbers in enumerate(parts[start : start + AT_ONCE]):
                for number in array("H", numbers):
                    rows.setdefault(keys[number], []).append(row)
            self._add(part(slice(start, start + AT_ONCE)), groups[start : start + AT_ONCE], rows)

    def compare(self) -> tuple[str, list[Slice]]:
        """The metric and the parts: significant ones first (the worse, then the smallest ones), untested ones last."""
        self._join()
        if self._tally is None or self._total is None:
            return "", []
        metrics = list(self._tally.formulas(self._total.values[:1]))
        metric = ADDITIVE if ADDITIVE in metrics else metrics[0]
        found = [one for one in (self._compare(key, metric) for key in self._sums) if one is not None]
        corrected = holm([one.p for one in found])
        found = [Slice(**{**vars(one), "p": p}) for one, p in zip(found, corrected, strict=True)]
        return metric, sorted(found, key=_place)

    def _compare(self, key: tuple[str, str], metric: str) -> Slice | None:
        assert self._tally is not None
        assert self._total is not None
        part, total = self._sums[key], self._total
        others = total.examples - part.examples
        if not others:
            return None
        score = self._tally.formulas(part.values)[metric]
        rest = self._tally.formulas(total.values - part.values)[metric]
        whole = self._tally.formulas(total.values)[metric]
        if not np.isfinite([score[0], rest[0]]).all():
            return None
        difference = float(score[0] - rest[0])
        p = None
        if min(part.examples, others) >= MIN_EXAMPLES:
            own = float(np.nanstd(score[1:] - rest[1:]))
            scale = math.sqrt(total.examples * (1 / part.examples + 1 / others))
            error = max(own, float(np.nanstd(whole[1:])) * scale)
            p = math.erfc(abs(difference) / error / math.sqrt(2)) if error else 1.0
        defined = score[1:][np.isfinite(score[1:])]
        low, high = np.quantile(defined, BOUNDS) if len(defined) else (score[0], score[0])
        interval = Interval(float(score[0]), float(min(low, score[0])), float(max(high, score[0])))
        worse = difference != 0 and (difference > 0) == (metric in LOWER_IS_BETTER)
        return Slice(*key, part.examples, interval, float(rest[0]), p, worse)


def _place(one: Slice) -> tuple[bool, bool, bool, int, str]:
    return not one.significant, one.p is None, not one.worse, one.examples, one.value
