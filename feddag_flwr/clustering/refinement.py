"""What losses on held-back data say of a clustering: who moves, which clusters merge or split.

A gain is how much lower a client's loss is under one model than under another. All that is decided
is decided by tests; the constants are counts. See docs/refinement.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform
from scipy.stats import t

from feddag_flwr.clustering.labels import canonical_labels
from feddag_flwr.similarity.matrices import FloatArray, IntArray

TRIMMED: Final = 10  # of so many clients one at either end has no say in what becomes of a cluster
FEWEST: Final = 4  # clients of whom something can be told: two are left
ROUNDING: Final = 1e-6  # of the longest update: what is no longer points nowhere
LIKELY: Final = 0.05  # chance of a gain up to which it is likely, where it need not be certain


@dataclass(frozen=True, eq=False)
class Gains:
    """How much less n clients lose under one model each than under another.

    Attributes
    ----------
    values : ndarray, shape (n,)
        Estimated from what each holds back.
    variances : ndarray, shape (n,)
        Of these estimates, over what a client might have held back.
    freedoms : ndarray, shape (n,)
        Degrees of freedom of the variances.
    """

    values: FloatArray
    variances: FloatArray
    freedoms: FloatArray

    def __len__(self) -> int:
        return len(self.values)


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

    Yuen's t-test of a trimmed mean (1974), one sample, one-sided; 1 of fewer than `FEWEST`. Clients
    are what is drawn: it speaks of such clients, also of those that are not asked.
    """
    number, mean = len(gains), trimmed_mean(gains)
    if number < FEWEST or mean <= 0.0:
        return 1.0
    spread = float(_winsorised(gains).var(ddof=1))
    left = number - 2 * _trimmed(number)
    if spread <= 0.0:
        return 0.0
    error = np.sqrt(spread * (number - 1) / (left * (left - 1)))
    return float(t.sf(mean / error, left - 1))


def chance_of_mean_gain(gains: Gains) -> float:
    """Chance of such gains if these clients gain nothing on the mean under these very models.

    What they hold back is what is drawn: clients may gain differently much, and this does not count
    against a gain. With m clients left of n, their trimmed mean g and their variances v_i,

        t = g m / sqrt(sum v_i),    degrees of freedom (sum v_i)^2 / sum (v_i^2 / f_i).

    No trimmed mean of normal estimates varies more (Poincare's inequality: it moves by 1 / m with
    each that is left, and not with the others). Variances and degrees of freedom are winsorised: a
    liar can say neither that all is known nor that nothing is. Who has no degree of freedom is left
    out.

    Returns
    -------
    float
        One-sided; 1 of fewer than `FEWEST`.
    """
    known = gains.freedoms >= 1
    values, number = gains.values[known], int(known.sum())
    if number < FEWEST or trimmed_mean(values) <= 0.0:
        return 1.0
    trimmed = _trimmed(number)
    left = np.argsort(values, kind="stable")[trimmed : number - trimmed]
    variances = _winsorised(gains.variances[known])[left]
    freedoms = _winsorised(gains.freedoms[known])[left]
    total = float(variances.sum())
    if total <= 0.0:
        return 0.0
    freedom = total**2 / float((variances**2 / freedoms).sum())
    return float(t.sf(float(values[left].sum()) / np.sqrt(total), freedom))


def is_likely(gains: Gains) -> bool:
    """Tell whether such clients likely gain, not only those who have been asked."""
    return chance_of_common_gain(gains.values) <= LIKELY


def is_certain(gains: Gains, level: float) -> bool:
    """Tell whether clients gain for certain, and such clients likely do.

    The level holds by `chance_of_mean_gain`. That the gain is likely among such clients too asks
    for more: what is certain of a few with much data would otherwise do for all.
    """
    return is_likely(gains) and chance_of_mean_gain(gains) <= level


def _winsorised(values: FloatArray) -> FloatArray:
    """Let those at either end, as many as are trimmed, be as the next one."""
    number, trimmed = len(values), _trimmed(len(values))
    least, most = np.sort(values)[[trimmed, number - 1 - trimmed]]
    return np.clip(values, least, most)


def _trimmed(number: int) -> int:
    return max(1, number // TRIMMED)


def direction_distances(products: FloatArray) -> FloatArray:
    """Squared distances between the directions in which updates point, away from their mean.

    Parameters
    ----------
    products : ndarray, shape (n, n)
        Inner products of the updates u_i, or of u_i - c with the same c.

    Returns
    -------
    ndarray, shape (n, n)
        || d_i - d_j ||^2 of d_i = (u_i - m) / || u_i - m || with their mean m; zero where u_i = m.

    Examples
    --------
    >>> updates = np.array([[0.0, 0.0], [0.0, 2.0], [3.0, 1.0], [1.0, 1.0]])
    >>> direction_distances(updates @ updates.T).round(3)[2]
    array([3.414, 3.414, 0.   , 1.   ])
    """
    rows = products.mean(axis=1)
    away = products - rows[:, None] - rows + products.mean()
    lengths = np.sqrt(np.diag(away).clip(min=0.0))
    known = (lengths > ROUNDING * max(1.0, float(lengths.max()))).astype(np.float64)
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=known > 0.0)
    squared = known[:, None] + known - 2.0 * away * np.outer(scale, scale)
    np.fill_diagonal(squared, 0.0)
    distances: FloatArray = squared.clip(min=0.0)
    return distances


def proposed_parts(distances: FloatArray, numbers: Sequence[int]) -> dict[int, IntArray]:
    """Part clients by squared distances (n, n) between where training takes them.

    Returns
    -------
    dict of int to ndarray
        For each number of parts, below n, the part of each client (n,). By Ward's criterion: parts
        of like size, not single clients first. The clearest number is first: that of the largest
        step from the height at which parts were last joined to that at which they would be next.
    """
    tree = linkage(squareform(np.sqrt(distances), checks=False), "ward")
    steps = np.diff(tree[:, 2])
    # By rank of merge, not by height: ties must not make fewer parts.
    tree[:, 2] = np.arange(len(tree))
    return {
        parts: canonical_labels(fcluster(tree, len(tree) - parts + 0.5, criterion="distance"))
        for parts in sorted(numbers, key=lambda parts: (-steps[len(tree) - parts], parts))
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
