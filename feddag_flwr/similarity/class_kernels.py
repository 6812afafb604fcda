r"""How alike clients are in how each class looks, less all that sampling alone makes unlike.

The squared angle between two clients' subspaces of a class (Eq. 4) grows with the noise of both:
:math:`\theta_{ij}^2 \approx a_i + a_j - 2 K_{ij}`, where :math:`a` says how far a client is from
everybody, mostly for want of samples, and :math:`K` in which direction. Taking out :math:`a` by
weighted least squares leaves the kernel :math:`K`, the inner product of what is particular to two
clients (classical scaling does the same with equal weights). Noise has a spread of
:math:`1/\sqrt{n_i n_j}` in it, so that :math:`\sqrt{n_i n_j} K_{ij}` is equally noisy for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from feddag_flwr.similarity.matrices import FloatArray, IntArray
from feddag_flwr.similarity.normalisation import ROUNDING
from feddag_flwr.similarity.threads import one_thread

HOLDERS: Final = 4  # clients of a class that it takes to compare them
# What is left of squared angles may be no more than their rounding, single precision.
ROUNDED: Final = 16.0 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True, eq=False)
class ClassKernel:
    """The kernel of one class, of the h clients that hold it."""

    label: int
    holders: IntArray  # (h,), rows of the clients
    sizes: FloatArray  # (h,), samples
    offsets: FloatArray  # (h,), a, square degrees
    spread: float  # of sqrt(n_i n_j) K_ij over the pairs, square degrees
    values: npt.NDArray[np.float32]  # (h, h), sqrt(n_i n_j) K_ij / spread; 0 on the diagonal

    @classmethod
    def of(cls, label: int, angles: FloatArray, holders: IntArray, sizes: IntArray) -> ClassKernel:
        """Make the kernel from the angles (h, h) of the holders; `spread` is 0 without any."""
        weights, squares = sizes.astype(np.float64), np.square(angles)
        np.fill_diagonal(squares, 0.0)
        offsets = _offsets(squares, weights)
        values = offsets[:, None] + offsets - squares
        np.fill_diagonal(values, 0.0)
        beyond_rounding = np.abs(values).max() > ROUNDED * squares.max()
        values *= np.sqrt(np.outer(weights, weights)) / 2.0
        pairs = len(holders) * (len(holders) - 1)
        differ = beyond_rounding and len(holders) >= HOLDERS and squares.max() > ROUNDING**2
        spread = float(np.sqrt(np.square(values).sum() / pairs)) if differ else 0.0
        if spread > 0.0:
            values /= spread
        return cls(label, holders, weights, offsets, spread, values.astype(np.float32))

    def permuted(self, permutation: IntArray) -> npt.NDArray[np.float32]:
        """Return `values` where each holder has what another one has."""
        # Twice whole rows, which is faster than columns: values are symmetric.
        rows = self.values.take(permutation, axis=0)
        return rows.T.copy().take(permutation, axis=0)

    def to_others(self, angles: FloatArray) -> FloatArray:
        """Kernel between others and the holders (m, h), in units of `spread`, from angles (m, h).

        Others' offsets are fitted to the angles, while the holders' stay.
        """
        squares = np.square(angles)
        own = (squares - self.offsets) @ self.sizes / self.sizes.sum()
        kernel: FloatArray = (own[:, None] + self.offsets - squares) / (2.0 * self.spread)
        return kernel

    def among(self, rows: IntArray) -> FloatArray:
        """Kernel between some holders and all (m, h), in units of `spread`; 0 to themselves."""
        roots = np.sqrt(self.sizes)
        kernel: FloatArray = self.values[rows] / np.outer(roots[rows], roots)
        return kernel

    def scores(self, kernel: FloatArray, sizes: FloatArray, sides: IntArray) -> FloatArray:
        """Compare clients of `sizes` (m,) with the holders on two sides, by a kernel (m, h).

        `sides` (h,) is 0, 1, or -1 for neither. A score (m, 2) is a log density, but for what both
        sides have in common, where the client has the side's mean: n (K_mz - K_zz / 2). 0 where a
        side has fewer than two holders.
        """
        scores, values = np.zeros((len(kernel), 2)), self.values.astype(np.float64)
        if any(np.count_nonzero(sides == side) < 2 for side in (0, 1)):
            return scores
        for side in (0, 1):
            weights = np.where(sides == side, self.sizes, 0.0)
            roots, whole = np.sqrt(weights), weights.sum()
            within = roots @ values @ roots / (whole**2 - np.square(weights).sum())
            scores[:, side] = sizes * (kernel @ weights / whole - within / 2.0)
        return scores


@one_thread
def class_kernels(angles: npt.NDArray[np.floating], seen: IntArray) -> list[ClassKernel]:
    """Make the kernels of all classes that can be compared, from V' (C, n, n) and counts (n, C).

    Counts are 0 also where classes are not seen, see `subspace.seen_counts`.
    """
    kernels = []
    for label, held in enumerate(seen.T):
        holders = np.flatnonzero(held)
        if len(holders) >= HOLDERS:
            of_holders = angles[label][np.ix_(holders, holders)].astype(np.float64)
            kernel = ClassKernel.of(label, of_holders, holders, held[holders])
            if kernel.spread > 0.0:
                kernels.append(kernel)
    return kernels


def added(
    kernels: list[ClassKernel], clients: int, permutations: IntArray | None = None
) -> npt.NDArray[np.float32]:
    """Sum of the kernels of all classes (n, n), each permuted by a row (h,) or more where given."""
    total = np.zeros((clients, clients), dtype=np.float32)
    for place, kernel in enumerate(kernels):
        holders, values = kernel.holders, kernel.values
        if permutations is not None:
            values = kernel.permuted(permutations[place, : len(holders)])
        if len(holders) == clients:
            total += values
        else:
            total[np.ix_(holders, holders)] += values
    return total


def _offsets(squares: FloatArray, weights: FloatArray) -> FloatArray:
    """Fit squares (h, h) of pairs by a_i + a_j, least squares with weights n_i n_j."""
    whole = weights.sum()
    system = np.diag(whole - 2.0 * weights) + weights
    # Regular from three clients on: all of them are compared with each other.
    offsets = np.linalg.solve(system, squares @ weights)
    return np.asarray(offsets, dtype=np.float64)
