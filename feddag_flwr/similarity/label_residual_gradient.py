"""The gradient view without what class counts say: what updates differ in beyond labels.

The first updates of a model are in good part about which labels there are, and how many: on
Fashion-MNIST, clients' counts explain 21 to 65 % of the variance of the angles of Eq. 3
(docs/fusion.md).
The counts are known without any training, so what the gradient adds is the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feddag_flwr.similarity.label_set_distance import label_set_distance_to
from feddag_flwr.similarity.matrices import (
    FloatArray,
    checked_counts,
    checked_dissimilarity,
    row_blocks,
)

FEATURES = 6
"""What a pair of clients is described by."""


@dataclass(frozen=True, eq=False)
class LabelResidualGradient:
    """A straight-line account of gradient angles by class counts, and what it leaves.

    Attributes
    ----------
    coefficients : ndarray, shape (F,)
        Least squares over the pairs of N clients, degrees a unit of `_features`.
    lowest : float
        The smallest remainder among them, degrees.
    explained : float
        Share of the variance of G that the counts explain, in [0, 1].
    """

    coefficients: FloatArray
    lowest: float
    explained: float

    @classmethod
    def of(
        cls, gradient: npt.ArrayLike, counts: npt.ArrayLike
    ) -> tuple[LabelResidualGradient, FloatArray]:
        """Explain the angles between N clients by their counts.

        Parameters
        ----------
        gradient : array_like, shape (N, N)
            G of Eq. 3, degrees.
        counts : array_like of int, shape (N, C)
            Samples of each class on each client.

        Returns
        -------
        LabelResidualGradient
        ndarray, shape (N, N)
            The remainders, degrees above the lowest; 0 on the diagonal, and everywhere where there
            are no more pairs than features: a line through all of them leaves only rounding.

        Raises
        ------
        ValueError
            If the matrix or the counts are out of their domain.
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
        found = cls(coefficients, 0.0, 0.0)
        remainders = found._less_explained(angles, counts, counts)
        pairs = np.concatenate(values)
        left = remainders[np.triu_indices(clients, 1)]
        spread = float(pairs.var()) if pairs.size else 0.0
        explained = 1.0 - float(left.var()) / spread if spread > 0.0 else 0.0
        lowest = float(left.min()) if left.size else 0.0
        found = cls(coefficients, lowest, explained)
        remainders -= lowest
        remainders = np.maximum((remainders + remainders.T) / 2.0, 0.0)
        if pairs.size <= FEATURES:
            remainders[:] = 0.0
        np.fill_diagonal(remainders, 0.0)
        return found, remainders

    def rows(
        self, gradient: npt.ArrayLike, newcomer_counts: npt.ArrayLike, counts: npt.ArrayLike
    ) -> FloatArray:
        """Remainders (M, N) of newcomers' angles to N clients, at least 0."""
        angles = np.asarray(gradient, dtype=np.float64)
        remainders = self._less_explained(angles, newcomer_counts, counts)
        return np.maximum(remainders - self.lowest, 0.0)

    def _less_explained(
        self, angles: FloatArray, left: npt.ArrayLike, right: npt.ArrayLike
    ) -> FloatArray:
        """Angles (M, N) less what the counts explain of them."""
        remainders = np.empty_like(angles)
        for rows in row_blocks(*angles.shape):
            explained = np.tensordot(self.coefficients, _features(left, right, rows), axes=1)
            remainders[rows] = angles[rows] - explained
        return remainders


def _features(left: npt.ArrayLike, right: npt.ArrayLike, rows: slice) -> FloatArray:
    """Describe pairs by their counts: 1, an angle, its square, label-set distance, and both sizes.

    Shape (F, M, N), of the clients `rows` of `left`; sizes are logarithms, the larger first. The
    angle is that between the square roots of the proportions (Bhattacharyya), in [0, pi / 2].
    """
    one, two = (checked_counts(each).astype(np.float64) for each in (left, right))
    one = one[rows]
    sizes = [np.maximum(each.sum(axis=1), 1.0) for each in (one, two)]
    roots = [np.sqrt(each / size[:, None]) for each, size in zip((one, two), sizes, strict=True)]
    angle = np.arccos(np.clip(roots[0] @ roots[1].T, 0.0, 1.0))
    logs = [np.log(size) for size in sizes]
    return np.stack(
        [
            np.ones_like(angle),
            angle,
            angle**2,
            label_set_distance_to(one.astype(np.intp), right),
            np.maximum(logs[0][:, None], logs[1]),
            np.minimum(logs[0][:, None], logs[1]),
        ]
    )
