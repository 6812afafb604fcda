"""Agglomerative clustering at every threshold and its loss (Sec. 3.4, Eq. 9, 10, Algorithm 3)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import leaves_list
from scipy.cluster.hierarchy import linkage as scipy_linkage
from scipy.spatial.distance import squareform

from feddag_flwr.similarity.matrices import FloatArray, IntArray, checked_dissimilarity

Linkage = Literal["average", "complete", "single"]  # mean, largest or smallest over their pairs
MANY = 10  # clients, from which on to leave more than half of them alone says nothing


@dataclass(frozen=True, eq=False)
class Candidate:
    """One clustering of the sweep."""

    threshold: float  # alpha
    num_clusters: int  # Z
    loss: float  # L of Eq. 9
    labels: IntArray  # (N,), numbered by first member
    within: float  # L1 of Eq. 10
    size: float  # L2 of Eq. 10

    @property
    def says_nothing(self) -> bool:
        """Whether each client is a cluster of its own; of many clients, more than half of them."""
        clients = self.labels.size
        return self.num_clusters == clients > 1 or (clients >= MANY and 2 * self.loners > clients)

    @property
    def loners(self) -> int:
        """Clusters that hold one client, which add nothing to the loss."""
        return int(np.count_nonzero(np.bincount(self.labels) == 1))


def sweep(
    proximity: npt.ArrayLike,
    linkage: Linkage = "average",
    thresholds: Sequence[float] | None = None,
    gamma: float = 1.0,
    tau: float = 1.0,
    lam: float = 0.01,
) -> list[Candidate]:
    r"""Cluster agglomeratively at every threshold alpha, Algorithm 3 of arXiv 2602.23504.

    At threshold alpha every merge of height at most alpha is made. The losses of all cuts (Eq. 9,
    10) come from one pass over the dendrogram, O(N^2) in all: each pair of clients is added once,
    where its two clusters merge.

    .. math::
        L_1 &= \sum_z \frac{1}{|C_z|^2} \sum_{i,j \in C_z} A_{ij} \\
        L_2 &= \frac{1}{Z} \sum_z \exp(\max(0, \mu - \gamma \sigma - |C_z|) / \tau), \qquad
        L = L_1 + \lambda L_2

    with mean :math:`\mu` and (population) standard deviation :math:`\sigma` of the cluster sizes.

    Parameters
    ----------
    proximity : array_like of shape (N, N)
        Fused dissimilarity A of Eq. 7.
    linkage : {"average", "complete", "single"}
        How far apart two clusters are.
    thresholds : sequence of float, optional
        S_alpha, each at least 0. Left out: 0 and every height at which a merge happens, which
        are all the clusterings there are.
    gamma, tau, lam : float
        Of Eq. 10: standard deviations below the mean at which a cluster is small, how softly the
        penalty grows (in clients), its weight.

    Returns
    -------
    list of Candidate
        By ascending threshold, one each; a given threshold that occurs twice counts once.
    """
    array = checked_dissimilarity(proximity, "proximity")
    merges = _merges(array, linkage)
    if thresholds is None:
        cuts = sorted({0.0, *(merge.height for merge in merges)})
    else:
        cuts = sorted({float(threshold) for threshold in thresholds})
        if not cuts or not 0.0 <= cuts[0] <= cuts[-1] < np.inf:
            raise ValueError(f"thresholds must be finite and at least 0, got {list(thresholds)}")
    state = _Partition(len(array))
    candidates, done = [], 0
    for threshold in cuts:
        while done < len(merges) and merges[done].height <= threshold:
            state.apply(merges[done])
            done += 1
        labels, sizes = state.labels_and_sizes()
        size = _size_penalty(sizes, gamma, tau)
        loss = state.within + lam * size if lam > 0.0 else state.within
        candidates.append(Candidate(threshold, len(sizes), loss, labels, state.within, size))
    return candidates


def threshold_grid(step: float) -> list[float] | None:
    """Candidate thresholds step, 2 step, .. 1 (S_alpha); None, for every merge height, at 0."""
    if step == 0:
        return None
    count = int(1 / step + 1e-9)
    return [round((index + 1) * step, 10) for index in range(count)]


@dataclass(frozen=True, eq=False)
class _Merge:
    """Two clusters become one: their members and the sum of A over the pairs across them."""

    height: float
    left: IntArray
    right: IntArray
    across: float


def _merges(proximity: FloatArray, linkage: Linkage) -> list[_Merge]:
    """List the merges of the dendrogram by ascending height."""
    clients = len(proximity)
    if clients == 1:
        return []
    tree = scipy_linkage(squareform(proximity, checks=False), method=linkage)
    order = leaves_list(tree).astype(np.intp)
    # In leaf order each cluster is a run of rows, so that the pairs across two are a rectangle.
    arranged = proximity[np.ix_(order, order)]
    merges = []
    for (start, middle, stop), height in zip(_runs(tree, clients), tree[:, 2], strict=True):
        across = float(arranged[start:middle, middle:stop].sum())
        merges.append(_Merge(float(height), order[start:middle], order[middle:stop], across))
    return merges


def _runs(tree: FloatArray, clients: int) -> Iterator[tuple[int, int, int]]:
    """First leaf of the left child, of the right child, and the end, for each merge."""
    children = tree[:, :2].astype(np.intp)
    sizes = np.concatenate([np.ones(clients, dtype=np.intp), tree[:, 3].astype(np.intp)])
    starts = np.zeros(len(sizes), dtype=np.intp)
    for node in range(len(sizes) - 1, clients - 1, -1):  # parents before their children
        left, right = children[node - clients]
        starts[left] = starts[node]
        starts[right] = starts[node] + sizes[left]
    for left, right in children:
        yield int(starts[left]), int(starts[right]), int(starts[right] + sizes[right])


class _Partition:
    """The clustering after some merges, each cluster known by its first member."""

    def __init__(self, clients: int) -> None:
        self.within = 0.0
        self._first = np.arange(clients)
        self._sizes = np.ones(clients, dtype=np.intp)
        self._sums = np.zeros(clients)

    def apply(self, merge: _Merge) -> None:
        """Join two clusters; `within` follows Eq. 10 by the change of three means."""
        keep, drop = sorted((int(self._first[merge.left[0]]), int(self._first[merge.right[0]])))
        self._first[merge.left] = keep
        self._first[merge.right] = keep
        self.within -= self._mean(keep) + self._mean(drop)
        self._sums[keep] += self._sums[drop] + 2.0 * merge.across
        self._sizes[keep] += self._sizes[drop]
        self.within = max(0.0, self.within + self._mean(keep))  # rounding may leave -1e-17

    def labels_and_sizes(self) -> tuple[IntArray, IntArray]:
        """Labels numbered by first member, and the size of each cluster."""
        is_first = self._first == np.arange(len(self._first))
        labels = (np.cumsum(is_first) - 1)[self._first]
        return labels.astype(np.intp, copy=False), self._sizes[is_first]

    def _mean(self, cluster: int) -> float:
        return float(self._sums[cluster] / self._sizes[cluster] ** 2)


def _size_penalty(sizes: IntArray, gamma: float, tau: float) -> float:
    """L2 of Eq. 10."""
    shortfall = np.maximum(0.0, sizes.mean() - gamma * sizes.std() - sizes)
    # A tiny tau may take the penalty beyond the largest number: infinitely bad, as meant.
    with np.errstate(over="ignore"):
        return float(np.exp(shortfall / tau).mean())
