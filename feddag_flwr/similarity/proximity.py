"""Phase 2 as a whole: from the clients' profiles to the proximity matrix (Sec. 3, Algorithm 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.similarity.class_subspaces import ClassSubspaces
from feddag_flwr.similarity.fusion import fuse, learn_fusion_weights
from feddag_flwr.similarity.gradient import gradient_dissimilarity
from feddag_flwr.similarity.group_tree import GroupTree
from feddag_flwr.similarity.normalisation import normalise
from feddag_flwr.similarity.subspace import Angle, class_angles, data_dissimilarity

Fusion = Literal["evidence", "entropy", "data", "gradient"]
"""How clients are compared: by tests (evidence), by Eq. 7 and 8, or by one of two views alone."""


class ProximityOptions(TypedDict):
    """The settings that decide how clients are measured, by the names of the parameters."""

    angle: Angle
    weight_delta: float
    weight_scope: Literal["shared", "all"]
    fusion: Fusion
    fusion_steps: int
    false_positive_rate: float


@dataclass(frozen=True, eq=False)
class Proximity:
    """The matrices of phase 2; rows and columns are clients in the order of names.

    Attributes
    ----------
    gradient : ndarray, shape (N, N)
        G (Eq. 3), degrees; all 0 where clients send no updates.
    data : ndarray, shape (N, N), or None
        V (Eq. 6), degrees; None where the fusion does not read it.
    weights : ndarray, shape (N,)
        w of Eq. 7; 0 for evidence, which reads no gradient.
    fused : ndarray, shape (N, N)
        The proximity matrix A, in [0, 1]: Eq. 7; for evidence the heights of the tree of tests.
    tree : GroupTree or None
        The tests, for evidence.
    leaves : ndarray, shape (N,) or (0,)
        Leaf of the tree that each client is in.
    """

    gradient: NDArray[np.float64]
    data: NDArray[np.float64] | None
    weights: NDArray[np.float64]
    fused: NDArray[np.float64]
    tree: GroupTree | None = None
    leaves: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp))


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
    profiles: ClassSubspaces,
    *,
    names: Sequence[str],
    angle: Angle,
    weight_delta: float,
    weight_scope: Literal["shared", "all"],
    fusion: Fusion,
    fusion_steps: int,
    false_positive_rate: float,
) -> Proximity:
    """Compute G, w and A; V where the fusion reads it.

    Parameters
    ----------
    updates : ndarray, shape (N, k)
        Sparse updates; k is 0 where clients send none, which evidence alone does without.
    profiles : ClassSubspaces
        Bases as `pack_bases` makes them, and samples a class.
    names : sequence of str
        Client names, for errors.
    angle
        That of the profiles.
    weight_delta, weight_scope, fusion, fusion_steps, false_positive_rate
        The settings of the same names; fusion ``data`` and ``gradient`` fix w to 0 and 1.

    Raises
    ------
    ValueError
        A client's update has no direction, or shapes do not agree.
    """
    del angle
    none_sent = not updates.shape[1]
    gradient = np.zeros((len(names),) * 2) if none_sent else gradient_dissimilarity(updates, names)
    if fusion == "evidence":
        tree, leaves = GroupTree.grow(profiles, false_positive_rate)
        fused = tree.heights[leaves[:, None], leaves]
        return Proximity(gradient, None, np.zeros(len(gradient)), fused, tree, leaves)
    scaled_gradient = normalise(gradient).matrix
    if fusion == "gradient":
        return Proximity(gradient, None, np.ones(len(gradient)), scaled_gradient)
    angles = class_angles(profiles.bases, profiles.counts, profiles.angle)
    data = data_dissimilarity(angles, profiles.counts, weight_delta, weight_scope)
    scaled_data, weights = normalise(data).matrix, np.zeros(len(gradient))
    if fusion == "entropy":
        weights = learn_fusion_weights(scaled_gradient, scaled_data, steps=fusion_steps)
    return Proximity(gradient, data, weights, fuse(scaled_gradient, scaled_data, weights))
