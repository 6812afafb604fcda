"""Phase 2 as a whole: from the clients' profiles to the proximity matrix (Sec. 3, Algorithm 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.similarity.evidence import Evidence
from feddag_flwr.similarity.fusion import fuse, learn_fusion_weights
from feddag_flwr.similarity.gradient import gradient_dissimilarity
from feddag_flwr.similarity.normalisation import normalise
from feddag_flwr.similarity.subspace import class_angles, data_dissimilarity, seen_counts

Fusion = Literal["evidence", "entropy", "data", "gradient"]
"""How the views become one: by evidence, by Eq. 7 and 8, or one of the two views alone."""


class ProximityOptions(TypedDict):
    """The settings that decide how clients are measured, by the names of the parameters."""

    angle: Literal["vectors", "principal"]
    weight_delta: float
    weight_scope: Literal["shared", "all"]
    fusion: Fusion
    fusion_steps: int


@dataclass(frozen=True, eq=False)
class Proximity:
    """The matrices of phase 2; rows and columns are clients in the order of names.

    Attributes
    ----------
    gradient : ndarray, shape (N, N)
        G (Eq. 3), degrees.
    data : ndarray, shape (N, N), or None
        V (Eq. 6), degrees; None where the fusion does not read it.
    weights : ndarray, shape (N,)
        w of Eq. 7; for evidence the gradient's weight, for every client.
    fused : ndarray, shape (N, N)
        The proximity matrix A (Eq. 7), in [0, 1].
    angles : ndarray, shape (C, N, N), float32
        Class-wise V' (Eq. 4), degrees; phase 4 needs it.
    evidence : Evidence or None
        How views were weighed, where they were fused by evidence.
    pairs : ndarray, shape (N, N) or (N, 0)
        Mean angles of `ClassConditionalDistance`, degrees; for evidence only.
    """

    gradient: NDArray[np.float64]
    data: NDArray[np.float64] | None
    weights: NDArray[np.float64]
    fused: NDArray[np.float64]
    angles: NDArray[np.float32]
    evidence: Evidence | None
    pairs: NDArray[np.float64]


def pack_bases(
    vectors: Sequence[NDArray[np.float32]], classes: Sequence[NDArray[np.int64]], num_classes: int
) -> NDArray[np.float32]:
    """Put the clients' subspaces into one array (N, C, p, d), padded with zero rows.

    `vectors` has a client's unit vectors (rows, d), all classes below each other, `classes` the
    class of each row, ascending. p is the largest number of vectors that any client has of any
    class, at least 1.
    """
    tallies = [np.bincount(of_client, minlength=num_classes) for of_client in classes]
    size = max(1, *(int(tally.max()) for tally in tallies))
    bases = np.zeros((len(vectors), num_classes, size, vectors[0].shape[1]), dtype=np.float32)
    for client, (rows, of_client) in enumerate(zip(vectors, classes, strict=True)):
        first = np.cumsum(tallies[client]) - tallies[client]
        bases[client, of_client, np.arange(len(rows)) - first[of_client]] = rows
    return bases


def measure_proximity(
    updates: NDArray[np.floating[Any]],
    bases: NDArray[np.float32],
    counts: NDArray[np.integer[Any]],
    *,
    names: Sequence[str],
    angle: Literal["vectors", "principal"],
    weight_delta: float,
    weight_scope: Literal["shared", "all"],
    fusion: Fusion,
    fusion_steps: int,
) -> Proximity:
    """Compute G, w and A; V where the fusion reads it.

    Parameters
    ----------
    updates : ndarray, shape (N, k)
        Sparse updates.
    bases : ndarray, shape (N, C, p, d)
        As `pack_bases` makes them.
    counts : ndarray, shape (N, C)
        Samples a class.
    names : sequence of str
        Client names, for errors.
    angle, weight_delta, weight_scope, fusion, fusion_steps
        The settings of the same names; fusion ``data`` and ``gradient`` fix w to 0 and 1.

    Raises
    ------
    ValueError
        A client's update has no direction, or shapes do not agree.
    """
    gradient = gradient_dissimilarity(updates, names)
    angles = class_angles(bases, counts, angle)
    if fusion == "evidence":
        seen = seen_counts(bases, counts)
        evidence, fused, pairs = Evidence.of(gradient, angles, counts, seen)
        weights = np.full(len(gradient), evidence.views["gradient"].weight)
        return Proximity(gradient, None, weights, fused, angles, evidence, pairs)
    scaled_gradient, no_pairs = normalise(gradient).matrix, np.zeros((len(gradient), 0))
    if fusion == "gradient":
        ones = np.ones(len(gradient))
        return Proximity(gradient, None, ones, scaled_gradient, angles, None, no_pairs)
    data = data_dissimilarity(angles, counts, weight_delta, weight_scope)
    scaled_data, weights = normalise(data).matrix, np.zeros(len(gradient))
    if fusion == "entropy":
        weights = learn_fusion_weights(scaled_gradient, scaled_data, steps=fusion_steps)
    fused = fuse(scaled_gradient, scaled_data, weights)
    return Proximity(gradient, data, weights, fused, angles, None, no_pairs)
