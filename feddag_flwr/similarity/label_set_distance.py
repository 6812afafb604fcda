"""The label-set view: whether two clients hold the same classes."""

import numpy as np
import numpy.typing as npt

from feddag_flwr.similarity.matrices import FloatArray, checked_counts


def label_set_distance(counts: npt.ArrayLike) -> FloatArray:
    r"""Jaccard distances (N, N) of the sets of classes that clients hold; 0 where two hold none.

    .. math:: P_{ij} = 1 - \frac{|\{c : n_{ic} > 0, n_{jc} > 0\}|}{|\{c : n_{ic} + n_{jc} > 0\}|}

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
    left, right = ((checked_counts(of) > 0).astype(np.float64) for of in (newcomer_counts, counts))
    both = left @ right.T
    either = left.sum(axis=1)[:, None] + right.sum(axis=1) - both
    shared = np.divide(both, either, out=np.ones_like(both), where=either > 0.0)
    distances: FloatArray = 1.0 - shared
    return distances
