"""Rows of G, V and A for clients that come after the clustering (A.8, Algorithm 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.similarity.class_subspaces import ClassSubspaces
from feddag_flwr.similarity.fusion import learn_newcomer_weights
from feddag_flwr.similarity.gradient import gradient_dissimilarity_to
from feddag_flwr.similarity.group_tree import GroupTree
from feddag_flwr.similarity.normalisation import Scale, normalise
from feddag_flwr.similarity.proximity import Fusion, Proximity
from feddag_flwr.similarity.subspace import (
    Angle,
    class_angles_to,
    data_dissimilarity_to,
)


@dataclass(frozen=True, eq=False)
class ProfileArrays:
    """The clients that have a place, as newcomers are measured against them.

    The first N of R are those that were clustered together, the founders: they set the scales, and
    a newcomer's fusion weight is learned among them. Those placed since come after. Of all there is
    what `proximity.measure_proximity` was given.
    """

    updates: NDArray[np.floating[Any]]  # (R, k)
    bases: NDArray[np.float32]  # (R, C, p, d)
    counts: NDArray[np.integer[Any]]  # (R, C)
    gradient: Scale  # the founders' range of G
    data: Scale | None  # and of V, where the fusion reads it
    fused: NDArray[np.float64]  # (N, N), the founders' A of Eq. 7
    tree: GroupTree | None = None  # the tests, where the founders were compared by evidence
    leaves: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp))  # (R,)

    @classmethod
    def of(
        cls,
        updates: NDArray[np.floating[Any]],
        bases: NDArray[np.float32],
        counts: NDArray[np.integer[Any]],
        proximity: Proximity,
    ) -> ProfileArrays:
        """Keep what phase 2 was given, and the scales of what it found."""
        gradient = normalise(proximity.gradient).scale
        data = None if proximity.data is None else normalise(proximity.data).scale
        return cls(
            updates, bases, counts, gradient, data,
            proximity.fused, proximity.tree, proximity.leaves,
        )  # fmt: skip

    def only(self, rows: Sequence[int]) -> ProfileArrays:
        """Keep some rows, those of all founders among them."""
        if len(rows) == len(self.updates):
            return self
        kept = list(rows)
        return replace(
            self,
            updates=self.updates[kept],
            bases=self.bases[kept],
            counts=self.counts[kept],
            leaves=self.leaves[kept] if self.tree else self.leaves,
        )

    def joined_by(
        self,
        updates: NDArray[np.floating[Any]],
        bases: NDArray[np.float32],
        counts: NDArray[np.integer[Any]],
        angle: Angle,
    ) -> ProfileArrays:
        """Add rows of M newcomers at the end; scales and founders stay."""
        size = max(self.bases.shape[2], bases.shape[2])
        return replace(
            self,
            updates=np.concatenate([self.updates, updates]),
            bases=np.concatenate([_padded(self.bases, size), _padded(bases, size)]),
            counts=np.concatenate([self.counts, counts]),
            leaves=np.concatenate([self.leaves, self.leaves_of(bases, counts, angle)]),
        )

    def leaves_of(
        self, bases: NDArray[np.float32], counts: NDArray[np.integer[Any]], angle: Angle
    ) -> NDArray[np.intp]:
        """Leaf of the founders' tree for M newcomers (M,); none, (0,), without a tree."""
        if self.tree is None:
            return np.zeros(0, dtype=np.intp)
        founders = slice(len(self.fused))
        data = ClassSubspaces(self.bases[founders], self.counts[founders], angle)
        return self.tree.place(data, ClassSubspaces(bases, counts, angle))


def _padded(bases: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Pad bases (.., p, d) with rows of zeros, which stand for no vector, to `size` of them."""
    return np.pad(bases, ((0, 0), (0, 0), (0, size - bases.shape[2]), (0, 0)))


@dataclass(frozen=True, eq=False)
class NewcomerRows:
    """Rows of M newcomers against R residents."""

    gradient: NDArray[np.float64]  # (M, R), G of Eq. 3, degrees
    data: NDArray[np.float64] | None  # (M, R), V of Eq. 6, degrees, where the fusion reads it
    weights: NDArray[np.float64]  # (M,), the newcomers' own w of Eq. 7
    fused: NDArray[np.float64]  # (M, R), A of Eq. 7, in [0, 1]


def measure_newcomers(
    residents: ProfileArrays,
    updates: NDArray[np.floating[Any]],
    bases: NDArray[np.float32],
    counts: NDArray[np.integer[Any]],
    *,
    names: Sequence[str],
    angle: Angle,
    weight_delta: float,
    weight_scope: Literal["shared", "all"],
    fusion: Fusion,
    fusion_steps: int,
    false_positive_rate: float,
) -> NewcomerRows:
    """Give newcomers their rows of G, V and A; nothing of the residents changes.

    By evidence, newcomers go down the founders' tree of tests, and are as far from a resident as
    their leaves are. Else G and V are normalised with the founders' minima and maxima,
    clipped to [0, 1], and fused with the newcomer's own weight: learned alone among the founders
    (`fusion.learn_newcomer_weights`), or fixed. Each newcomer is measured as if it had come alone.

    Arrays and settings are as `proximity.measure_proximity` takes them, of M newcomers with any
    number of vectors a class; updates start as the residents' did, at the same coordinates.
    """
    del false_positive_rate
    gradient = np.zeros((len(updates), len(residents.updates)))
    if updates.shape[1]:
        gradient = gradient_dissimilarity_to(updates, residents.updates, names)
    if residents.tree is not None:
        leaves = residents.leaves_of(bases, counts, angle)
        fused = residents.tree.heights[leaves[:, None], residents.leaves]
        return NewcomerRows(gradient, None, np.zeros(len(gradient)), fused)
    scaled_gradient = residents.gradient.apply(gradient)
    if fusion == "gradient" or residents.data is None:
        return NewcomerRows(gradient, None, np.ones(len(gradient)), scaled_gradient)
    angles = class_angles_to(bases, counts, residents.bases, residents.counts, angle)
    data = data_dissimilarity_to(
        angles, counts, residents.counts, weight_delta, weight_scope, len(residents.fused)
    )
    scaled_data, weights = residents.data.apply(data), np.zeros(len(gradient))
    if fusion == "entropy":
        founders = slice(len(residents.fused))
        weights = learn_newcomer_weights(
            scaled_gradient[:, founders],
            scaled_data[:, founders],
            residents.fused,
            steps=fusion_steps,
        )
    fused = weights[:, None] * scaled_gradient + (1.0 - weights[:, None]) * scaled_data
    return NewcomerRows(gradient, data, weights, fused)
