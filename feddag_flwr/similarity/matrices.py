"""Shared checks and blocking of the client-by-client matrices; types of the mathematics."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]  # of every result matrix but the class-wise angles
AngleArray = npt.NDArray[np.float32]  # class-wise angles, the largest thing on the server
IntArray = npt.NDArray[np.intp]  # class counts and cluster labels
BLOCK_ENTRIES = 1 << 20  # of a row block (8 MiB), the unit in which N x N work is done


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Cut `rows` rows of `columns` entries into slices of at most about `BLOCK_ENTRIES`."""
    step = max(1, BLOCK_ENTRIES // max(1, columns))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def checked_dissimilarity(matrix: npt.ArrayLike, name: str) -> FloatArray:
    """Return a matrix (N, N), N >= 1, in double precision, or say how it is no dissimilarity.

    It must be symmetric, finite, non-negative and zero on the diagonal; errors call it `name`.
    """
    array = np.asarray(matrix, dtype=np.float64)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or array.shape[0] == 0:
        raise ValueError(f"{name} must be a square matrix (N, N), N >= 1, got shape {array.shape}")
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):  # NaN passes through min and max
        raise ValueError(f"{name} must be finite")
    if low < 0.0:
        raise ValueError(f"{name} must not be negative, its smallest entry is {low}")
    if np.any(np.diagonal(array)):
        raise ValueError(f"{name} must be zero on the diagonal")
    if not np.array_equal(array, array.T):
        raise ValueError(f"{name} must be symmetric")
    return array


def checked_counts(counts: npt.ArrayLike) -> IntArray:
    """Return samples of each class (N, C), whole and non-negative, as integers."""
    array = np.asarray(counts)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"counts must have shape (N, C), N and C >= 1, got {array.shape}")
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"counts must be integers, got {array.dtype}")
    if array.min() < 0:
        client, label = np.unravel_index(int(array.argmin()), array.shape)
        raise ValueError(
            f"counts must not be negative: client {client} has {array.min()} of class {label}"
        )
    return array.astype(np.intp, copy=False)


def checked_angles(angles: npt.NDArray[Any], clients: int, classes: int) -> AngleArray:
    """Return the class-wise angles as float32 after checking their shape is (C, N, N)."""
    array = np.asarray(angles)
    if array.shape != (classes, clients, clients):
        raise ValueError(
            f"angles must have shape (C, N, N) = {(classes, clients, clients)} "
            f"to go with the counts, got {array.shape}"
        )
    return array.astype(np.float32, copy=False)
