"""Means and deviations of columns of numbers: what clients say, and the federation's scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.modalities.base import ModalityError, Rows

# Share of a column's mean square below which its variance is rounding.
ROUNDING = 1e-12

PLAIN = (0.0, 1.0)


def deviation_rows(means: NDArray[np.float64], squares: NDArray[np.float64]) -> Rows:
    """Return mean and deviation of each column from mean and mean square, shapes (d,).

    A constant column has deviation 1: it becomes 0.
    """
    variances = squares - means**2
    constant = variances <= ROUNDING * squares
    deviations = np.sqrt(np.where(constant, 1.0, variances))
    return tuple(zip(means.tolist(), deviations.tolist(), strict=True))


def mean_rows(values: NDArray[np.floating]) -> Rows:
    """Return mean and mean square of each column of values (n, d)."""
    exact = values.astype(np.float64)
    return tuple(zip(exact.mean(axis=0).tolist(), (exact**2).mean(axis=0).tolist(), strict=True))


def pooled_rows(moments: Sequence[Rows], weights: NDArray[np.float64]) -> Rows:
    """Return the federation's mean and deviation a column, from clients' means and squares."""
    means, squares = np.einsum("i,icm->mc", weights, np.array(moments))
    return deviation_rows(means, squares)


def check_length(what: str, rows: Rows, count: int, width: int, unit: str) -> None:
    """Refuse rows that are not `width` numbers for each of `count` columns or channels."""
    if len(rows) != count or any(len(row) != width for row in rows):
        raise ModalityError(f"{what} must be {width} numbers for each of {count} {unit}")


def check_mean_rows(rows: Rows, count: int, unit: str) -> None:
    """Refuse a mean and mean square that no numbers have."""
    check_length("moments", rows, count, 2, unit)
    # Square of the mean <= mean square; rounding gets a little room.
    if any(mean * mean > square * (1 + 1e-6) for mean, square in rows):
        raise ModalityError("moments: the square of a mean exceeds the mean square")


def check_deviation_rows(rows: Rows, count: int, unit: str) -> None:
    """Refuse deviations that are not positive."""
    check_length("scale", rows, count, 2, unit)
    if any(deviation <= 0 for _, deviation in rows):
        raise ModalityError("scale: deviations must be positive")


def scaled(values: NDArray[np.floating], scale: Rows) -> NDArray[np.float64]:
    """Shift and scale the last axis of values: (v - mean) / deviation."""
    means, deviations = np.array(scale, dtype=np.float64).reshape(-1, 2).T
    rows: NDArray[np.float64] = (values - means) / deviations
    return rows
