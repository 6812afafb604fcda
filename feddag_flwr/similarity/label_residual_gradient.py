"""The gradient view without what class counts say: what updates differ in beyond labels.

The first updates of a model are in good part about which labels there are, and how many
(docs/fusion.md has figures). The counts are known without training; the gradient adds the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feddag_flwr.similarity.label_set_distance import label_set_distance_to
from feddag_flwr.similarity.matrices import (
    FloatArray,
    IntArray,
    checked_counts,
    checked_dissimilarity,
    row_blocks,
)

FEATURES = 6  # numbers that describe a pair of clients


@dataclass(frozen=True, eq=False)
class LabelResidualGradient:
    """A straight-line account of gradient angles by class counts, and what it leaves."""

    coefficients: FloatArray  # (F,), least squares over the pairs, degrees a unit of `_features`
    lowest: float  # remainder, degrees
    explained: float  # share of the variance of G, in [0, 1]

    @classmethod
    def of(
        cls, gradient: npt.ArrayLike, counts: npt.ArrayLike
    ) -> tuple[LabelResidualGradient, FloatArray]:
        """Explain G (N, N) of Eq. 3 by the clients' class counts (N, C).

        Returns
        -------
        LabelResidualGradient
        ndarray, shape (N, N)
            The remainders, degrees above the lowest; 0 on the diagonal, and everywhere where there
            are no more pairs than features: a line through all of them leaves only rounding.
        """
        angles = checked_dissimilarity(gradient, "gradient")
        clients = len(angles)
        # Sums over pairs, block by block: a matrix of all pairs would be the largest thing here.
        moments, products, values = np.zeros((FEATURES, FEATURES)), np.zeros(FEATURES), []
        for rows in row_blocks(clients, clients * FEATURES):
            later = np.arange(clients) > np.arange(rows.start, rows.stop)[:, None]
            known, wanted = _features(counts, counts, rows)[:, later], angles[rows][later]
            moments += known @ known.T
            products += known @ wanted
            values.append(wanted)
        coefficients = np.asarray(np.linalg.lstsq(moments, products, rcond=None)[0], np.float64)
        remainders = _less_explained(angles, counts, counts, coefficients)
        pairs = np.concatenate(values)
        left = remainders[np.triu_indices(clients, 1)]
        spread = float(pairs.var()) if pairs.size else 0.0
        explained = 1.0 - float(left.var()) / spread if spread > 0.0 else 0.0
        lowest = float(left.min()) if left.size else 0.0
        remainders -= lowest
        remainders = np.maximum((remainders + remainders.T) / 2.0, 0.0)
        if pairs.size <= FEATURES:
            remainders[:] = 0.0
        np.fill_diagonal(remainders, 0.0)
        return cls(coefficients, lowest, explained), remainders

    def rows(
        self, gradient: npt.ArrayLike, newcomer_counts: npt.ArrayLike, counts: npt.ArrayLike
    ) -> FloatArray:
        """Remainders (M, N) of newcomers' angles to N clients, at least 0."""
        angles = np.asarray(gradient, dtype=np.float64)
        remainders = _less_explained(angles, newcomer_counts, counts, self.coefficients)
        return np.maximum(remainders - self.lowest, 0.0)


def _less_explained(
    angles: FloatArray, left: npt.ArrayLike, right: npt.ArrayLike, coefficients: FloatArray
) -> FloatArray:
    """Angles (M, N) less what the counts explain of them."""
    remainders = np.empty_like(angles)
    for rows in row_blocks(*angles.shape):
        explained = np.tensordot(coefficients, _features(left, right, rows), axes=1)
        remainders[rows] = angles[rows] - explained
    return remainders


def _features(left: npt.ArrayLike, right: npt.ArrayLike, rows: slice) -> FloatArray:
    """Describe pairs by their counts: 1, an angle, its square, label-set distance, and both sizes.

    Shape (F, M, N), of the clients `rows` of `left`; sizes are logarithms, the larger first. The
    angle is that between the square roots of the proportions (Bhattacharyya), in [0, pi / 2].
    """
    left, right = checked_counts(left)[rows], checked_counts(right)
    (left_roots, left_log), (right_roots, right_log) = _roots_and_log(left), _roots_and_log(right)
    angle = np.arccos(np.clip(left_roots @ right_roots.T, 0.0, 1.0))
    larger, smaller = np.maximum(left_log, right_log.T), np.minimum(left_log, right_log.T)
    sets = label_set_distance_to(left, right)
    return np.stack([np.ones_like(angle), angle, angle**2, sets, larger, smaller])


def _roots_and_log(counts: IntArray) -> tuple[FloatArray, FloatArray]:
    """Square roots (N, C) of the class proportions, and logarithms (N, 1) of the sizes."""
    sizes = np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    return np.sqrt(counts / sizes), np.log(sizes)
