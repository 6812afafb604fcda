"""The class-conditional view: whether clients differ in how the classes look that they share.

Clients of one kind are near each other in one class by chance, and that tells nothing of the next
class; members of a group are alike in all. So the kernels of the classes are added up: what agrees
grows, noise does not. Chance is found by giving each client, class by class, what another one of
like size has: all that is left out then is that it was the *same* client in every class.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import linkage
from scipy.linalg import eigh
from scipy.spatial.distance import squareform

from feddag_flwr.similarity.class_kernels import ClassKernel, added, class_kernels
from feddag_flwr.similarity.matrices import FloatArray, IntArray
from feddag_flwr.similarity.permutation import LikeSizes, p_value
from feddag_flwr.similarity.threads import one_thread

SPECTRA: Final = 50  # draws in which the eigenvalues are found that chance has
CERTAIN: Final = 0.95  # share of these that an eigenvalue must exceed


@dataclass(frozen=True, eq=False)
class ClassConditionalView:
    """What n clients' shared classes look like."""

    kernels: list[ClassKernel]
    clients: int

    @classmethod
    def of(cls, angles: npt.NDArray[np.floating], seen: IntArray) -> ClassConditionalView:
        """Look at V' (C, n, n) of Eq. 4 and the samples of each class seen (n, C)."""
        return cls(class_kernels(angles, seen), len(seen))

    @property
    def can_tell(self) -> bool:
        """Whether there are two classes in which clients can be compared."""
        return len(self.kernels) >= 2

    @one_thread
    def test(self, level: float, generator: np.random.Generator) -> float:
        """Find the chance that clients of one kind agree over the classes as much as these.

        The statistic is the sum over pairs of clients, and of classes, of the products of kernels.
        """
        # A permutation moves the squares of one class and keeps their sum.
        squares = sum(
            float(np.square(kernel.values, dtype=np.float64).sum()) for kernel in self.kernels
        )

        def agreement(total: npt.NDArray[np.float32]) -> float:
            return float(np.square(total, dtype=np.float64).sum()) - squares

        def draw() -> float:
            return agreement(self._by_chance(generator))

        return p_value(agreement(added(self.kernels, self.clients)), draw, level)

    @one_thread
    def split(self, generator: np.random.Generator) -> IntArray | None:
        """Part the clients in two (n,); None where only single clients stand apart.

        The dimensions of the added kernels whose eigenvalues exceed those of chance, one at least,
        span the space in which clients are compared, by the cosine: how far a client is from the
        centre says how many samples it has. The last merge of average linkage that joins two groups
        decides; single clients that it joins later go to the nearer group.
        """
        similarity = added(self.kernels, self.clients).astype(np.float64) * self._scale
        dimensions = self._dimensions(similarity, generator)
        first = self.clients - dimensions
        values, vectors = eigh(similarity, subset_by_index=(first, self.clients - 1))
        points = vectors * np.sqrt(np.maximum(values, 0.0))
        points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), np.finfo(float).tiny)
        cosines = np.clip(1.0 - points @ points.T, 0.0, 2.0)
        cosines = (cosines + cosines.T) / 2.0
        np.fill_diagonal(cosines, 0.0)
        sides = last_merge_of_groups(linkage(squareform(cosines, checks=False), "average"))
        if sides is not None and (alone := np.flatnonzero(sides < 0)).size:
            sides[alone] = self._nearer(alone, sides)
        return sides

    def _nearer(self, clients: IntArray, sides: IntArray) -> IntArray:
        """Nearer side of clients that are on none."""
        scores = np.zeros((self.clients, 2))
        for kernel in self.kernels:
            rows = np.flatnonzero(np.isin(kernel.holders, clients))
            scores[kernel.holders[rows]] += kernel.scores(
                kernel.among(rows), kernel.sizes[rows], sides[kernel.holders]
            )
        nearer: IntArray = (scores[clients, 1] > scores[clients, 0]).astype(np.intp)
        return nearer

    def place(
        self,
        angles: npt.NDArray[np.floating],
        seen: IntArray,
        sides: IntArray,
    ) -> IntArray:
        """Nearer of two sides (m,) for others, from V' to the clients (C, m, n), and their counts.

        Who shares no class with both sides goes to the larger one.
        """
        larger = int(np.count_nonzero(sides == 1) > np.count_nonzero(sides == 0))
        scores = np.zeros((len(seen), 2))
        scores[:, larger] = np.finfo(float).tiny
        for kernel in self.kernels:
            having = np.flatnonzero(seen[:, kernel.label])
            if having.size:
                of_class = angles[kernel.label][np.ix_(having, kernel.holders)].astype(np.float64)
                sizes = seen[having, kernel.label].astype(np.float64)
                scores[having] += kernel.scores(
                    kernel.to_others(of_class), sizes, sides[kernel.holders]
                )
        nearer: IntArray = scores.argmax(axis=1).astype(np.intp)
        return nearer

    def _by_chance(self, generator: np.random.Generator) -> npt.NDArray[np.float32]:
        return added(self.kernels, self.clients, self._sizes.shuffled(generator))

    @cached_property
    def _sizes(self) -> LikeSizes:
        return LikeSizes.of([kernel.sizes for kernel in self.kernels])

    @property
    def _scale(self) -> FloatArray:
        """One over the root of the number of classes that two clients share (n, n)."""
        held = np.zeros((self.clients, len(self.kernels)))
        for place, kernel in enumerate(self.kernels):
            held[kernel.holders, place] = 1.0
        scale: FloatArray = 1.0 / np.sqrt(np.maximum(held @ held.T, 1.0))
        return scale

    def _dimensions(self, similarity: FloatArray, generator: np.random.Generator) -> int:
        """Count the leading eigenvalues above those of chance (parallel analysis, Horn 1965)."""
        scale = self._scale
        spectra = [np.linalg.eigvalsh(self._by_chance(generator) * scale) for _ in range(SPECTRA)]
        above = (np.linalg.eigvalsh(similarity) > np.quantile(spectra, CERTAIN, axis=0))[::-1]
        return max(1, len(above) if above.all() else int(above.argmin()))


def last_merge_of_groups(merges: FloatArray) -> IntArray | None:
    """Find the last merge that joins two groups of two or more: 0 and 1 for their members.

    Single clients that come in later have -1. None where there is no such merge.
    """
    clients = len(merges) + 1
    sides = np.full(clients, -1, dtype=np.intp)
    node = 2 * clients - 2
    while node >= clients:
        left, right = (int(child) for child in merges[node - clients, :2])
        if left >= clients and right >= clients:
            sides[_leaves(merges, left)], sides[_leaves(merges, right)] = 0, 1
            return sides
        node = max(left, right)  # the single client has the smaller number
    return None


def _leaves(merges: FloatArray, node: int) -> list[int]:
    """Clients below a node of the dendrogram."""
    clients, below, found = len(merges) + 1, [node], []
    while below:
        one = below.pop()
        if one < clients:
            found.append(one)
        else:
            below += [int(child) for child in merges[one - clients, :2]]
    return found
