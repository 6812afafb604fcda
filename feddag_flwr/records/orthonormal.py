"""Rows that must be orthonormal, as far as rounding lets them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.records.values import RecordError

# How far products of vectors may be from those of an orthonormal basis, rounded to float32 (some
# 1e-6): half of what principal angles refuse, so that no client's vectors can stop the server.
ORTHONORMAL = 5e-4


def check_orthonormal(rows: NDArray[np.floating], what: str) -> None:
    """Refuse rows that are not orthonormal.

    Raises
    ------
    RecordError
        Names `what`.
    """
    exact = rows.astype(np.float64)
    if np.abs(exact @ exact.T - np.eye(len(exact))).max() > ORTHONORMAL:
        raise RecordError(f"{what} are not orthonormal")
