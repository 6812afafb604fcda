"""The label-set view: whether two clients hold the same classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from feddag_flwr.similarity.matrices import FloatArray, checked_counts


def label_set_distance(counts: npt.ArrayLike) -> FloatArray:
    r"""Jaccard distances of the sets of classes that clients hold.

    .. math:: P_{ij} = 1 - \frac{|\{c : n_{ic} > 0, n_{jc} > 0\}|}{|\{c : n_{ic} + n_{jc} > 0\}|}

    Parameters
    ----------
    counts : array_like of int, shape (N, C)
        Samples of each class on each client.

    Returns
    -------
    ndarray, shape (N, N)
        In [0, 1], symmetric, 0 on the diagonal; 0 between two clients without samples.

    Raises
    ------
    ValueError
        If the counts are out of their domain.

    Examples
    --------
    >>> label_set_distance([[5, 5, 0], [9, 1, 0], [0, 2, 2]]).round(2)
    array([[0.  , 0.  , 0.67],
           [0.  , 0.  , 0.67],
           [0.67, 0.67, 0.  ]])
    """
    return label_set_distance_to(counts, counts)


def label_set_distance_to(newcomer_counts: npt.ArrayLike, counts: npt.ArrayLike) -> FloatArray:
    """Jaccard distances (M, N) between newcomers' classes and clients': rows of P."""
    held = [(checked_counts(each) > 0).astype(np.float64) for each in (newcomer_counts, counts)]
    both = held[0] @ held[1].T
    either = held[0].sum(axis=1)[:, None] + held[1].sum(axis=1) - both
    distances = np.zeros_like(both)
    np.divide(both, either, out=distances, where=either > 0.0)
    distances[either > 0.0] = 1.0 - distances[either > 0.0]
    return distances
