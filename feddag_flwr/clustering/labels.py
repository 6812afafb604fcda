"""Cluster labels: 0 to Z - 1, numbered by each cluster's first member in client order."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from feddag_flwr.similarity.matrices import IntArray


def canonical_labels(labels: npt.ArrayLike) -> IntArray:
    """Renumber labels (N,) from 0 to Z - 1 by first member, so that a partition has one labelling.

    Examples
    --------
    >>> canonical_labels([7, 2, 7, 0])
    array([0, 1, 0, 2])
    """
    array = np.asarray(labels)
    if array.ndim != 1 or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"labels must be integers of shape (N,), N >= 1, got {array.dtype} {array.shape}"
        )
    _, first, inverse = np.unique(array, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.intp)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def matched_labels(previous: npt.ArrayLike, labels: npt.ArrayLike, count: int) -> IntArray:
    """Renumber labels (N,), below `count`, so that most clients keep the number that they had.

    Numbers from `count` on cannot be kept.

    Examples
    --------
    >>> matched_labels([0, 0, 1, 1], [1, 1, 0, 0], 2)
    array([0, 0, 1, 1])
    """
    old, new = np.asarray(previous), np.asarray(labels)
    keepable = old < count
    kept = np.zeros((count, count), dtype=np.int64)
    np.add.at(kept, (new[keepable], old[keepable]), 1)
    matched: IntArray = linear_sum_assignment(kept, maximize=True)[1][new]
    return matched


def checked_labels(labels: npt.ArrayLike, clients: int) -> IntArray:
    """Return labels of `clients` clients that use every number from 0 to Z - 1."""
    array = np.asarray(labels)
    if array.shape != (clients,) or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"labels must be integers of shape {(clients,)}, got {array.dtype} {array.shape}"
        )
    if array.min() < 0 or array.max() >= clients or np.bincount(array).min() == 0:
        raise ValueError("labels must use every number from 0 to Z - 1")
    return array.astype(np.intp, copy=False)
