"""Clients that are far from the others in all classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from feddag_flwr.similarity.class_kernels import HOLDERS, ClassKernel
from feddag_flwr.similarity.matrices import FloatArray, IntArray
from feddag_flwr.similarity.permutation import LikeSizes, p_value
from feddag_flwr.similarity.threads import one_thread
from feddag_flwr.similarity.whitened_looks import WhitenedLooks

ROBUST: Final = 1.4826  # standard deviations of a normal distribution a median absolute deviation
MOST: Final = 6.0  # deviations that one class counts at most


@dataclass(frozen=True, eq=False)
class Deviations:
    """How much farther than their sizes explain the h holders of a class are from its centre."""

    holders: IntArray  # (h,), rows of the clients
    sizes: FloatArray  # (h,), samples
    values: FloatArray  # (h,), in robust standard deviations

    @classmethod
    def of(cls, holders: IntArray, sizes: FloatArray, far: FloatArray) -> Deviations:
        """Take how far (h,) holders are, above 0: a power of the size is taken out."""
        logarithms, of_sizes = np.log(far), np.log(sizes)
        features = np.stack([np.ones_like(of_sizes), of_sizes], axis=1)
        if np.ptp(of_sizes) == 0.0:
            features = features[:, :1]
        kept = np.ones(len(far), dtype=np.bool_)
        for _ in range(3):  # without those that are far, which would explain themselves
            line = np.linalg.lstsq(features[kept], logarithms[kept], rcond=None)[0]
            rest = logarithms - features @ line
            spread = ROBUST * float(np.median(np.abs(rest - np.median(rest))))
            kept = np.abs(rest) <= 3.0 * spread
        values = np.clip(rest / spread, -MOST, MOST) if spread > 0.0 else np.zeros_like(rest)
        return cls(holders, sizes, values)


def of_offsets(kernels: list[ClassKernel]) -> Iterator[Deviations]:
    """Deviations of offsets, how far a client's angles are from everybody's (`class_kernels`)."""
    for kernel in kernels:
        far = np.maximum(kernel.offsets, np.finfo(np.float32).eps * kernel.spread)
        yield Deviations.of(kernel.holders, kernel.sizes, far)


def of_distances(looks: WhitenedLooks) -> Iterator[Deviations]:
    """Deviations of distances that count most where clients vary least, as noise does not."""
    for sizes, distances in zip(looks.weights, looks.distances(), strict=True):
        holders = np.flatnonzero(distances > 0.0)
        if len(holders) >= HOLDERS:
            yield Deviations.of(holders, sizes[holders], distances[holders])


@one_thread
def far_clients(
    deviations: list[Deviations], clients: int, fewest: int, level: float, rng: np.random.Generator
) -> dict[int, float]:
    """Find clients that are far from the others in all classes, with the chance of one as far.

    Deviations of all classes are added up, and the largest sum is held against the largest after
    shuffling, class by class, among clients of like size. Who is found is left out, and the others
    are looked at again, down to the `fewest` that are looked at.
    """
    found: dict[int, float] = {}
    sizes = LikeSizes.of([of_class.sizes for of_class in deviations])

    def farthest_by_chance() -> float:
        dealt = [
            replace(of_class, values=of_class.values[permutation[: len(of_class.values)]])
            for of_class, permutation in zip(deviations, sizes.shuffled(rng), strict=True)
        ]
        return float(_sums(dealt, clients).max())

    while deviations and clients - len(found) >= fewest:
        sums = _sums(deviations, clients)
        sums[list(found)] = -np.inf
        farthest = int(sums.argmax())
        chance = p_value(float(sums[farthest]), farthest_by_chance, level)
        if chance > level:
            return found
        found[farthest] = chance
        deviations = [
            replace(of_class, values=np.where(of_class.holders == farthest, 0.0, of_class.values))
            for of_class in deviations
        ]
    return found


def _sums(deviations: list[Deviations], clients: int) -> FloatArray:
    """Add up the deviations over a client's classes, over the root of their number (n,)."""
    sums, classes = np.zeros(clients), np.zeros(clients)
    for of_class in deviations:
        sums[of_class.holders] += of_class.values
        classes[of_class.holders] += 1.0
    sums /= np.sqrt(np.maximum(classes, 1.0))
    return sums
