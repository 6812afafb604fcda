"""Gradient dissimilarity of clients: the angle between their sparse updates (Sec. 3.1, Eq. 3)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from feddag_flwr.similarity.matrices import FloatArray, row_blocks


def gradient_dissimilarity(
    updates: npt.ArrayLike, names: Sequence[str] | None = None
) -> FloatArray:
    r"""Angles between the clients' updates, Eq. 3 of arXiv 2602.23504.

    .. math:: G_{ij} = \arccos \frac{\langle d_i, d_j \rangle}{|d_i| |d_j|}

    Parameters
    ----------
    updates : array_like of shape (N, k)
        The k kept coordinates of each client's warm-up update; the same coordinates for all.
    names : sequence of str, optional
        The clients' names for error messages; their row numbers when left out.

    Returns
    -------
    ndarray of shape (N, N)
        Degrees in [0, 180]; exactly symmetric, exactly 0 on the diagonal. Two proportional
        updates may come out some 1e-6 degrees apart, as arccos halves the digits near 1.

    Examples
    --------
    >>> gradient_dissimilarity([[1.0, 0.0], [0.0, 2.0]])
    array([[ 0., 90.],
           [90.,  0.]])
    """
    array = np.asarray(updates, dtype=np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"updates must have shape (N, k), N and k >= 1, got {array.shape}")
    unit = _unit_rows(array, names)
    angles = _angles(unit, unit)
    _mirror_upper(angles)
    return angles


def gradient_dissimilarity_to(
    newcomers: npt.ArrayLike, updates: npt.ArrayLike, names: Sequence[str] | None = None
) -> FloatArray:
    """Angles (M, N) between updates of newcomers (M, k) and of clients (N, k): rows of G (Eq. 3).

    As `gradient_dissimilarity`; `names` are the newcomers'.
    """
    array, others = (np.asarray(rows, dtype=np.float64) for rows in (newcomers, updates))
    if array.ndim != 2 or others.ndim != 2 or array.shape[1] != others.shape[1] or 0 in array.shape:
        raise ValueError(
            f"newcomers and updates must have shapes (M, k) and (N, k), M and k >= 1, "
            f"got {array.shape} and {others.shape}"
        )
    return _angles(_unit_rows(array, names), _unit_rows(others, None))


def _angles(left: FloatArray, right: FloatArray) -> FloatArray:
    """Angles (M, N) in degrees between unit rows (M, k) and (N, k)."""
    angles: FloatArray = left @ right.T
    for rows in row_blocks(*angles.shape):
        block = angles[rows]
        np.clip(block, -1.0, 1.0, out=block)
        np.arccos(block, out=block)
        np.degrees(block, out=block)
    return angles


def _unit_rows(updates: FloatArray, names: Sequence[str] | None) -> FloatArray:
    """Scale each row to length 1, or name the clients whose row has no direction."""
    # By the largest entry first, so that squares neither overflow nor vanish.
    largest = np.abs(updates).max(axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(largest[:, 0]) | (largest[:, 0] == 0.0))
    if bad.size:
        clients = ", ".join(names[i] if names is not None else f"number {i}" for i in map(int, bad))
        raise ValueError(f"update is zero or not finite, so it has no direction: client {clients}")
    scaled = updates / largest
    unit: FloatArray = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    return unit


def _mirror_upper(matrix: FloatArray) -> None:
    """Copy the upper triangle to the lower one and clear the diagonal, in place."""
    for rows in row_blocks(*matrix.shape):
        matrix[rows.stop :, rows] = matrix[rows, rows.stop :].T
        corner = np.triu(matrix[rows, rows], 1)
        matrix[rows, rows] = corner + corner.T
