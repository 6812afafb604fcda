"""Means and intervals over seeds and clients, as pure NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 10_000

# Most drawn values in memory at once, 8 bytes each and as many again for their indices.
BLOCK_VALUES = 4_000_000


class Interval(NamedTuple):
    """A confidence interval: its ends, in the unit of what it is about."""

    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 when all of it lies above 0, -1 when all of it lies below, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1); None in place of the latter for one value.

    Raises
    ------
    ValueError
        There are no values.
    """
    if not values:
        raise ValueError("no values to take the mean of")
    mean = float(np.mean(values))
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else None


def mean_of_means(differences: Sequence[NDArray[np.float64]]) -> float:
    """Mean over seeds of the mean over clients: each seed counts once, whatever its clients."""
    return float(np.mean([np.mean(values) for values in differences]))


def two_level_bootstrap(
    differences: Sequence[NDArray[np.float64]],
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> NDArray[np.float64]:
    """Bootstrap the mean of means by drawing seeds, then clients within each drawn seed.

    Both draws are with replacement and as large as what they draw from; a seed that is drawn
    twice gets two draws of clients (Davison and Hinkley 1997, Sec. 3.8). Given the data, the
    variance of a replicate is exactly

        (1 / S) (var_s(mean_s) + mean_s(var_s / n_s))

    with S seeds, n_s clients in seed s, and variances with divisor S and n_s. So the part between
    seeds is too small by (S - 1) / S on average, nothing at all with one seed, and the part
    within seeds, which the seed means hold already, is counted up to twice with many.

    Parameters
    ----------
    differences : sequence of ndarray, each of shape (n_s,)
        One array a seed, one value a client.
    rng : numpy.random.Generator
        Source of all draws.
    resamples : int, optional
        Number of replicates.

    Returns
    -------
    ndarray, shape (resamples,)
        The mean of means in each replicate.

    Raises
    ------
    ValueError
        There is no seed, or a seed without clients.
    """
    if not differences or any(not len(values) for values in differences):
        raise ValueError("a bootstrap needs at least one seed, and clients in each")
    seeds = len(differences)
    drawn = rng.integers(seeds, size=resamples * seeds)
    means = np.empty(resamples * seeds)
    for seed, values in enumerate(differences):
        slots = np.flatnonzero(drawn == seed)
        blocks = math.ceil(len(slots) * len(values) / BLOCK_VALUES)
        for part in np.array_split(slots, max(1, blocks)):
            picks = rng.integers(len(values), size=(len(part), len(values)))
            means[part] = values[picks].mean(axis=1)
    replicates: NDArray[np.float64] = means.reshape(resamples, seeds).mean(axis=1)
    return replicates


def bootstrap_interval(
    differences: Sequence[NDArray[np.float64]],
    rng: np.random.Generator,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Interval | None:
    """Percentile interval of `two_level_bootstrap`; None for a single value, which says nothing."""
    if sum(len(values) for values in differences) < 2:
        return None
    replicates = two_level_bootstrap(differences, rng, resamples)
    tail = (1 - confidence) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return Interval(float(low), float(high))


def t_interval(seed_means: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval | None:
    """Student's interval over the seeds' means, which are independent; None for fewer than two."""
    count = len(seed_means)
    if count < 2:
        return None
    mean, deviation = mean_and_deviation(seed_means)
    assert deviation is not None
    half = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * deviation / math.sqrt(count)
    return Interval(mean - half, mean + half)
