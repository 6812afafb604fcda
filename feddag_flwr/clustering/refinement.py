"""What losses on held-back data say of a clustering: who moves, which clusters merge or split.

A gain is how much lower a client's loss is under one model than under another. All that is decided
is decided by tests; the constants are counts. See docs/refinement.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist
from scipy.stats import t

from feddag_flwr.clustering.labels import canonical_labels
from feddag_flwr.similarity.matrices import FloatArray, IntArray

TRIMMED: Final = 10  # of so many clients one at either end has no say in what becomes of a cluster
FEWEST: Final = 4  # clients of whom something can be told: two are left


def level_of_check(rate: float, number: int) -> float:
    """Chance of an error that the check of a number, from 1, may take: rate / (n (n + 1)).

    However many checks there are, their chances add up to `rate` at most.

    Examples
    --------
    >>> level_of_check(0.5, 1), level_of_check(0.6, 2)
    (0.25, 0.09999999999999999)
    """
    return rate / (number * (number + 1))


def chance_of_gain(gain: float, variance: float, freedom: int) -> float:
    """Chance of such a gain of one client where there is none: Student's t, one-sided.

    Parameters
    ----------
    gain, variance : float
        Estimated gain, and the variance of the estimate.
    freedom : int
        Its degrees of freedom; with none, nothing can be told and the chance is 1.
    """
    if freedom < 1 or gain <= 0.0:
        return 1.0
    if variance <= 0.0:
        return 0.0
    return float(t.sf(gain / np.sqrt(variance), freedom))


def trimmed_mean(values: FloatArray) -> float:
    """Mean of what clients say (n,) but for a tenth at either end, one at least.

    So a single client that lies neither makes a gain nor hides it. Minus infinity of too few.

    Examples
    --------
    >>> trimmed_mean(np.array([1e6, 1.0, 2.0, -1e6, 3.0]))
    2.0
    """
    trimmed = _trimmed(len(values))
    kept = np.sort(values)[trimmed : len(values) - trimmed]
    return float(kept.mean()) if len(kept) else -np.inf


def chance_of_common_gain(gains: FloatArray) -> float:
    """Chance of such gains (n,) among clients that gain nothing on the mean.

    Yuen's t-test of a trimmed mean (1974), one sample, one-sided; 1 of fewer than `FEWEST`.
    """
    number, mean = len(gains), trimmed_mean(gains)
    if number < FEWEST or mean <= 0.0:
        return 1.0
    trimmed = _trimmed(number)
    least, most = np.sort(gains)[[trimmed, number - 1 - trimmed]]
    spread = float(np.clip(gains, least, most).var(ddof=1))
    left = number - 2 * trimmed
    if spread <= 0.0:
        return 0.0
    error = np.sqrt(spread * (number - 1) / (left * (left - 1)))
    return float(t.sf(mean / error, left - 1))


def _trimmed(number: int) -> int:
    return max(1, number // TRIMMED)


def sufficient_parts(losses: Mapping[int, FloatArray], rate: float) -> int:
    """Choose among numbers of parts by what clients lose under each (n,).

    It is the smallest than which no larger one is better for certain: more parts have less data
    each, and those that are still missing are found in the next check.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> two = rng.random(20)
    >>> sufficient_parts({2: two, 3: two - 0.5 - rng.random(20), 4: two - 1 + rng.random(20)}, 0.01)
    3
    """
    for number in sorted(losses):
        gains = (losses[number] - losses[larger] for larger in losses if larger > number)
        if all(chance_of_common_gain(each) > rate for each in gains):
            return number
    raise ValueError("no number of parts")


def proposed_parts(
    updates: npt.NDArray[np.floating], numbers: Sequence[int]
) -> dict[int, IntArray]:
    """Part clients by where training takes them from their common model.

    Parameters
    ----------
    updates : ndarray, shape (n, d)
        What training changed, a client a row.
    numbers : sequence of int
        Of parts.

    Returns
    -------
    dict of int to ndarray
        For each number of parts, the part of each client (n,). Directions away from
        the mean update, by Ward's criterion: parts of like size, not single clients first.
    """
    away = updates - updates.mean(axis=0, dtype=np.float64)
    lengths = np.linalg.norm(away, axis=1, keepdims=True)
    directions = np.divide(away, lengths, out=np.zeros_like(away), where=lengths > 0.0)
    tree = linkage(pdist(directions), "ward")
    # By rank of merge, not by height: ties must not make fewer parts.
    tree[:, 2] = np.arange(len(tree))
    return {
        parts: canonical_labels(fcluster(tree, len(tree) - parts + 0.5, criterion="distance"))
        for parts in numbers
    }


def nested_groups(models: npt.NDArray[np.floating]) -> list[tuple[int, ...]]:
    """Find the groups of models (K, d) that average linkage joins, the largest first."""
    if len(models) < 2:
        return []
    groups: list[tuple[int, ...]] = [(number,) for number in range(len(models))]
    for left, right, *_ in linkage(pdist(models), "average"):
        groups.append(tuple(sorted(groups[int(left)] + groups[int(right)])))
    return groups[: len(models) - 1 : -1]


def outermost(groups: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Keep the groups that lie in no other, of groups of which any two are nested or apart."""
    return [group for group in groups if not any(set(group) < set(other) for other in groups)]
