"""Tests of whether two models differ on the same examples, and Holm's correction for several tests.

McNemar's exact test for a metric that is a mean of right and wrong (McNemar 1947; exact: a binomial test of the
examples that one model alone gets right). For every other metric a permutation test: if the models do not differ,
the predictions of any example could as well be exchanged (Noreen 1989; Yeh 2000,
https://aclanthology.org/C00-2137). Metrics are functions of sums (tallies.py), so an exchange moves counts from one
sum to the other.

E examples, G groups, K columns of counts, R random exchanges.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..tallies import Tally, measured

PERMUTATIONS = 2000
CHUNK = 2**23  # random bits that exist at a time
MCNEMAR, PERMUTATION = "McNemar", "permutation"


@dataclass(frozen=True)
class PairedTest:
    """The two-sided probability of a difference at least this large if the models do not differ."""

    p: float
    name: str  # MCNEMAR or PERMUTATION


def paired_tests(first: Tally, other: Tally, groups: np.ndarray | None = None) -> dict[str, PairedTest]:
    """A test for each metric that both tallies have.

    Args:
        first: of the predictions of a model.
        other: of those of another model for the same examples, with the same columns.
        groups: the group of each example, (E,), whose predictions are exchanged together; None: each is a group.
    """
    found = {name: PairedTest(p, PERMUTATION) for name, p in permutation_p(first, other, groups).items()}
    if groups is None:
        for name in first.proportions & other.proportions & found.keys():
            right, others = (row_values(one, name) == 1 for one in (first, other))
            found[name] = PairedTest(mcnemar_p(int((right & ~others).sum()), int((others & ~right).sum())), MCNEMAR)
    return found


def row_values(tally: Tally, name: str) -> np.ndarray:
    """A metric of each example alone, (E,); NaN where it is not defined."""
    return tally.formulas(tally.counts.toarray())[name]


def mcnemar_p(first_only: int, other_only: int) -> float:
    """The two-sided p of McNemar's exact test.

    Args:
        first_only: examples that the first model alone gets right.
        other_only: examples that the other model alone gets right.
    """
    from scipy.special import bdtr  # the binomial distribution; importing scipy.stats takes seconds

    total = first_only + other_only
    return min(1.0, 2 * float(bdtr(min(first_only, other_only), total, 0.5))) if total else 1.0


def permutation_p(
    first: Tally, other: Tally, groups: np.ndarray | None = None, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> dict[str, float]:
    """The two-sided p of each metric by random exchanges of the predictions of groups.

    Args:
        first: as in `paired_tests`.
        other: as in `paired_tests`.
        groups: as in `paired_tests`.
        permutations: R.
        seed: of the exchanges.
    """
    counts = [_by_group(one.counts, groups) for one in (first, other)]
    moved = counts[1] - counts[0]  # (G, K): what an exchange adds to the sums of the first model
    sums = [np.asarray(one.sum(0), dtype=float) for one in counts]
    change, rng = np.zeros((permutations, sums[0].shape[-1])), np.random.default_rng(seed)
    at_once = max(1, CHUNK // permutations)
    for start in range(0, moved.shape[0], at_once):
        part = moved[start : start + at_once]
        exchanged = rng.integers(0, 2, (part.shape[0], permutations), dtype=np.uint8)
        change += (part.T @ exchanged.astype(float)).T
    values, found = measured(first.formulas(sums[0][None])), measured(other.formulas(sums[1][None]))
    samples, others = first.formulas(sums[0] + change), other.formulas(sums[1] - change)
    result = {}
    for name in (one for one in values if one in found):
        observed = abs(values[name] - found[name])
        with np.errstate(invalid="ignore"):
            differences = np.abs(samples[name] - others[name])
        larger = int((differences[~np.isnan(differences)] >= observed - 1e-12).sum())
        result[name] = (1 + larger) / (1 + permutations) if np.isfinite(observed) else 1.0
    return result


def _by_group(counts: Any, groups: np.ndarray | None) -> Any:
    """The sums of the counts of each group, (G, K)."""
    from scipy.sparse import csr_array

    if groups is None:
        return csr_array(counts)
    _, numbers = np.unique(groups, return_inverse=True)
    members = csr_array((np.ones(len(numbers)), (numbers, np.arange(len(numbers)))))
    return csr_array(members @ counts)


def holm(probabilities: Sequence[float | None]) -> list[float | None]:
    """The p of several tests, corrected so that the chance of any false finding keeps the level; None: no test.

    Holm 1979, https://www.jstor.org/stable/4615733.
    """
    tested = sorted((p, i) for i, p in enumerate(probabilities) if p is not None)
    largest = 0.0
    corrected: list[float | None] = [None] * len(probabilities)
    for rank, (p, i) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - rank)))
        corrected[i] = largest
    return corrected
