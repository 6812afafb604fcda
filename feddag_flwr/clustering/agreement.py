"""Which clusters can share one secondary encoder: those whose clients pull it the same way."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from feddag_flwr.clustering.labels import canonical_labels
from feddag_flwr.similarity.matrices import FloatArray, IntArray

# Standard errors by which two clusters must fall short of the threshold to be parted.
CERTAINTY = 3.0
# Rise of agreement from one window to the next that is worth waiting for.
RISE = 0.1


class Agreement:
    r"""Cosines between clients' updates of one encoder, by pair of clusters, over some rounds.

    With m_pq the mean cosine between the update of a client of cluster p and that of another
    client, of cluster q, the agreement of two clusters is

    .. math:: r_{pq} = \frac{m_{pq}}{\sqrt{m_{pp} m_{qq}}}

    Two clients of one cluster do not agree fully either, for they see few samples; r says how much
    of the agreement that there can be there is (Spearman's correction for attenuation).

    Parameters
    ----------
    clusters : int
        Number Z of clusters.

    Attributes
    ----------
    sums, squares : ndarray, shape (Z, Z), float64
        Sums of cosines, and of their squares, over ordered pairs of different clients.
    pairs : ndarray, shape (Z, Z), int64
        How many pairs.
    rounds : int
        Rounds taken in.
    """

    def __init__(self, clusters: int) -> None:
        self.sums = np.zeros((clusters, clusters))
        self.squares = np.zeros((clusters, clusters))
        self.pairs = np.zeros((clusters, clusters), dtype=np.int64)
        self.rounds = 0

    def add(self, updates: NDArray[np.floating[Any]], labels: npt.ArrayLike) -> None:
        """Take in one round.

        Parameters
        ----------
        updates : ndarray, shape (n, d)
            Update of each client, all from one start. One of length 0 has no direction and does
            not count.
        labels : array_like of int, shape (n,)
            Cluster of each client.
        """
        self.rounds += 1
        vectors = updates.astype(np.float64)
        lengths = np.sqrt(np.square(vectors).sum(axis=1))
        told = (lengths > 0) & np.isfinite(lengths)
        vectors = vectors[told] / lengths[told, None]
        member = np.asarray(labels)[told] == np.arange(len(self.sums))[:, None]
        cosines = np.einsum("id,jd->ij", vectors, vectors)  # BLAS depends on its threads
        np.fill_diagonal(cosines, 0.0)  # a client's cosine with itself tells nothing
        weights = member.astype(np.float64)
        self.sums += _by_clusters(cosines, weights)
        self.squares += _by_clusters(cosines**2, weights)
        clients = member.sum(axis=1)
        self.pairs += np.outer(clients, clients) - np.diag(clients)

    def matrix(self) -> FloatArray:
        """Return r, shape (Z, Z): 1 on the diagonal, NaN where there is nothing to tell it from.

        That is where two clusters had no clients in one round, or where the clients of one do not
        agree with each other.
        """
        found: FloatArray = self._means() / self._most()
        np.fill_diagonal(found, 1.0)
        return found

    def shortfall(self, threshold: float) -> NDArray[np.bool_]:
        r"""Tell which pairs of clusters agree less than `threshold` beyond chance, shape (Z, Z).

        m_pq lies at least three standard errors below `threshold` times
        :math:`\sqrt{m_{pp} m_{qq}}`, whose error is that of m_pp and m_qq to first order. Nobody
        falls short of a cluster whose clients do not agree with each other.
        """
        errors, most = self._errors(), self._most()
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.diag(errors) / np.diag(most) ** 2
            noise = errors + (threshold * most / 2) ** 2 * (relative[:, None] + relative)
            found: NDArray[np.bool_] = self._means() + CERTAINTY * np.sqrt(noise) < threshold * most
        np.fill_diagonal(found, False)
        return found

    def _most(self) -> FloatArray:
        """Agreement that there can be, the root of m_pp m_qq; NaN where one of them has none."""
        within = np.diag(self._means())
        with np.errstate(invalid="ignore"):
            root = np.sqrt(np.where(within > 0, within, np.nan))
        return np.outer(root, root)

    def _means(self) -> FloatArray:
        with np.errstate(divide="ignore", invalid="ignore"):
            means: FloatArray = self.sums / self.pairs
        return means

    def _errors(self) -> FloatArray:
        """Squared standard errors of the means; NaN where one pair alone tells nothing of it."""
        # Within a cluster each pair counts in both orders.
        pairs = self.pairs / (1 + np.eye(len(self.pairs)))
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.maximum(self.squares / self.pairs - self._means() ** 2, 0.0)
            return np.where(pairs > 1, spread / (pairs - 1), np.nan)


def _by_clusters(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Sum over the clients of each pair of clusters; in two steps, for one would take Z^2 n^2."""
    found: FloatArray = np.einsum("pj,qj->pq", np.einsum("pi,ij->pj", weights, values), weights)
    return found


def sharing_groups(shortfall: NDArray[np.bool_], groups: npt.ArrayLike) -> IntArray:
    """Split groups of clusters so that no pair that falls short stays together; none are joined.

    Complete linkage over who falls short of whom.

    Parameters
    ----------
    shortfall : ndarray of bool, shape (Z, Z)
        Pairs that agree too little, symmetric.
    groups : array_like of int, shape (Z,)
        Present group of each cluster.

    Returns
    -------
    ndarray of int, shape (Z,)
        New groups, numbered by their first cluster.
    """
    present = np.asarray(groups)
    if present.size == 1:
        return canonical_labels(present)
    apart = shortfall | (present[:, None] != present)
    tree = linkage(squareform(apart.astype(np.float64), checks=False), method="complete")
    found = fcluster(tree, 0.5, criterion="distance")
    return canonical_labels(found)


class AgreementWatch:
    """Part clusters that share an encoder where their clients do not agree on it for good.

    Agreement is measured in windows of rounds. Two clusters part when they fall short of the
    threshold in two windows on end and hardly agree better in the second: at first, heads that do
    not fit yet pull the encoder as they happen to lie, and a rising agreement is worth waiting for.

    Parameters
    ----------
    clusters : int
        Number Z of clusters.
    window : int
        Rounds.
    threshold : float
        Agreement from which on clusters share, in [0, 1].

    Attributes
    ----------
    now : Agreement
        Of the window under way.
    before : Agreement or None
        Of the window before.
    """

    def __init__(self, clusters: int, window: int, threshold: float) -> None:
        self._window, self._threshold = window, threshold
        self.now = Agreement(clusters)
        self.before: Agreement | None = None

    def add(
        self,
        updates: NDArray[np.floating[Any]],
        labels: npt.ArrayLike,
        groups: npt.ArrayLike,
    ) -> IntArray:
        """Take in one round, as `Agreement.add`; return the groups of clusters from now on.

        Parameters
        ----------
        updates, labels
            As for `Agreement.add`.
        groups : array_like of int, shape (Z,)
            Clusters of one group share an encoder at present.

        Returns
        -------
        ndarray of int, shape (Z,)
            `groups`, some perhaps split, numbered by their first cluster.
        """
        now, before = self.now, self.before
        now.add(updates, labels)
        if now.rounds < self._window:
            return canonical_labels(groups)
        self.now, self.before = Agreement(len(now.sums)), now
        if before is None:
            return canonical_labels(groups)
        short = now.shortfall(self._threshold) & before.shortfall(self._threshold)
        return sharing_groups(short & (now.matrix() <= before.matrix() + RISE), groups)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all of it for a checkpoint."""
        kept = {"now": self.now} | ({} if self.before is None else {"before": self.before})
        return {
            f"{name}-{key}": values
            for name, each in kept.items()
            for key, values in (
                ("sums", each.sums.copy()),
                ("squares", each.squares.copy()),
                ("pairs", each.pairs.copy()),
                ("rounds", np.array([each.rounds])),
            )
        }

    def recall(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take over what `arrays` returned."""

        def made(name: str) -> Agreement:
            found = Agreement(len(self.now.sums))
            found.sums = arrays[f"{name}-sums"].copy()
            found.squares = arrays[f"{name}-squares"].copy()
            found.pairs = arrays[f"{name}-pairs"].copy()
            found.rounds = int(arrays[f"{name}-rounds"][0])
            return found

        self.now = made("now")
        self.before = made("before") if "before-sums" in arrays else None
