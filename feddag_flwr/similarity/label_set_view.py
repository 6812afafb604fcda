"""The label-set view: whether clients hold the same classes more than chance makes them.

Chance leaves each client as many classes and each class as many clients: small clients hold few
classes, rare classes have few holders, and neither makes a group. Clients that share no class but
those that all hold, not even through others, are parted without a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

from feddag_flwr.similarity.label_set_distance import label_set_distance, label_set_distance_to
from feddag_flwr.similarity.matrices import FloatArray, IntArray
from feddag_flwr.similarity.permutation import BoolArray, p_value, traded_classes

REFERENCES: Final = 20  # tables by chance, against which numbers of groups are compared
MAX_GROUPS: Final = 100  # into which clients are parted at once


@dataclass(frozen=True, eq=False)
class LabelSetView:
    """Which of C classes n clients hold."""

    held: BoolArray  # (n, C)

    @property
    def can_tell(self) -> bool:
        """Whether there are two classes that some clients hold and some do not."""
        return self.are_apart or int(self._varying.shape[1]) >= 2

    @property
    def are_apart(self) -> bool:
        """Whether clients fall into sets, two of them of two or more, that share no class.

        Classes that all hold are none that they share; and who holds any must hold another one.
        """
        if (self.held.any(axis=1) & ~self._varying.any(axis=1)).any():
            return False
        return int(np.count_nonzero(np.bincount(self._connected) >= 2)) >= 2

    @cached_property
    def _connected(self) -> IntArray:
        """Set (n,) of each client: those that share classes, directly or through others."""
        clients, classes = np.nonzero(self._varying)
        number, width = self._varying.shape
        links = (np.ones(len(clients)), (clients, number + classes))
        graph = coo_array(links, shape=(number + width, number + width))
        _, sets = connected_components(graph, directed=False)
        labels: IntArray = np.unique(sets[:number], return_inverse=True)[1].astype(np.intp)
        return labels

    @cached_property
    def _varying(self) -> BoolArray:
        return self.held[:, self.held.any(axis=0) & ~self.held.all(axis=0)]

    def test(self, level: float, generator: np.random.Generator) -> float:
        """Find the chance that sets overlap as unevenly: sum of squared overlaps over the pairs.

        0 where clients are apart.
        """
        if self.are_apart:
            return 0.0
        table = self._varying

        def unevenness(held: BoolArray) -> float:
            rows = held.astype(np.float32)
            overlaps = rows @ rows.T
            np.fill_diagonal(overlaps, 0.0)
            return float(np.square(overlaps, dtype=np.float64).sum())

        shuffled = table

        def draw() -> float:
            nonlocal shuffled
            shuffled = traded_classes(shuffled, generator)
            return unevenness(shuffled)

        for _ in range(REFERENCES):  # until the chain has left what was seen
            draw()
        return p_value(unevenness(table), draw, level)

    def split(self, generator: np.random.Generator) -> IntArray:
        """Part the clients (n,) into the number of groups that chance comes least near to.

        The mean Jaccard distance within the clusters of average linkage is compared with what it is
        for `REFERENCES` tables by chance; the largest gap decides (Tibshirani et al. 2001). Single
        clients go to the nearest group.
        """
        if self.are_apart:
            return self._connected
        within, cuts = _distances_within(self.held)
        references, shuffled = [], self.held
        for _ in range(REFERENCES):
            shuffled = traded_classes(shuffled, generator)
            references.append(_distances_within(shuffled)[0])
        gaps = np.mean(references, axis=0) - within
        return _joined(cuts[:, int(gaps.argmax())].astype(np.intp), self.held)

    def place(self, counts: npt.NDArray[np.integer], groups: IntArray) -> IntArray:
        """Nearest group (m,) of others with samples `counts` (m, C), by mean Jaccard distance."""
        distances = label_set_distance_to(counts, self.held.astype(np.intp))
        members = np.eye(int(groups.max()) + 1)[groups]
        means: FloatArray = distances @ members / members.sum(axis=0)
        nearest: IntArray = means.argmin(axis=1).astype(np.intp)
        return nearest


def _joined(labels: IntArray, held: BoolArray) -> IntArray:
    """Put single clients into the nearest cluster of two or more, by mean Jaccard distance."""
    sizes = np.bincount(labels)
    alone = sizes[labels] < 2
    if not alone.any() or alone.all():
        return np.zeros_like(labels) if alone.all() else labels
    groups: IntArray = np.unique(labels[~alone], return_inverse=True)[1].astype(np.intp)
    joined = np.empty_like(labels)
    joined[~alone] = groups
    joined[alone] = LabelSetView(held[~alone]).place(held[alone].astype(np.intp), groups)
    return joined


def _distances_within(held: BoolArray) -> tuple[FloatArray, IntArray]:
    """Mean distance within 1, 2, .. clusters (k,), and the clusters (n, k)."""
    numbers = np.arange(1, max(2, min(len(held) // 2, MAX_GROUPS)) + 1)
    distances = label_set_distance(held.astype(np.intp))
    cuts = cut_tree(linkage(squareform(distances, checks=False), "average"), numbers)
    within = np.empty(len(numbers))
    for column, number in enumerate(numbers):
        members = np.eye(int(number))[cuts[:, column]]
        sums = np.einsum("nz,nz->z", members, distances @ members)
        within[column] = float((sums / members.sum(axis=0)).sum()) / len(held)
    return within, cuts
