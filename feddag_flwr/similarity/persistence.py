"""Evidence of groups in a matrix of dissimilarities: persistence, as far as chance gives less.

Groups merge within themselves early and with each other late, and nothing happens between; chance
mostly merges steadily. But where few clients lack a class, a heap of equal ones stands apart from a
handful, and among few clients anything may happen. So what is found is held against the same after
shuffling, which leaves no groups but all else (a permutation test).
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from feddag_flwr.similarity.matrices import FloatArray, IntArray, checked_dissimilarity

SHUFFLES: Final = 99  # at most; fewer may refuse groups that chance gives once in a hundred
REACHED: Final = 5  # with as much make it chance: without groups less is found once in 20 times
MAX_SHUFFLED: Final = 500  # clients: it bounds the cost
SEED: Final = 0  # the same clients give the same evidence in every run
ROUNDING: Final = 1e-9  # persistences that differ by no more are equal

Shuffle = Callable[[IntArray, np.random.Generator], FloatArray]
"""From some clients' numbers to dissimilarities (n, n) that these have by chance."""


def persistence(matrix: FloatArray) -> float:
    """Longest stretch of a dendrogram (average linkage) without a merge, as a part of its height.

    Two cuts say nothing of groups and are left out: those with fewer than two clients a cluster on
    average, and those in which no two clusters have two clients, a heap and some that are alone.
    The result is in [0, 1]; 0 for fewer than four clients, or where all are equal.

    Examples
    --------
    >>> far, near = 8.0, 2.0
    >>> persistence(np.array([[0, near, far, far], [near, 0, far, far],
    ...                       [far, far, 0, near], [far, far, near, 0]]))
    0.75
    """
    tree = average_linkage(checked_dissimilarity(matrix, "matrix"))
    clients, heights = len(matrix), tree[:, 2]
    if clients < 4 or heights[-1] <= 0.0:
        return 0.0
    # A merge of two clients makes a group, one of two groups costs one; the others keep the number.
    groups = np.cumsum(1 - (tree[:, :2] >= clients).sum(axis=1))[:-1]
    clusters = np.arange(clients - 1, 1, -1)
    counted = (2 * clusters <= clients) & (groups >= 2)
    return float(np.where(counted, np.diff(heights), 0.0).max() / heights[-1])


def persistence_beyond_chance(matrix: FloatArray, shuffle: Shuffle, lowest: float) -> float:
    """Measure persistence; 0 where what `shuffle` makes of some of the clients has as much.

    Persistence up to `lowest` makes no difference, and is not held against anything.
    """
    whole = persistence(matrix)
    if whole <= lowest:
        return whole
    clients = _spread(matrix)
    generator = np.random.default_rng(SEED)
    here = whole if len(clients) == len(matrix) else persistence(matrix[np.ix_(clients, clients)])
    reached = 0
    for _ in range(SHUFFLES):
        reached += persistence(shuffle(clients, generator)) >= here - ROUNDING
        if reached == REACHED:
            return 0.0
    return whole


def shuffled_pairs(matrix: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Deal the dissimilarities of all pairs of clients anew."""
    dealt = generator.permutation(squareform(matrix, checks=False))
    return squareform(dealt)


def average_linkage(matrix: FloatArray) -> npt.NDArray[np.float64]:
    """List the merges by ascending height, as `scipy.cluster.hierarchy.linkage` does."""
    if len(matrix) < 2:
        return np.zeros((0, 4))
    return linkage(squareform(matrix, checks=False), method="average")


def _spread(matrix: FloatArray) -> IntArray:
    """Choose `MAX_SHUFFLED` clients evenly among the leaves of the dendrogram, at most all.

    Each group keeps its share so; by names, every third client could be of one kind.
    """
    if len(matrix) <= MAX_SHUFFLED:
        return np.arange(len(matrix))
    leaves = leaves_list(average_linkage(matrix))
    return np.sort(leaves[np.arange(MAX_SHUFFLED) * len(matrix) // MAX_SHUFFLED]).astype(np.intp)
