"""Flat weights and their data-weighted mean (Eq. 18, 21, 22), in pure NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

COLUMNS: Final = 100_000  # coordinates that are joined at a time (memory)


@dataclass(frozen=True, eq=False)
class Weights:
    """The state of one part of a model (an encoder or a classifier) as flat vectors.

    Attributes
    ----------
    floats : ndarray, shape (n,), float32
        Trainable parameters.
    buffers : ndarray, shape (b,), float32
        Floating-point buffers (running means and variances), usually none.
    integers : ndarray, shape (m,), int64
        Integer and boolean buffers (batch counters), usually none.
    """

    floats: NDArray[np.float32]
    buffers: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    integers: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.floats.nbytes + self.buffers.nbytes + self.integers.nbytes

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Lengths of the three vectors: equal for equal architectures."""
        return self.floats.size, self.buffers.size, self.integers.size

    def equals(self, other: Weights) -> bool:
        """Whether all values are the same."""
        return all(
            np.array_equal(getattr(self, kind), getattr(other, kind))
            for kind in ("floats", "buffers", "integers")
        )

    @property
    def is_finite(self) -> bool:
        """Whether no value is NaN or infinite."""
        return bool(np.isfinite(self.floats).all() and np.isfinite(self.buffers).all())


def weighted_mean(members: Sequence[Weights], samples: Sequence[float]) -> Weights:
    """Mean of the members' weights, each counted by its samples (Eq. 18, 22).

    Summed in double precision in the members' order, which decides the rounding: callers sort by
    client name. Integers are the rounded mean, so a counter stays a counter.

    Raises
    ------
    ValueError
        No member, differing shapes, or a count that is not positive.
    """
    if not members or len(members) != len(samples):
        raise ValueError(f"{len(members)} members with {len(samples)} sample counts")
    if min(samples) <= 0:
        raise ValueError(f"sample counts must be positive, got {min(samples)}")
    if not all(member.sizes == members[0].sizes for member in members):
        raise ValueError("members differ in shape")
    shares = np.array(samples, dtype=np.float64) / sum(samples)

    def averaged(vectors: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        total = np.zeros(vectors[0].shape, dtype=np.float64)
        for vector, share in zip(vectors, shares, strict=True):
            total += vector * share
        return total

    return Weights(
        averaged([member.floats for member in members]).astype(np.float32),
        averaged([member.buffers for member in members]).astype(np.float32),
        np.rint(averaged([member.integers for member in members])).astype(np.int64),
    )


def by_coordinate(
    members: Sequence[Weights], middle: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> Weights:
    """Join members' weights number by number, a column (n,) of the members' values each.

    `middle` takes some columns (n, k) at a time and returns k numbers. Integers are rounded.

    Raises
    ------
    ValueError
        No member, or differing shapes.
    """
    if not members:
        raise ValueError("no members")
    if not all(member.sizes == members[0].sizes for member in members):
        raise ValueError("members differ in shape")

    def joined(vectors: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        made = np.empty(vectors[0].size)
        for start in range(0, made.size, COLUMNS):
            some = slice(start, start + COLUMNS)
            made[some] = middle(np.stack([vector[some] for vector in vectors]).astype(np.float64))
        return made

    return Weights(
        joined([member.floats for member in members]).astype(np.float32),
        joined([member.buffers for member in members]).astype(np.float32),
        np.rint(joined([member.integers for member in members])).astype(np.int64),
    )


def mean(members: Sequence[Weights]) -> Weights:
    """Plain mean, each member counted once (S' of a source cluster over its learners)."""
    return weighted_mean(members, [1] * len(members))


def shift(weights: Weights, trained: Weights, start: Weights) -> Weights:
    """Add the update ``trained - start`` to `weights` (Eq. 21).

    Buffers and counters take the value of `trained`: they are states, not directions.
    """
    floats = weights.floats.astype(np.float64) + trained.floats - start.floats
    with np.errstate(over="ignore"):  # callers look at `Weights.is_finite`
        return Weights(floats.astype(np.float32), trained.buffers, trained.integers)


def distance(trained: NDArray[np.float32], start: NDArray[np.float32]) -> float:
    """Euclidean length of the update ``trained - start``.

    Summed by NumPy: the last bits of BLAS depend on the number of threads.
    """
    return float(np.sqrt(np.square(trained.astype(np.float64) - start).sum()))
