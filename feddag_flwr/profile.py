"""What a client tells the server about itself in phase 1, and how large it may be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights

DIRECTIONS = 10  # leading directions of all of a client's samples, where some are asked for


@dataclass(frozen=True, eq=False)
class LeadingDirections:
    """Where a client's samples lie, whatever their labels.

    Attributes
    ----------
    vectors : ndarray, shape (q, d), float32
        Leading principal vectors of all samples, not centred: orthonormal rows.
    shares : ndarray, shape (q,), float64
        Share of the samples' mean square that lies in each.
    """

    vectors: NDArray[np.float32]
    shares: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Profile:
    """What a client tells the server about itself, once (Sec. 3.1, 3.2).

    Attributes
    ----------
    update : ndarray, shape (k,), float32
        The warm-up's update at the common coordinates; none, (0,), of a private profile.
    vectors, vector_classes : ndarray, shapes (rows, d) and (rows,), float32 and int64
        Leading left singular vectors of the classes present, of unit length, by ascending class.
    counts : ndarray, shape (C,), int64
        Training samples a class; noisy ones of a private profile.
    encoder : Weights
        The warmed-up encoder (Eq. 22 needs it); no weights of a private profile.
    directions : LeadingDirections or None
        Where they are asked for (setting ``unlabelled`` = place).
    looks : ndarray of float64, or None
        How the classes look (`feddag_flwr.similarity.looks`), where it is asked for (setting
        ``looks-level``).
    """

    update: NDArray[np.float32]
    vectors: NDArray[np.float32]
    vector_classes: NDArray[np.int64]
    counts: NDArray[np.int64]
    encoder: Weights
    directions: LeadingDirections | None = None
    looks: NDArray[np.float64] | None = None


def sparse_size(count: int, fraction: float) -> int:
    """Return how many of `count` coordinates are sent: the fraction, but one at least."""
    return max(1, round(fraction * count))


def subspace_size(setting: float, samples: int) -> int:
    """Return p for a class: the setting itself, or below 1 that share of the class's samples."""
    wanted = setting if setting >= 1 else setting * samples
    return max(1, min(round(wanted), samples))
