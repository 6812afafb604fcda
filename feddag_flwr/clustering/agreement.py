"""Which clusters can share one secondary encoder: those whose clients pull it the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.special import ndtr, stdtrit

from feddag_flwr.clustering.labels import canonical_labels
from feddag_flwr.similarity.matrices import FloatArray, IntArray

# Standard errors by which two clusters must fall short of the threshold to be parted; more where
# few clients tell the error (Student's t at the same probability).
CERTAINTY = 3.0
# Rise of agreement from one window to the next that is worth waiting for.
RISE = 0.1
# Directions are rounded to multiples of this. Products of two are then multiples of 2^-48, and so
# are their partial sums, of which none passes 2: float64 holds each exactly, and a cosine does not
# depend on the order in which a BLAS with some number of threads adds up.
_GRAIN = 2.0**-24
# Distance of clusters that cannot stay together; others are 1 - r apart, 2 at most.
_APART = 3.0

_Values = TypeVar("_Values", np.float64, np.int64)


class Agreement:
    r"""Cosines between clients' updates of one encoder, by pair of clusters, over some rounds.

    With m_pq the mean cosine between the update of a client of cluster p and that of another
    client, of cluster q, in one round, the agreement of two clusters is

    .. math:: r_{pq} = \frac{m_{pq}}{\sqrt{m_{pp} m_{qq}}}

    Two clients of one cluster do not agree fully either, for they see few samples; r says how much
    of the agreement that there can be there is (Spearman's correction for attenuation).

    Parameters
    ----------
    clusters : int
        Number Z of clusters.

    Attributes
    ----------
    clients : list of str
        The n clients heard of so far. One that has moved to another cluster counts as another.
    labels : ndarray, shape (n,), int64
        Cluster of each.
    sums : ndarray, shape (n, Z), float64
        Sum of a client's cosines with the other clients of each cluster.
    pairs : ndarray, shape (n, Z), int64
        How many those are.
    rounds : int
        Rounds taken in.
    """

    def __init__(self, clusters: int) -> None:
        self.clients: list[str] = []
        self.labels = np.zeros(0, dtype=np.int64)
        self.sums = np.zeros((0, clusters))
        self.pairs = np.zeros((0, clusters), dtype=np.int64)
        self.rounds = 0

    def add(
        self, clients: Sequence[str], updates: NDArray[np.floating[Any]], labels: npt.ArrayLike
    ) -> None:
        """Take in one round.

        Parameters
        ----------
        clients : sequence of str
            n different names.
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
        directions = np.round(vectors[told] / lengths[told, None] / _GRAIN) * _GRAIN
        its = np.asarray(labels, dtype=np.int64)[told]
        member = (its == np.arange(self.sums.shape[1])[:, None]).astype(np.float64)
        cosines = directions @ directions.T
        np.fill_diagonal(cosines, 0.0)  # a client's cosine with itself tells nothing
        rows = self._rows([clients[place] for place in np.flatnonzero(told).tolist()], its)
        self.sums[rows] += np.einsum("ij,qj->iq", cosines, member)
        self.pairs[rows] += (member.sum(axis=1) - member.T).astype(np.int64)

    def _rows(self, clients: Sequence[str], labels: NDArray[np.int64]) -> list[int]:
        """Return the row of each client in its cluster, made where there is none yet."""
        rows = {each: row for row, each in enumerate(zip(self.clients, self.labels, strict=True))}
        wanted = list(zip(clients, labels, strict=True))
        new = [each for each in wanted if each not in rows]
        rows |= {each: row for row, each in enumerate(new, start=len(rows))}
        self.clients += [name for name, _ in new]
        self.labels = np.append(self.labels, np.array([z for _, z in new], dtype=np.int64))
        grown = [(0, len(new)), (0, 0)]
        self.sums, self.pairs = np.pad(self.sums, grown), np.pad(self.pairs, grown)
        return [rows[each] for each in wanted]

    def matrix(self) -> FloatArray:
        """Return r, shape (Z, Z): 1 on the diagonal, NaN where there is nothing to tell it from.

        That is where two clusters had no clients in one round, or where the clients of one do not
        agree with each other.
        """
        means = self._means()
        within = np.diag(means)
        found: FloatArray = means / _root(within[:, None], within)
        np.fill_diagonal(found, 1.0)
        return found

    def untold(self) -> IntArray:
        """Return the clusters whose agreement within has no error to tell: nobody falls short then.

        Without one of its clients no pair of them that trained in one round is left.
        """
        pairs, own = self._by_clusters(self.pairs), self.labels
        left = pairs[own, own] - 2 * self.pairs[np.arange(len(own)), own]
        alone = np.unique(own[left == 0])
        found: IntArray = np.union1d(np.flatnonzero(np.diag(pairs) == 0), alone)
        return found

    def at_odds(self) -> dict[int, list[str]]:
        """Return the clusters whose clients do not agree with each other, and who is to blame.

        Nobody falls short of a cluster whose mean cosine within is not above 0. To blame are the
        clients whose own mean cosine with the others is below 0: in a small cluster one that pulls
        the other way is enough.
        """
        within = np.diag(self._means())
        mine = self.sums[np.arange(len(self.labels)), self.labels]
        return {
            cluster: [
                self.clients[row] for row in np.flatnonzero((self.labels == cluster) & (mine < 0))
            ]
            for cluster in np.flatnonzero(within <= 0).tolist()
        }

    def shortfall(self, threshold: float) -> NDArray[np.bool_]:
        r"""Tell which pairs of clusters agree less than `threshold` beyond chance, shape (Z, Z).

        :math:`m_{pq} - \mathrm{threshold} \sqrt{m_{pp} m_{qq}}` lies at least three standard
        errors below 0. The error is the jackknife's, one client left out at a time with all its
        rounds, for the cosines of one client are not independent; Student's t, with Welch's degrees
        of freedom, takes the place of the normal distribution. Nobody falls short of a cluster
        that is `at_odds` with itself or among the `untold`.
        """
        means = self._means()
        within = np.diag(means)
        gap = means - threshold * _root(within[:, None], within)
        error, freedom = self._error(threshold)
        with np.errstate(invalid="ignore"):
            found: NDArray[np.bool_] = gap + stdtrit(freedom, ndtr(CERTAINTY)) * error < 0
        np.fill_diagonal(found, False)
        return found

    def _error(self, threshold: float) -> tuple[FloatArray, FloatArray]:
        """Return the gap's standard error and its degrees of freedom, both of shape (Z, Z)."""
        clients = np.bincount(self.labels, minlength=self.sums.shape[1])[:, None]
        gaps = self._gaps_without_one(threshold)
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = gaps - (self._by_clusters(gaps) / clients)[self.labels]
            share = self._by_clusters(spread**2) * (clients - 1) / clients
            both = share + share.T
            parts = share**2 / (clients - 1)
            freedom = both**2 / (parts + parts.T)
        return np.sqrt(both), np.where(both > 0, freedom, 1.0)

    def _gaps_without_one(self, threshold: float) -> FloatArray:
        """Return the gap of each client's cluster to each cluster, without that client, (n, Z)."""
        sums, pairs = self._by_clusters(self.sums), self._by_clusters(self.pairs)
        own, each = self.labels, np.arange(len(self.labels))
        with np.errstate(divide="ignore", invalid="ignore"):
            across = (sums[own] - self.sums) / (pairs[own] - self.pairs)
            # A client is on both sides of the pairs within its cluster.
            within = (sums[own, own] - 2 * self.sums[each, own]) / (
                pairs[own, own] - 2 * self.pairs[each, own]
            )
            found: FloatArray = across - threshold * _root(
                within[:, None], np.diag(sums) / np.diag(pairs)
            )
        return found

    def _means(self) -> FloatArray:
        """Return m, shape (Z, Z), NaN where there are no pairs."""
        sums = self._by_clusters(self.sums)
        with np.errstate(divide="ignore", invalid="ignore"):
            means: FloatArray = (sums + sums.T) / 2 / self._by_clusters(self.pairs)
        return means

    def _by_clusters(self, values: NDArray[_Values]) -> NDArray[_Values]:
        """Sum rows over the clients of each cluster, shape (Z, Z)."""
        clusters = values.shape[1]
        found = np.zeros((clusters, clusters), dtype=values.dtype)
        np.add.at(found, self.labels, values)
        return found


def _root(one: FloatArray, other: FloatArray) -> FloatArray:
    """Agreement that there can be, the root of m_pp m_qq; NaN where one of them has none."""
    with np.errstate(invalid="ignore"):
        found: FloatArray = np.sqrt(
            np.where(one > 0, one, np.nan) * np.where(other > 0, other, np.nan)
        )
    return found


def sharing_groups(
    shortfall: NDArray[np.bool_], agreement: FloatArray, groups: npt.ArrayLike
) -> IntArray:
    """Split groups of clusters so that no pair that falls short stays together; none are joined.

    Complete linkage, those that agree most first: a cluster that falls short of nobody stays with
    those that it agrees with, not with whom has the lowest number.

    Parameters
    ----------
    shortfall : ndarray of bool, shape (Z, Z)
        Pairs that agree too little, symmetric.
    agreement : ndarray, shape (Z, Z)
        r of `Agreement`, symmetric; NaN where nothing is known, which counts as none.
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
    known = np.clip(np.nan_to_num(agreement, nan=0.0), -1.0, 1.0)
    apart = shortfall | (present[:, None] != present)
    distances = np.where(apart, _APART, 1.0 - known)
    np.fill_diagonal(distances, 0.0)
    tree = linkage(squareform(distances, checks=False), method="complete")
    found = fcluster(tree, (_APART + 2.0) / 2, criterion="distance")
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
    undecided : ndarray of bool, shape (Z, Z)
        At the end of a window: pairs that have not been seen to agree in it nor in the one before,
        do not agree better now, and do not fall short for certain either. They stay together.
    """

    def __init__(self, clusters: int, window: int, threshold: float) -> None:
        self._clusters, self._window, self._threshold = clusters, window, threshold
        self.now = Agreement(clusters)
        self.before: Agreement | None = None
        self.undecided = np.zeros((clusters, clusters), dtype=np.bool_)

    def add(
        self,
        clients: Sequence[str],
        updates: NDArray[np.floating[Any]],
        labels: npt.ArrayLike,
        groups: npt.ArrayLike,
    ) -> IntArray:
        """Take in one round, as `Agreement.add`; return the groups of clusters from now on.

        Parameters
        ----------
        clients, updates, labels
            As for `Agreement.add`.
        groups : array_like of int, shape (Z,)
            Clusters of one group share an encoder at present.

        Returns
        -------
        ndarray of int, shape (Z,)
            `groups`, some perhaps split, numbered by their first cluster.
        """
        now, before = self.now, self.before
        now.add(clients, updates, labels)
        if now.rounds < self._window:
            return canonical_labels(groups)
        self.now, self.before = Agreement(self._clusters), now
        if before is None:
            return canonical_labels(groups)
        agreement, earlier = now.matrix(), before.matrix()
        short = now.shortfall(self._threshold) & before.shortfall(self._threshold)
        short &= agreement <= earlier + RISE
        agree = (agreement >= self._threshold) | (earlier >= self._threshold)
        self.undecided = ~short & ~agree & ~(agreement > earlier + RISE)
        return sharing_groups(short, agreement, groups)

    @property
    def at_end_of_window(self) -> bool:
        """Whether the round just taken in was the last of a window."""
        return self.before is not None and self.now.rounds == 0

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the numbers of it for a checkpoint."""
        return {
            f"{name}-{key}": values
            for name, each in self._kept().items()
            for key, values in (
                ("labels", each.labels),
                ("sums", each.sums),
                ("pairs", each.pairs),
                ("rounds", np.array([each.rounds])),
            )
        }

    def clients(self) -> dict[str, list[str]]:
        """Return whose rows those are, by window."""
        return {name: list(each.clients) for name, each in self._kept().items()}

    def _kept(self) -> dict[str, Agreement]:
        return {"now": self.now} | ({} if self.before is None else {"before": self.before})

    def load_state_dict(
        self, arrays: Mapping[str, NDArray[Any]], clients: Mapping[str, Sequence[str]]
    ) -> None:
        """Take over what `arrays` and `clients` returned."""

        def made(name: str) -> Agreement:
            found = Agreement(self._clusters)
            found.clients = list(clients[name])
            found.labels = arrays[f"{name}-labels"].copy()
            found.sums = arrays[f"{name}-sums"].copy()
            found.pairs = arrays[f"{name}-pairs"].copy()
            found.rounds = int(arrays[f"{name}-rounds"][0])
            return found

        self.now = made("now")
        self.before = made("before") if "before" in clients else None
