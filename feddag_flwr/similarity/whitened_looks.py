r"""How likely a client's vector of a class is under what the other clients have of each class.

The leading vectors v of a class scatter about the class's weighted mean M with a covariance that
falls with the samples n of a client. It is pooled over classes,

.. math:: \Sigma = \frac{1}{2m} \sum_{ic} n_{ic} (v_{ic} - M_c)(v_{ic} - M_c)^T
                   + \frac{1}{2} \mu I,

half of it a sphere of the same mean variance :math:`\mu`, as features are more than vectors. What
is measured of a client leaves its own vectors out, of the means and of the covariance (rank-one
downdates): a client would explain itself. Only products of vectors enter, (C n)^2 of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, solve_triangular

from feddag_flwr.similarity.matrices import FloatArray, IntArray
from feddag_flwr.similarity.threads import one_thread

SPHERE: Final = 0.5  # share of the sphere in the covariance: as much as of what was sampled
# Vectors, single precision, that scatter no more than this (squared) are equal.
EQUAL: Final = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, eq=False)
class WhitenedLooks:
    """Products, in units of the covariance, among n clients' leading vectors of C classes."""

    weights: FloatArray  # (C, n), samples
    totals: FloatArray  # (C,), samples of all clients, also of those that `only` left out
    products: FloatArray  # (C, n, C, n), of vectors
    to_means: FloatArray  # (C, n, C), of vectors and means
    of_means: FloatArray  # (C, C)
    signs: FloatArray  # (C, n, C), that turn a vector to a mean's side: singular vectors have none
    share: float  # of one vector in the covariance

    @classmethod
    @one_thread
    def of(cls, bases: npt.NDArray[np.float32], seen: IntArray) -> WhitenedLooks | None:
        """Whiten the first of bases (n, C, p, d) by samples seen (n, C); None where all are equal.

        Vectors of classes that are not seen do not matter.
        """
        weights = np.ascontiguousarray(seen.T, dtype=np.float64)
        vectors = _of_one_sign(bases[:, :, 0].astype(np.float64), seen)
        gram = vectors @ vectors.T
        totals = weights.sum(axis=1)
        freedom = np.count_nonzero(weights) - np.count_nonzero(totals)
        roots = np.sqrt(weights).ravel()
        to_means, of_means = _means(gram, weights)
        of_row = np.repeat(np.arange(len(weights)), weights.shape[1])
        mixed = (gram - to_means[:, of_row]) * roots  # of vectors and deviations
        deviations = roots[:, None] * (mixed - (to_means.T - of_means[:, of_row])[of_row] * roots)
        scatter = float(np.trace(deviations))
        if freedom < 1 or scatter <= EQUAL * weights.sum():
            return None
        variance = SPHERE * scatter / freedom / vectors.shape[1]
        share = (1.0 - SPHERE) / freedom
        # Woodbury: the inverse of a covariance of d features by deviations' products alone.
        deviations[np.diag_indices_from(deviations)] += variance / share
        signs = np.where(to_means < 0.0, -1.0, 1.0).reshape(*weights.shape, -1)
        root = cholesky(deviations, lower=True, overwrite_a=True, check_finite=False)
        explained = solve_triangular(root, mixed.T, lower=True, check_finite=False)
        whitened = (gram - explained.T @ explained) / variance
        to_means, of_means = _means(whitened, weights)
        shape = (*weights.shape, *weights.shape)
        by_class = to_means.reshape(*weights.shape, len(weights))
        return cls(weights, totals, whitened.reshape(shape), by_class, of_means, signs, share)

    def only(self, rows: IntArray) -> WhitenedLooks:
        """Keep some clients; means and covariance stay those of all."""
        return replace(
            self,
            weights=self.weights[:, rows],
            products=self.products[:, rows][:, :, :, rows],
            to_means=self.to_means[:, rows],
            signs=self.signs[:, rows],
        )

    def log_densities(self, own: IntArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Compare vectors of each class with means of each class (n, C, C), without their own.

        `own` (C, n) is whose vector of a class each client has: its own one, or whose was dealt to
        it. Log densities are those of a client's vector of a class under each class, but for what
        all classes have in common. Told as well is which classes (n, C) can be compared: held by
        the client and another one.
        """
        classes, mine = np.arange(len(own)), own.T
        held = np.take_along_axis(self.weights, own, axis=1).T
        others = self.totals - held
        usable = (held > 0.0) & (others > 0.0)
        others = np.where(usable, others, 1.0)
        # Taking a vector out of a class moves its scatter by w W / (W - w) squared deviations.
        roots = np.sqrt(np.where(usable, held * self.totals / others, 0.0))
        moves = np.sqrt(np.where(usable, held / (np.maximum(self.totals, 1.0) * others), 0.0))
        among = self.products[classes[:, None], mine[:, :, None], classes, mine[:, None, :]]
        to_means = self.to_means[classes, mine]
        mixed = (among - to_means) * roots[:, None, :]
        of_means = (to_means.swapaxes(1, 2) - self.of_means) * roots[:, None, :]
        deviations = roots[:, :, None] * (mixed - of_means)
        to_means = to_means - moves[:, None, :] * mixed
        squares = np.einsum("kk->k", self.of_means) - 2.0 * moves * np.einsum("nkk->nk", of_means)
        squares += np.square(moves) * np.einsum("nkk->nk", deviations)
        of_means = of_means - moves[:, :, None] * deviations
        left = np.eye(len(own)) - self.share * deviations
        taken = self.share * np.linalg.solve(left, of_means.swapaxes(1, 2))
        to_means += mixed @ taken
        squares += np.einsum("nkb,nbk->nk", of_means, taken)
        near = self.signs[classes, mine] * to_means - squares[:, None, :] / 2.0
        densities: FloatArray = held[:, :, None] * near
        return densities, usable

    def distances(self) -> FloatArray:
        """Squared distance (C, n) of each vector from the others' mean, n times over.

        0 where a class is held by nobody else.
        """
        others = self.totals[:, None] - self.weights
        own = np.einsum("cici->ci", self.products) - 2.0 * np.einsum("cic->ci", self.to_means)
        own += np.diagonal(self.of_means)[:, None]
        factor = np.divide(
            self.weights * self.totals[:, None], others, out=np.zeros_like(own), where=others > 0.0
        )
        inside = np.maximum(own, 0.0) * factor
        distances: FloatArray = inside / np.maximum(1.0 - self.share * inside, EQUAL)
        return distances


def _of_one_sign(vectors: FloatArray, seen: IntArray) -> FloatArray:
    """Turn the vectors (n, C, d) of a class to the side of one holder's, as rows (C n, d)."""
    number, classes, _ = vectors.shape
    vectors = vectors * (seen > 0)[:, :, None]
    first = np.take_along_axis(vectors, (seen > 0).argmax(axis=0)[None, :, None], axis=0)[0]
    signs = np.sign(np.einsum("ncd,cd->nc", vectors, first))
    turned: FloatArray = (vectors * signs[:, :, None]).swapaxes(0, 1).reshape(classes * number, -1)
    return turned


def _means(products: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Products of vectors (C n, C n) with the classes' weighted means (C n, C), and among these."""
    classes, number = weights.shape
    shares = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
    to_means = np.einsum("rkj,kj->rk", products.reshape(-1, classes, number), shares)
    of_means = np.einsum("cik,ci->ck", to_means.reshape(classes, number, classes), shares)
    return to_means, of_means
