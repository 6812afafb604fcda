"""Flat weights and their data-weighted mean (Eq. 18, 21, 22), in pure NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


def _no_integers() -> NDArray[np.int64]:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Weights:
    """The state of one part of a model (an encoder or a classifier) as flat vectors.

    Attributes
    ----------
    floats : ndarray, shape (n,), float32
        Trainable parameters first, then floating-point buffers (running means).
    integers : ndarray, shape (m,), int64
        Integer and boolean buffers (batch counters), usually none.
    """

    floats: NDArray[np.float32]
    integers: NDArray[np.int64] = field(default_factory=_no_integers)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.floats.nbytes + self.integers.nbytes

    def same_shape(self, other: Weights) -> bool:
        """Whether `other` belongs to the same architecture."""
        return (
            self.floats.shape == other.floats.shape and self.integers.shape == other.integers.shape
        )


def weighted_mean(members: Sequence[Weights], samples: Sequence[int]) -> Weights:
    """Mean of the members' weights, each counted by its samples (Eq. 18, 22).

    Parameters
    ----------
    members : sequence of Weights
        At least one; the order decides the rounding, so callers sort by client name.
    samples : sequence of int
        Positive sample counts, one a member.

    Returns
    -------
    Weights
        Summed in double precision. Integers are the rounded mean, so a counter stays a counter.

    Raises
    ------
    ValueError
        No member, differing shapes, or a count that is not positive.
    """
    if not members or len(members) != len(samples):
        raise ValueError(f"{len(members)} members with {len(samples)} sample counts")
    if min(samples) <= 0:
        raise ValueError(f"sample counts must be positive, got {min(samples)}")
    if not all(member.same_shape(members[0]) for member in members):
        raise ValueError("members differ in shape")
    total = float(sum(samples))
    floats = np.zeros(members[0].floats.shape, dtype=np.float64)
    integers = np.zeros(members[0].integers.shape, dtype=np.float64)
    for member, count in zip(members, samples, strict=True):
        floats += member.floats.astype(np.float64) * (count / total)
        integers += member.integers.astype(np.float64) * (count / total)
    return Weights(floats.astype(np.float32), np.rint(integers).astype(np.int64))


def mean(members: Sequence[Weights]) -> Weights:
    """Plain mean, each member counted once (S' of a source cluster over its learners)."""
    return weighted_mean(members, [1] * len(members))


def shift(weights: Weights, trained: Weights, start: Weights) -> Weights:
    """Add the update ``trained - start`` to `weights` (Eq. 21).

    Integers (counters) take the value of `trained`: they are states, not directions.
    """
    floats = weights.floats.astype(np.float64) + trained.floats - start.floats
    return Weights(floats.astype(np.float32), trained.integers)
