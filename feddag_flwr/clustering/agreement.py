"""Which clusters can share one secondary encoder: those whose clients pull it the same way."""

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
    r"""Cosines between clients' updates of one encoder, by pair of Z clusters, over some rounds.

    With m_pq the mean cosine between the update of a client of cluster p and that of another
    client, of cluster q, in one round, the agreement of two clusters is

    .. math:: r_{pq} = \frac{m_{pq}}{\sqrt{m_{pp} m_{qq}}}

    Two clients of one cluster do not agree fully either, for they see few samples; r says how much
    of the agreement that there can be there is (Spearman's correction for attenuation). Of the n
    clients heard of so far, one that has moved to another cluster counts as another.
    """

    def __init__(self, clusters: int) -> None:
        self.clients: list[str] = []
        self.labels = np.zeros(0, dtype=np.int64)  # (n,), the cluster of each
        self.sums = np.zeros((0, clusters))  # (n, Z), of cosines with others of each cluster
        self.pairs = np.zeros((0, clusters), dtype=np.int64)  # (n, Z), how many those are
        self.rounds = 0

    def add(
        self, clients: Sequence[str], updates: NDArray[np.floating[Any]], labels: npt.ArrayLike
    ) -> None:
        """Take in one round: n clients' updates (n, d), all from one start, and clusters (n,).

        An update of length 0 has no direction and does not count.
        """
        self.rounds += 1
        vectors = updates.astype(np.float64)
        lengths = np.sqrt(np.square(vectors).sum(axis=1))
        told = (lengths > 0) & np.isfinite(lengths)
        directions = np.round(vectors[told] / lengths[told, None] / _GRAIN) * _GRAIN
        told_labels = np.asarray(labels, dtype=np.int64)[told]
        member = (told_labels == np.arange(self.sums.shape[1])[:, None]).astype(np.float64)
        cosines = directions @ directions.T
        np.fill_diagonal(cosines, 0.0)  # a client's cosine with itself tells nothing
        rows = self._rows([clients[place] for place in np.flatnonzero(told).tolist()], told_labels)
        self.sums[rows] += np.einsum("ij,qj->iq", cosines, member)
        self.pairs[rows] += (member.sum(axis=1) - member.T).astype(np.int64)

    def _rows(self, clients: Sequence[str], labels: NDArray[np.int64]) -> list[int]:
        """Return the row of each client in its cluster, made where there is none yet."""
        rows = {key: row for row, key in enumerate(zip(self.clients, self.labels, strict=True))}
        wanted = list(zip(clients, labels, strict=True))
        new = [key for key in wanted if key not in rows]
        rows |= {key: row for row, key in enumerate(new, start=len(rows))}
        self.clients += [name for name, _ in new]
        self.labels = np.append(self.labels, np.array([z for _, z in new], dtype=np.int64))
        grown = [(0, len(new)), (0, 0)]
        self.sums, self.pairs = np.pad(self.sums, grown), np.pad(self.pairs, grown)
        return [rows[key] for key in wanted]

    def matrix(self) -> FloatArray:
        """Return r, shape (Z, Z): 1 on the diagonal, NaN where there is nothing to tell it from.

        That is where two clusters had no clients in one round, or where the clients of one do not
        agree with each other.
        """
        means = self._means()
        within = np.diag(means)
        agreement: FloatArray = means / _root(within[:, None], within)
        np.fill_diagonal(agreement, 1.0)
        return agreement

    def untold(self) -> IntArray:
        """Return the clusters whose agreement within has no error to tell: nobody falls short then.

        Without one of its clients no pair of them that trained in one round is left.
        """
        pairs, own = self._by_clusters(self.pairs), self.labels
        left = pairs[own, own] - 2 * self.pairs[np.arange(len(own)), own]
        alone = np.unique(own[left == 0])
        return np.union1d(np.flatnonzero(np.diag(pairs) == 0), alone)

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
            short: NDArray[np.bool_] = gap + stdtrit(freedom, ndtr(CERTAINTY)) * error < 0
        np.fill_diagonal(short, False)
        return short

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
        own, rows = self.labels, np.arange(len(self.labels))
        with np.errstate(divide="ignore", invalid="ignore"):
            across = (sums[own] - self.sums) / (pairs[own] - self.pairs)
            # A client is on both sides of the pairs within its cluster.
            within = sums[own, own] - 2 * self.sums[rows, own]
            within /= pairs[own, own] - 2 * self.pairs[rows, own]
            others = np.diag(sums) / np.diag(pairs)
            gaps: FloatArray = across - threshold * _root(within[:, None], others)
        return gaps

    def _means(self) -> FloatArray:
        """Return m, shape (Z, Z), NaN where there are no pairs."""
        sums = self._by_clusters(self.sums)
        with np.errstate(divide="ignore", invalid="ignore"):
            means: FloatArray = (sums + sums.T) / 2 / self._by_clusters(self.pairs)
        return means

    def _by_clusters(self, values: NDArray[_Values]) -> NDArray[_Values]:
        """Sum rows over the clients of each cluster, shape (Z, Z)."""
        sums = np.zeros((values.shape[1], values.shape[1]), dtype=values.dtype)
        np.add.at(sums, self.labels, values)
        return sums


def _root(one: FloatArray, other: FloatArray) -> FloatArray:
    """Agreement that there can be, the root of m_pp m_qq; NaN where one of them has none."""
    with np.errstate(invalid="ignore"):
        product = np.where(one > 0, one, np.nan) * np.where(other > 0, other, np.nan)
        root: FloatArray = np.sqrt(product)
    return root


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
        Present groups; new ones are numbered by their first cluster.
    """
    present = np.asarray(groups)
    if present.size == 1:
        return canonical_labels(present)
    known = np.clip(np.nan_to_num(agreement, nan=0.0), -1.0, 1.0)
    apart = shortfall | (present[:, None] != present)
    distances = np.where(apart, _APART, 1.0 - known)
    np.fill_diagonal(distances, 0.0)
    tree = linkage(squareform(distances, checks=False), method="complete")
    return canonical_labels(fcluster(tree, (_APART + 2.0) / 2, criterion="distance"))


class AgreementWatch:
    """Part clusters that share an encoder where their clients do not agree on it for good.

    Agreement is measured in windows of so many rounds. Two of Z clusters part when they fall short
    of the threshold, in [0, 1], in two windows on end and hardly agree better in the second: at
    first, heads that do not fit yet pull the encoder as they happen to lie, and a rising agreement
    is worth waiting for. At the end of a window `undecided` has the pairs that have not been seen
    to agree in it nor in the one before, do not agree better now, and do not fall short for certain
    either. They stay together.
    """

    def __init__(self, clusters: int, window: int, threshold: float) -> None:
        self._clusters, self._window, self._threshold = clusters, window, threshold
        self.now = Agreement(clusters)  # of the window under way
        self.before: Agreement | None = None
        self.undecided = np.zeros((clusters, clusters), dtype=np.bool_)

    def add(
        self,
        clients: Sequence[str],
        updates: NDArray[np.floating[Any]],
        labels: npt.ArrayLike,
        groups: npt.ArrayLike,
    ) -> IntArray:
        """Take in one round, as `Agreement.add`; return the groups of clusters from now on, (Z,).

        Clusters of one of the present `groups` share an encoder; some may be split now.
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
        arrays: dict[str, NDArray[Any]] = {}
        for name, window in self._kept().items():
            arrays |= {f"{name}-{key}": getattr(window, key) for key in ("labels", "sums", "pairs")}
            arrays[f"{name}-rounds"] = np.array([window.rounds])
        return arrays

    def clients(self) -> dict[str, list[str]]:
        """Return whose rows those are, by window."""
        return {name: list(window.clients) for name, window in self._kept().items()}

    def _kept(self) -> dict[str, Agreement]:
        return {"now": self.now} | ({} if self.before is None else {"before": self.before})

    def load_state_dict(
        self, arrays: Mapping[str, NDArray[Any]], clients: Mapping[str, Sequence[str]]
    ) -> None:
        """Take over what `arrays` and `clients` returned."""

        def made(name: str) -> Agreement:
            window = Agreement(self._clusters)
            window.clients = list(clients[name])
            for key in ("labels", "sums", "pairs"):
                setattr(window, key, arrays[f"{name}-{key}"].copy())
            window.rounds = int(arrays[f"{name}-rounds"][0])
            return window

        self.now = made("now")
        self.before = made("before") if "before" in clients else None
