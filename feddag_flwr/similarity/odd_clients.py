"""Single clients that are unlike all others of their group, and what is odd about them.

One client alone makes no group (`group_tree` parts two and two at least), but it can be told: it is
far from the others in all classes, or its classes look exchanged, as where a site codes its labels
another way. All are tests, and the chance of any false alarm in a run is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from feddag_flwr.similarity.class_kernels import class_kernels
from feddag_flwr.similarity.class_subspaces import ClassSubspaces
from feddag_flwr.similarity.exchanged_classes import Exchanged, exchanged_classes
from feddag_flwr.similarity.far_clients import far_clients, of_distances, of_offsets
from feddag_flwr.similarity.group_tree import TESTED
from feddag_flwr.similarity.matrices import IntArray
from feddag_flwr.similarity.whitened_looks import WhitenedLooks

FEWEST: Final = 8  # clients, among whom one can be told to be unlike the others
VECTORS: Final = 2000  # classes times clients at most that are compared with each other (cost)
TESTS: Final = 3  # among which the rate of false alarms is shared out
SEED: Final = 0  # the same clients give the same answer in every run


@dataclass(frozen=True)
class OddClient:
    """One client that is unlike the others of its group.

    Attributes
    ----------
    row : int
        Its row.
    chance : float
        Chance of one at least as odd among so many clients, at most.
    exchanged : tuple of pairs of int
        Classes that look exchanged; empty where all classes look unlike the others'.
    """

    row: int
    chance: float
    exchanged: tuple[tuple[int, int], ...]


def odd_clients(data: ClassSubspaces, groups: IntArray, rate: float) -> list[OddClient]:
    """Find the odd ones among N clients in groups (N,), at a chance `rate` of any false alarm.

    A third of the rate is for each of the tests, shared out among the groups by their sizes. Large
    groups are dealt into parts at random, in which clients are compared with each other.
    """
    generator, found = np.random.default_rng(SEED), []
    together = max(FEWEST, min(TESTED, VECTORS // data.counts.shape[1]))
    for group in range(int(groups.max()) + 1):
        members = np.flatnonzero(groups == group)
        parts = max(1, -(-len(members) // together))
        for some in np.array_split(generator.permutation(members), parts):
            if len(some) >= FEWEST:
                level = rate * len(some) / len(groups) / TESTS
                found += _odd_among(data, np.sort(some).astype(np.intp), level, generator)
    return sorted(found, key=lambda one: one.row)


def _odd_among(
    data: ClassSubspaces, clients: IntArray, level: float, generator: np.random.Generator
) -> list[OddClient]:
    number, classes = len(clients), data.counts.shape[1]
    exchanged: dict[int, Exchanged] = {}
    kernels = class_kernels(data.angles(clients), data.seen[clients])
    deviations = [list(of_offsets(kernels))]
    looks = None
    if classes * number <= VECTORS:
        looks = WhitenedLooks.of(data.bases[clients], data.seen[clients])
    if looks is not None:
        exchanged = exchanged_classes(looks, FEWEST, level, generator)
        deviations.append(list(of_distances(looks)))
    chances = {row: one.chance for row, one in exchanged.items()}
    for of_classes in deviations:
        for row, chance in far_clients(of_classes, number, FEWEST, level, generator).items():
            chances[row] = min(chance, chances.get(row, 1.0))
    nothing = Exchanged(1.0, ())
    return [
        OddClient(int(clients[row]), chances[row], exchanged.get(row, nothing).pairs)
        for row in sorted(chances)
    ]
