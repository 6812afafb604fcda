"""Where a client belongs that comes after the clustering (A.8, Algorithm 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from feddag_flwr.clustering.labels import checked_labels
from feddag_flwr.clustering.threshold import Linkage
from feddag_flwr.similarity.matrices import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Placement:
    """The cluster of one newcomer.

    Attributes
    ----------
    cluster : int
        Where it goes.
    alone : bool
        Whether no cluster was near enough: the newcomer would be a cluster of its own, and goes to
        the nearest one instead.
    distances : ndarray, shape (Z,)
        Linkage distance of the newcomer to each cluster, on the scale of alpha.
    """

    cluster: int
    alone: bool
    distances: FloatArray


def place(
    proximity: npt.ArrayLike, labels: npt.ArrayLike, threshold: float, linkage: Linkage = "average"
) -> Placement:
    """Place one newcomer by one pass of the linkage, while all others stay where they are.

    The clusters are taken as already merged and the newcomer as a cluster of one. Of its linkage
    distances to the clusters (mean, largest or smallest A to the members) the smallest decides: at
    alpha* or below, the newcomer joins that cluster, which is the one merge that agglomerative
    clustering would make with it. Above alpha* it would stay alone; it then joins the cluster of
    smallest mean A, whatever the linkage. The lower cluster lowest a tie.

    Parameters
    ----------
    proximity : array_like of shape (N,)
        The newcomer's row of A (Eq. 7), in [0, 1].
    labels : array_like of int, shape (N,)
        Cluster of each clustered client, 0 to Z - 1.
    threshold : float
        alpha* of the clustering, at least 0.
    linkage : {"average", "complete", "single"}
        The clustering's linkage.

    Returns
    -------
    Placement
        Cluster, whether the newcomer would have been alone, and the distances.

    Raises
    ------
    ValueError
        If an argument is out of its domain.

    Examples
    --------
    >>> place([0.1, 0.3, 0.9], [0, 0, 1], threshold=0.25).cluster
    0
    """
    row = np.asarray(proximity, dtype=np.float64)
    if row.ndim != 1 or row.size == 0 or not np.all((row >= 0.0) & (row <= 1.0)):
        raise ValueError(f"proximity must be N >= 1 values in [0, 1], got {row}")
    if linkage not in get_args(Linkage):
        raise ValueError(f"linkage must be one of {get_args(Linkage)}, got {linkage!r}")
    if not 0.0 <= threshold < np.inf:
        raise ValueError(f"threshold must be finite and at least 0, got {threshold}")
    label_array = checked_labels(labels, len(row))
    means = _means(row, label_array)
    distances = means if linkage == "average" else _extremes(row, label_array, linkage)
    alone = bool(distances.min() > threshold)
    return Placement(int((means if alone else distances).argmin()), alone, distances)


def _means(row: FloatArray, labels: IntArray) -> FloatArray:
    means: FloatArray = np.bincount(labels, weights=row) / np.bincount(labels)
    return means


def _extremes(row: FloatArray, labels: IntArray, linkage: Linkage) -> FloatArray:
    """Find the largest (complete) or smallest (single) value of each cluster."""
    complete = linkage == "complete"
    found = np.full(int(labels.max()) + 1, -np.inf if complete else np.inf)
    (np.maximum if complete else np.minimum).at(found, labels, row)
    return found
