"""What a client tells the server about itself in phase 1, and how large it may be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights


@dataclass(frozen=True, eq=False)
class Profile:
    """What a client tells the server about itself, once (Sec. 3.1, 3.2).

    Attributes
    ----------
    update : ndarray, shape (k,), float32
        The warm-up's update at the common coordinates.
    vectors, vector_classes : ndarray, shapes (rows, d) and (rows,), float32 and int64
        Leading left singular vectors of the classes present, of unit length, by ascending class.
    counts : ndarray, shape (C,), int64
        Training samples a class.
    encoder : Weights
        The warmed-up encoder (Eq. 22 needs it).
    """

    update: NDArray[np.float32]
    vectors: NDArray[np.float32]
    vector_classes: NDArray[np.int64]
    counts: NDArray[np.int64]
    encoder: Weights


def sparse_size(count: int, fraction: float) -> int:
    """Return how many of `count` coordinates are sent: the fraction, but one at least."""
    return max(1, round(fraction * count))


def subspace_size(setting: float, samples: int) -> int:
    """Return p for a class: the setting itself, or below 1 that share of the class's samples."""
    wanted = setting if setting >= 1 else setting * samples
    return max(1, min(round(wanted), samples))
