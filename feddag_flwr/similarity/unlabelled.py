r"""Where clients without labels belong: what their samples look like, taken all together.

A cluster is the normal law with mean 0 whose second moment is that of its members' samples, in its
leading directions, and the same in all others (probabilistic principal component analysis, Tipping
and Bishop 1999). A newcomer goes where its samples are most likely.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from feddag_flwr.similarity.matrices import FloatArray, IntArray

MEMBERS: Final = 20  # of a cluster who speak for it at most
DRAWS: Final = 100  # in which members are drawn anew, to see how sure a cluster is
# No direction has less than what single precision leaves of all.
LEAST: Final = float(np.finfo(np.float32).eps)


@dataclass(frozen=True, eq=False)
class Directions:
    """The leading directions of N clients' samples, whatever their labels.

    Attributes
    ----------
    vectors : ndarray, shape (N, q, d), float32
        Orthonormal principal vectors, not centred, as rows; rows of zeros where a client has fewer.
    shares : ndarray, shape (N, q)
        Share of the samples' mean square that lies in each; 0 where there is none.
    samples : ndarray, shape (N,)
        How many samples each client has.
    """

    vectors: npt.NDArray[np.float32]
    shares: FloatArray
    samples: IntArray

    @classmethod
    def of(
        cls,
        vectors: Sequence[npt.NDArray[np.float32]],
        shares: Sequence[FloatArray],
        samples: Sequence[int],
    ) -> Directions:
        """Put clients' vectors (q_i, d) and shares (q_i,) together, padded to the largest q."""
        size = max(len(of_client) for of_client in vectors)
        padded = [np.pad(rows, ((0, size - len(rows)), (0, 0))) for rows in vectors]
        filled = [np.pad(of_client, (0, size - len(of_client))) for of_client in shares]
        return cls(np.stack(padded), np.stack(filled), np.asarray(samples, dtype=np.int64))

    def only(self, rows: Sequence[int] | IntArray) -> Directions:
        """Keep some clients."""
        kept = np.asarray(rows, dtype=np.intp)
        return Directions(self.vectors[kept], self.shares[kept], self.samples[kept])

    def joined_by(self, others: Directions) -> Directions:
        """Add clients at the end."""
        both = (self, others)
        return Directions.of(
            [rows for part in both for rows in part.vectors],
            [shares for part in both for shares in part.shares],
            np.concatenate([self.samples, others.samples]).tolist(),
        )

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return all of it for a checkpoint."""
        return {"vectors": self.vectors, "shares": self.shares, "samples": self.samples}


class _Cluster:
    """The law of one cluster, from the members that speak for it."""

    def __init__(self, members: Directions, newcomers: Directions) -> None:
        count, size, self._features = members.vectors.shape
        self._rank = size
        rows = members.vectors.astype(np.float64).reshape(count * size, -1)
        self._gram = rows @ rows.T
        self._products = newcomers.vectors.astype(np.float64) @ rows.T  # (M, q', count q)
        self._members, self._newcomers = members, newcomers

    def log_densities(self, drawn: IntArray) -> FloatArray:
        r"""Mean log density (M,) of the newcomers' samples, but for a constant, by the `drawn`.

        .. math:: -\frac{1}{2} \left( \sum_{k \le r} \ln \lambda_k + (d - r) \ln \rho
                  + \sum_{k \le r} \frac{e_k}{\lambda_k} + \frac{1 - \sum e_k}{\rho} \right)

        :math:`\lambda` are the leading shares of the cluster, :math:`\rho` is what is left for
        each other direction, and :math:`e` are the newcomer's shares in the cluster's directions.
        """
        times = np.bincount(drawn, minlength=len(self._members.samples)) * self._members.samples
        weights = (self._members.shares * (times / times.sum())[:, None]).ravel()
        roots = np.sqrt(weights)
        values, vectors = np.linalg.eigh(self._gram * np.outer(roots, roots))
        rank = min(self._rank, self._features - 1, int(np.count_nonzero(values > LEAST)))
        values, vectors = values[::-1][:rank], vectors[:, ::-1][:, :rank]
        others = self._features - rank
        left = max(1.0 - float(values.sum()), LEAST) / others
        lies = np.square(self._products @ (roots[:, None] * vectors)) / values
        energies = np.einsum("mq,mqk->mk", self._newcomers.shares, lies)
        beside = np.maximum(1.0 - energies.sum(axis=1), 0.0) / left
        common = float(np.log(values).sum()) + others * np.log(left)
        densities: FloatArray = -0.5 * (common + (energies / values).sum(axis=1) + beside)
        return densities


def nearest_clusters(
    members: Directions,
    labels: npt.ArrayLike,
    newcomers: Directions,
    generator: np.random.Generator,
) -> tuple[IntArray, FloatArray]:
    """Find the cluster of M newcomers (M,), and how sure that is (M,).

    Sure is the share of `DRAWS` in which the same cluster wins, each cluster's members drawn anew
    with replacement (bootstrap). Of a cluster with more than `MEMBERS`, so many are drawn to speak
    for it. Each newcomer is placed as if it had come alone, and the lower cluster wins a tie.

    Parameters
    ----------
    members : Directions
        Of the N clients that have a cluster.
    labels : array_like of int, shape (N,)
        Their clusters; numbers need not be consecutive.
    """
    label_array = np.asarray(labels, dtype=np.intp)
    if len(label_array) != len(members.samples) or not len(label_array):
        raise ValueError(f"{len(members.samples)} members with {len(label_array)} labels")
    clusters = np.unique(label_array)
    found = [
        _densities(members.only(chosen), newcomers, generator)
        for chosen in _speakers(label_array, clusters, generator)
    ]
    best = np.stack(found).argmax(axis=0)  # (1 + DRAWS, M)
    return clusters[best[0]], np.mean(best[1:] == best[0], axis=0)


def _speakers(
    labels: IntArray, clusters: IntArray, generator: np.random.Generator
) -> Iterator[IntArray]:
    for cluster in clusters:
        of_cluster = np.flatnonzero(labels == cluster)
        if len(of_cluster) > MEMBERS:
            of_cluster = np.sort(generator.choice(of_cluster, MEMBERS, replace=False))
        yield of_cluster


def _densities(
    members: Directions, newcomers: Directions, generator: np.random.Generator
) -> FloatArray:
    """Log densities (1 + DRAWS, M) by all members, then by members drawn anew."""
    cluster, count = _Cluster(members, newcomers), len(members.samples)
    draws = generator.integers(count, size=(DRAWS, count))
    return np.stack([cluster.log_densities(drawn) for drawn in (np.arange(count), *draws)])
