"""Who learns from whom: the cluster complementarity graph (Sec. 4, Eq. 11 to 14)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from feddag_flwr.clustering.labels import checked_labels
from feddag_flwr.similarity.matrices import (
    FloatArray,
    IntArray,
    checked_angles,
    checked_counts,
    row_blocks,
)

PAIRED: Final = 200  # clients a cluster whose angles make its mean, where angles are many (cost)
SEED: Final = 0  # the same clusters give the same graph in every run


@dataclass(frozen=True, eq=False)
class Complementarity:
    """The graph and what it was made from; Z clusters, C classes."""

    demand: FloatArray  # (Z, C), d of Eq. 11: how much the clients of a cluster lack a class
    supply: FloatArray  # (Z, C), s of Eq. 11: how much a cluster has of a class, a client
    alignment: FloatArray  # (Z, Z, C), mean Gamma (Eq. 13) over pairs across, in [0, 1]
    scores: FloatArray  # (Z, Z), H of Eq. 14 (12), learner by source; -inf on the diagonal
    teachers: tuple[tuple[int, ...], ...]  # of each learner, the best first
    arbitrary: tuple[int, ...]  # learners all of whose scores are 0: the first clusters teach


def complementarity(
    counts: npt.ArrayLike,
    angles: Iterable[npt.NDArray[np.floating]],
    labels: npt.ArrayLike,
    top_k: int = 2,
    aligned: bool = True,
    rows: IntArray | None = None,
) -> Complementarity:
    r"""Graph of which cluster learns from which, Eq. 11 to 14 of arXiv 2602.23504.

    With r_ic the rank of class c among the m_i classes of client i, 0 the rarest,

    .. math::
        d_{pc} &= \sum_{i \in C_p,\, c \in i} (m_i - r_{ic}), \qquad
        s_{qc} = \frac{1}{|C_q|} \sum_{i \in C_q,\, c \in i} (r_{ic} + 1), \\
        \Gamma_{ijc} &= 1 - \mathrm{clip}(V'_{ijc}, 0, 90) / 90, \qquad
        H_{pq} = \sum_c d_{pc} s_{qc} \bar\Gamma_{pqc}, \quad H_{pp} = -\infty

    Each learner p takes the `top_k` clusters q of highest H_pq, the lower number first in a tie,
    all others when there are fewer. Where not `aligned`, Gamma is left out of H (Eq. 12).

    Parameters
    ----------
    counts : array_like of int, shape (N, C)
        Samples of each class on each client.
    angles : ndarray of shape (C, N, N), or iterable of C of shape (N, N)
        V' of Eq. 4, degrees.
    labels : array_like of int, shape (N,)
        Cluster of each client, 0 to Z - 1.
    rows : ndarray of int, shape (n,), optional
        The clients whose angles are given, of each cluster one at least; else all.
    """
    count_array = checked_counts(counts)
    clients, classes = count_array.shape
    label_array = checked_labels(labels, clients)
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    demand, supply = _demand_and_supply(count_array, label_array)
    of_rows = label_array if rows is None else label_array[rows]
    if len(np.unique(of_rows)) <= label_array.max():
        raise ValueError("rows must have a client of each cluster")
    alignment = _mean_alignment(angles, classes, of_rows)
    weighing = alignment if aligned else np.ones_like(alignment)
    scores = np.einsum("pc,qc,pqc->pq", demand, supply, weighing)
    np.fill_diagonal(scores, -np.inf)
    others = min(top_k, len(scores) - 1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :others]
    return Complementarity(
        demand=demand,
        supply=supply,
        alignment=alignment,
        scores=scores,
        teachers=tuple(tuple(int(source) for source in row) for row in order),
        arbitrary=tuple(int(p) for p in np.flatnonzero(scores.max(axis=1) == 0.0)),
    )


def drawn_members(labels: IntArray) -> IntArray:
    """Draw `PAIRED` clients of each cluster, or take all where there are fewer: rows, ascending.

    The mean angle over all pairs of two clusters is so sampled without bias.
    """
    generator = np.random.default_rng(SEED)
    drawn = [
        generator.permutation(np.flatnonzero(labels == cluster))[:PAIRED]
        for cluster in range(int(labels.max()) + 1)
    ]
    rows: IntArray = np.sort(np.concatenate(drawn))
    return rows


def rarity_ranks(counts: IntArray) -> IntArray:
    """Rank r_ic (N, C) of each class among those its client has, 0 the rarest.

    The lower class comes first in a tie, absent classes, whose ranks mean nothing, last.
    """
    absent_last = np.where(counts > 0, counts, np.iinfo(np.intp).max)
    order = np.argsort(absent_last, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(counts.shape[1])[None, :], axis=1)
    return ranks


def _demand_and_supply(counts: IntArray, labels: IntArray) -> tuple[FloatArray, FloatArray]:
    """Demand and supply (Z, C) of Eq. 11."""
    present = counts > 0
    ranks = rarity_ranks(counts)
    lacking = np.where(present, present.sum(axis=1, keepdims=True) - ranks, 0)
    having = np.where(present, ranks + 1, 0)
    member = _membership(labels)
    demand = np.asarray(member @ lacking.astype(np.float64))
    supply = np.asarray(member @ having.astype(np.float64))
    return demand, supply / np.bincount(labels)[:, None]


def _mean_alignment(
    angles: Iterable[npt.NDArray[np.floating]], classes: int, labels: IntArray
) -> FloatArray:
    """Gamma of Eq. 13 averaged over all pairs of clients across two clusters: (Z, Z, C)."""
    member, sizes = _membership(labels), np.bincount(labels)
    pairs, means = np.outer(sizes, sizes), []
    for of_class in angles:
        array = checked_angles(np.asarray(of_class)[None], len(labels), 1)[0]
        sums = np.zeros((sizes.size, len(labels)))
        for rows in row_blocks(*array.shape):
            gamma = np.clip(array[rows].astype(np.float64), 0.0, 90.0)
            np.subtract(1.0, gamma / 90.0, out=gamma)
            sums += member[:, rows] @ gamma
        means.append((member @ sums.T).T / pairs)
    if len(means) != classes:
        raise ValueError(
            f"angles must have shape (C, N, N) with C = {classes} to go with the counts, "
            f"got C = {len(means)}"
        )
    return np.stack(means, axis=2)


def _membership(labels: IntArray) -> csr_array:
    """Matrix (Z, N) with 1 where the client is in the cluster."""
    clients = labels.size
    return csr_array((np.ones(clients), (labels, np.arange(clients))))
