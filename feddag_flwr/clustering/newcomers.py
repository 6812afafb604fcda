"""Where a client belongs that comes after the clustering (A.8, Algorithm 4)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feddag_flwr.clustering.labels import checked_labels
from feddag_flwr.clustering.threshold import Linkage
from feddag_flwr.similarity.matrices import FloatArray


@dataclass(frozen=True, eq=False)
class Placement:
    """The cluster of one newcomer."""

    cluster: int  # where it goes
    alone: bool  # no cluster was near enough; it goes to the nearest one all the same
    distances: FloatArray  # (Z,) linkage distances to the clusters, on the scale of alpha


def place(
    proximity: npt.ArrayLike, labels: npt.ArrayLike, threshold: float, linkage: Linkage = "average"
) -> Placement:
    """Place one newcomer by one pass of the linkage, while all others stay where they are.

    The clusters are taken as already merged and the newcomer as a cluster of one. Of its linkage
    distances to the clusters (mean, largest or smallest A to the members) the smallest decides: at
    alpha*, the `threshold`, or below, the newcomer joins that cluster, which is the one merge that
    agglomerative clustering would make with it. Above alpha* it would stay alone; it then joins the
    cluster of smallest mean A, whatever the linkage. The lower cluster wins a tie.

    Parameters
    ----------
    proximity : array_like of shape (N,)
        The newcomer's row of A (Eq. 7), in [0, 1].
    labels : array_like of int, shape (N,)
        Cluster of each clustered client, 0 to Z - 1.

    Examples
    --------
    >>> place([0.1, 0.3, 0.9], [0, 0, 1], threshold=0.25).cluster
    0
    """
    row = np.asarray(proximity, dtype=np.float64)
    if row.ndim != 1 or row.size == 0 or not np.all((row >= 0.0) & (row <= 1.0)):
        raise ValueError(f"proximity must be N >= 1 values in [0, 1], got {row}")
    label_array = checked_labels(labels, len(row))
    means: FloatArray = np.bincount(label_array, weights=row) / np.bincount(label_array)
    distances = means
    if linkage == "complete":
        distances = np.full(len(means), -np.inf)
        np.maximum.at(distances, label_array, row)
    elif linkage == "single":
        distances = np.full(len(means), np.inf)
        np.minimum.at(distances, label_array, row)
    alone = bool(distances.min() > threshold)
    return Placement(int((means if alone else distances).argmin()), alone, distances)
