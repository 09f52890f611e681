"""Tests of whether new rows are like reference rows: what a model predicts for them, and what it reads.

Shares of labels by the chi-squared test; where a row has several labels, by random divisions of the rows with the same
statistic. Confidence, lengths and distances by the two-sample Kolmogorov-Smirnov test. Shares of unknown tokens, most
of which are 0, by the Mann-Whitney test. The p are corrected for the number of tests (Holm 1979). With many rows small
differences are significant, so each has an effect size, and drift is both significant and large.

E rows, L labels.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..data.places import shorten
from .comparison import format_p
from .paired_tests import holm

SIGNIFICANT = 0.05
LARGE = 0.1  # Cramer's V: a small effect of Cohen (1988); of Kolmogorov-Smirnov's distance: 10 % of the rows
LARGE_SHARE = 0.01  # of unknown tokens
FEWEST_EXPECTED = 5  # rows with a label, on each side; rarer labels are tested together
FEWEST_ROWS = 20
DIVISIONS, DIVISIONS_AT_ONCE = 1000, 50
MOST_SHOWN = 3  # labels in a sentence
OTHERS = "other labels"


@dataclass(frozen=True, eq=False)
class RowFacts:
    """What is known of some rows; None: the model does not say.

    Args:
        labels: predicted for each row: labels, or the types of its entities.
        confidence: the probability of the prediction, (E,).
        lengths: in tokens, (E,).
        unknown: the share of tokens that the vocabulary does not have, (E,).
        distances: from the mean of the reference rows, (E,).
    """

    labels: Sequence[Sequence[str]] | None = None
    confidence: np.ndarray | None = None
    lengths: np.ndarray | None = None
    unknown: np.ndarray | None = None
    distances: np.ndarray | None = None


@dataclass(frozen=True)
class DriftFinding:
    """One comparison of new rows with reference rows.

    Args:
        what: "predicted labels", "confidence", "length", "unknown tokens", "distance".
        reference: the median, mean or most frequent label of the reference rows, in words.
        new: that of the new rows.
        effect: the effect size.
        effect_name: what it is: "Cramer's V", "Kolmogorov-Smirnov distance", "difference".
        p: corrected for the number of tests; None: not tested.
        test: name of the test.
        drifted: whether the difference is significant and large.
        sentence: says all this.
        shares: of each label among the reference rows and among the new rows.
    """

    what: str
    reference: str
    new: str
    effect: float
    effect_name: str
    p: float | None
    test: str
    drifted: bool = False
    sentence: str = ""
    shares: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        """The finding as a row of a table."""
        p = "" if self.p is None else format_p(self.p)
        values = {"": self.what, "reference": self.reference, "new": self.new}
        return {**values, "effect": self.effect, "measured by": self.effect_name, "p": p, "test": self.test}


def drift_findings(reference: RowFacts, new: RowFacts) -> list[DriftFinding]:
    """The comparisons that can be made, with corrected p and a sentence each."""
    found = []
    if reference.labels is not None and new.labels is not None:
        found.append(_compare_labels(reference.labels, new.labels))
    for what, name, show in (
        ("confidence", "confidence", "{:.2f}"),
        ("length", "lengths", "{:,.0f} tokens"),
        ("distance from the mean of the reference rows", "distances", "{:.2f}"),
    ):
        ours, theirs = getattr(reference, name), getattr(new, name)
        if ours is not None and theirs is not None:
            found.append(_compare_numbers(what, ours, theirs, show.format))
    if reference.unknown is not None and new.unknown is not None:
        found.append(_compare_unknown(reference.unknown, new.unknown))
    corrected = holm([one.p for one in found])
    return [_concluded(replace(one, p=p)) for one, p in zip(found, corrected, strict=True)]


def _concluded(found: DriftFinding) -> DriftFinding:
    """With the conclusion."""
    large = found.effect >= (LARGE_SHARE if found.what == "unknown tokens" else LARGE)
    significant = found.p is not None and found.p < SIGNIFICANT
    facts = f"{found.effect_name} {found.effect:.3f}" + ("" if found.p is None else f", p {format_p(found.p)}")
    change = f"{found.reference} in the reference rows, {found.new} in the new rows ({facts})"
    if significant and large:
        sentence = f"Drift of {found.what}: {change}."
    elif significant:
        sentence = f"A small drift of {found.what}: {change}."
    else:
        sentence = f"No drift of {found.what} is shown: {change}."
    return replace(found, drifted=significant and large, sentence=sentence)


def _compare_labels(reference: Sequence[Sequence[str]], new: Sequence[Sequence[str]]) -> DriftFinding:
    counts = [Counter(label for row in rows for label in row) for rows in (reference, new)]
    labels = sorted(set(counts[0]) | set(counts[1]))
    totals = [max(1, sum(one.values())) for one in counts]
    shares = {label: (counts[0][label] / totals[0], counts[1][label] / totals[1]) for label in labels}
    index = _tested_together(counts, totals)
    size = 1 + max(index.values(), default=-1)
    table = np.array([_sums(one, index, size) for one in counts])
    statistic = _chi_squared(table[0][None], table[1][None])[0] if size > 1 and table.sum(1).all() else 0.0
    single = all(len(row) == 1 for rows in (reference, new) for row in rows)
    if statistic == 0:
        p = 1.0
    elif single:
        from scipy.special import chdtrc  # of the chi-squared distribution

        p = float(chdtrc(size - 1, statistic))
    else:
        p = _divisions_p([*reference, *new], len(reference), index, size, statistic)
    test = "chi-squared" if single else "chi-squared, by random divisions of the rows"
    most = sorted(labels, key=lambda label: -abs(shares[label][1] - shares[label][0]))[:MOST_SHOWN]
    words = [", ".join(f"{shorten(label, 40)} {shares[label][side]:.0%}" for label in most) for side in (0, 1)]
    effect = float(np.sqrt(statistic / table.sum())) if table.sum() else 0.0
    return DriftFinding("predicted labels", words[0] or "none", words[1] or "none", effect, "Cramer's V", p, test,
                        shares=shares)  # fmt: skip


def _tested_together(counts: Sequence[Counter[str]], totals: Sequence[int]) -> dict[str, int]:
    """The column of each label; all rare labels have the same one."""
    smaller = min(totals) / sum(totals)
    both = counts[0] + counts[1]
    frequent = sorted(label for label, number in both.items() if number * smaller >= FEWEST_EXPECTED)
    index = {label: i for i, label in enumerate(frequent)}
    return {label: index.get(label, len(frequent)) for label in both}


def _sums(counts: Mapping[str, int], index: Mapping[str, int], size: int) -> np.ndarray:
    sums = np.zeros(size)
    for label, number in counts.items():
        sums[index[label]] += number
    return sums


def _chi_squared(first: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The statistic of each pair of counts, (R,) from (R, L)."""
    columns = first + other
    statistic = np.zeros(len(first))
    for one in (first, other):
        expected = columns * (one.sum(1) / columns.sum(1))[:, None]
        statistic += ((one - expected) ** 2 / np.where(expected > 0, expected, 1)).sum(1)
    return statistic


def _divisions_p(
    rows: Sequence[Sequence[str]], first: int, index: Mapping[str, int], size: int, statistic: float
) -> float:
    """The share of random divisions of the rows that differ at least as much."""
    counts = np.array([_sums(Counter(row), index, size) for row in rows])
    rng, larger = np.random.default_rng(0), 0
    for _ in range(DIVISIONS // DIVISIONS_AT_ONCE):
        order = rng.random((DIVISIONS_AT_ONCE, len(rows))).argsort(axis=1)
        chosen = (order < first).astype(float)
        ours = chosen @ counts
        larger += int((_chi_squared(ours, counts.sum(0) - ours) >= statistic - 1e-9).sum())
    return (1 + larger) / (1 + DIVISIONS)


def _compare_numbers(what: str, reference: np.ndarray, new: np.ndarray, show: Callable[[float], str]) -> DriftFinding:
    from scipy.stats import ks_2samp

    found = ks_2samp(reference, new)
    ours, theirs = (f"median {show(float(np.median(one)))}" for one in (reference, new))
    distance, p = float(found[0]), float(found[1])  # pyright: ignore[reportArgumentType]
    return DriftFinding(what, ours, theirs, distance, "Kolmogorov-Smirnov distance", p, "Kolmogorov-Smirnov")


def _compare_unknown(reference: np.ndarray, new: np.ndarray) -> DriftFinding:
    from scipy.stats import mannwhitneyu

    same = np.ptp([*reference, *new]) == 0
    p = 1.0 if same else float(mannwhitneyu(reference, new, method="asymptotic").pvalue)
    means = float(reference.mean()), float(new.mean())
    ours, theirs = (f"{mean:.1%}" for mean in means)
    return DriftFinding("unknown tokens", ours, theirs, abs(means[1] - means[0]), "difference", p, "Mann-Whitney")
