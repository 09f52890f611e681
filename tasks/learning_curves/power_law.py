"""A power law of the score in the number of labelled rows: score(n) = limit - amount * n ** -exponent.

Learning curves of most models have this form (Cortes et al. 1993; Viering and Loog 2022,
https://arxiv.org/abs/2103.10948). With few sizes its three parameters are uncertain together, so predictions are made
with samples from their posterior distribution: normal noise of unknown variance, and flat priors on the limit (0 to
1), on the logarithm of the exponent and on the distance from the limit at the smallest size, which may be negative:
curves can fall.

Shapes: N runs, S samples.
"""

from dataclasses import dataclass

import numpy as np

from ..intervals import BOUNDS, Interval

FEWEST_SIZES = 3
EXPONENTS = np.geomspace(0.05, 2, 80)
LIMITS = np.arange(0, 1.0001, 0.005)
SAMPLES = 4000
VARIANCE = 1e-5  # of a run, at least: equal scores of few runs are no proof
STEEPEST = -1.5  # of the variance, as a power of the size


@dataclass(frozen=True, eq=False)
class PowerLaw:
    """A fitted law; its values are medians of the posterior distribution.

    Args:
        samples: of limit, amount and exponent, (S, 3).
    """

    samples: np.ndarray

    def score(self, size: float) -> Interval:
        """The expected score with so many rows, and its 95 % interval."""
        return _interval(self._scores(size))

    def gain(self, size: float, larger: float) -> Interval:
        """By how much the expected score rises between two sizes, and the 95 % interval."""
        return _interval(self._scores(larger) - self._scores(size))

    @property
    def limit(self) -> Interval:
        """The score with endlessly many rows, and its 95 % interval."""
        return _interval(self.samples[:, 0])

    @property
    def exponent(self) -> Interval:
        """How fast the score approaches the limit, and the 95 % interval."""
        return _interval(self.samples[:, 2])

    def _scores(self, size: float) -> np.ndarray:
        limit, amount, exponent = self.samples.T
        return limit - amount * size**-exponent


def fit_power_law(sizes: np.ndarray, scores: np.ndarray) -> PowerLaw | None:
    """Fits the law to runs; None: there are fewer than FEWEST_SIZES sizes, or no more runs than parameters.

    Args:
        sizes: rows of each run, (N,).
        scores: of each run, (N,).
    """
    if len(np.unique(sizes)) < FEWEST_SIZES or len(sizes) <= FEWEST_SIZES:
        return None
    sizes, scores = np.asarray(sizes, dtype=float), np.clip(np.asarray(scores, dtype=float), 0, 1)
    weights = _weights(sizes, scores)
    smallest, freedom = sizes.min(), len(sizes) - 1
    powers = (sizes / smallest) ** -EXPONENTS[:, None]  # (exponents, N)
    xx, xy, x = (powers**2 @ weights)[:, None], (powers @ (weights * scores))[:, None], (powers @ weights)[:, None]
    xr = xy - LIMITS * x  # (exponents, limits): sums of the powers with the scores less the limit
    rr = (scores - LIMITS[:, None]) ** 2 @ weights
    error = rr - xr**2 / xx + VARIANCE * weights.sum()
    distance = -xr / xx  # from the limit, at the smallest size
    possible = (LIMITS - distance >= 0) & (LIMITS - distance <= 1)
    density = np.where(possible, -0.5 * np.log(xx) - freedom / 2 * np.log(error), -np.inf)
    random = np.random.default_rng(0)
    share = np.exp(density - density.max()).ravel()
    chosen = np.unravel_index(random.choice(share.size, SAMPLES, p=share / share.sum()), error.shape)
    spread = np.sqrt(error[chosen] / random.chisquare(freedom, SAMPLES) / xx[chosen[0], 0])
    limits, exponents = LIMITS[chosen[1]], EXPONENTS[chosen[0]]
    distances = np.clip(distance[chosen] + spread * random.standard_normal(SAMPLES), limits - 1, limits)
    return PowerLaw(np.column_stack([limits, distances * smallest**exponents, exponents]))


def _weights(sizes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The inverse variance of runs, as a power of their size, relative to that of the smallest size; (N,)."""
    known, group = np.unique(sizes, return_inverse=True)
    counts = np.bincount(group)
    means = np.bincount(group, scores) / counts
    several = counts > 1
    if several.sum() < FEWEST_SIZES:
        return np.ones(len(sizes))
    variance = np.bincount(group, (scores - means[group]) ** 2)[several] / (counts[several] - 1) + VARIANCE
    power = np.polyfit(np.log(known[several]), np.log(variance), 1, w=np.sqrt(counts[several] - 1))[0]
    return (sizes / sizes.min()) ** -np.clip(power, STEEPEST, 0)


def _interval(samples: np.ndarray) -> Interval:
    low, middle, high = np.quantile(samples, (BOUNDS[0], 0.5, BOUNDS[1])).tolist()
    return Interval(middle, low, high)
