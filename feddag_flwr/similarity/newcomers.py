"""Rows of G, V and A for clients that come after the clustering (A.8, Algorithm 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.similarity.class_conditional_distance import ClassConditionalDistance
from feddag_flwr.similarity.evidence import Evidence
from feddag_flwr.similarity.fusion import learn_newcomer_weights
from feddag_flwr.similarity.gradient import gradient_dissimilarity_to
from feddag_flwr.similarity.normalisation import Scale, normalise
from feddag_flwr.similarity.proximity import Fusion, Proximity
from feddag_flwr.similarity.subspace import (
    Angle,
    class_angles_to,
    data_dissimilarity_to,
    seen_counts,
)


@dataclass(frozen=True, eq=False)
class ProfileArrays:
    """The clients that have a place, as newcomers are measured against them.

    The first N are those that were clustered together, the founders: they set the scales, and a
    newcomer's fusion weight is learned among them. Those placed since come after.

    Attributes
    ----------
    updates : ndarray, shape (R, k), R >= N
    bases : ndarray, shape (R, C, p, d)
    counts : ndarray, shape (R, C)
        What `feddag_flwr.similarity.proximity.measure_proximity` was given, and the same of those
        placed since.
    gradient, data : Scale
        Minimum and maximum of the founders' G and V, with which newcomers' rows are normalised; no
        `data` where the fusion does not read V.
    fused : ndarray, shape (N, N)
        The founders' A of Eq. 7.
    evidence : Evidence or None
        How the founders' views were weighed, where they were fused by evidence.
    pairs : ndarray, shape (R, N) or (R, 0)
        With evidence the mean angles of all residents to the founders, degrees.
    """

    updates: NDArray[np.floating[Any]]
    bases: NDArray[np.float32]
    counts: NDArray[np.integer[Any]]
    gradient: Scale
    data: Scale | None
    fused: NDArray[np.float64]
    evidence: Evidence | None
    pairs: NDArray[np.float64]

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
            proximity.fused, proximity.evidence, proximity.pairs,
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
            pairs=self.pairs[kept],
        )

    def joined_by(
        self,
        updates: NDArray[np.floating[Any]],
        bases: NDArray[np.float32],
        counts: NDArray[np.integer[Any]],
        angle: Angle,
    ) -> ProfileArrays:
        """Add rows of M newcomers at the end; scales and founders stay."""
        mine, theirs = _same_size(self.bases, bases)
        return replace(
            self,
            updates=np.concatenate([self.updates, updates]),
            bases=np.concatenate([mine, theirs]),
            counts=np.concatenate([self.counts, counts]),
            pairs=np.concatenate([self.pairs, self.pairs_of(bases, counts, angle)]),
        )

    def pairs_of(
        self, bases: NDArray[np.float32], counts: NDArray[np.integer[Any]], angle: Angle
    ) -> NDArray[np.float64]:
        """Mean angles (M, N) of M newcomers to the founders; (M, 0) without evidence."""
        if self.evidence is None:
            return np.zeros((len(counts), 0))
        founders = slice(len(self.fused))
        angles = class_angles_to(bases, counts, self.bases[founders], self.counts[founders], angle)
        return _mean_angles(self.evidence.class_conditional, self, bases, counts, angles)


def _mean_angles(
    class_conditional: ClassConditionalDistance,
    residents: ProfileArrays,
    bases: NDArray[np.float32],
    counts: NDArray[np.integer[Any]],
    angles: NDArray[np.floating[Any]],
) -> NDArray[np.float64]:
    """Mean angles (M, N) of M newcomers to the founders, from V' between them (C, M, N)."""
    founders = slice(len(residents.fused))
    here = seen_counts(residents.bases[founders], residents.counts[founders])
    return class_conditional.rows(angles, seen_counts(bases, counts), here)


def _same_size(
    one: NDArray[np.float32], two: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pad bases (.., p, d) with rows of zeros, which stand for no vector, to one number p."""
    rows = max(one.shape[2], two.shape[2])

    def padded(bases: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.pad(bases, ((0, 0), (0, 0), (0, rows - bases.shape[2]), (0, 0)))

    return padded(one), padded(two)


@dataclass(frozen=True, eq=False)
class NewcomerRows:
    """M newcomers against R residents.

    Attributes
    ----------
    gradient, data : ndarray, shape (M, R)
        Rows of G and V (Eq. 3, 6), degrees; no `data` where the fusion does not read V.
    weights : ndarray, shape (M,)
        The newcomers' own w of Eq. 7.
    fused : ndarray, shape (M, R)
        Rows of A (Eq. 7), in [0, 1].
    """

    gradient: NDArray[np.float64]
    data: NDArray[np.float64] | None
    weights: NDArray[np.float64]
    fused: NDArray[np.float64]


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
) -> NewcomerRows:
    """Give newcomers their rows of G, V and A; nothing of the residents changes.

    By evidence, the founders' weights and scales hold. Else G and V are normalised with the
    founders' minima and maxima, clipped to [0, 1], and fused with the newcomer's own weight:
    learned alone among the founders (see
    `feddag_flwr.similarity.fusion.learn_newcomer_weights`), or fixed. Each newcomer is measured as
    if it had come alone.

    Parameters
    ----------
    residents : ProfileArrays
        The clients that have a place.
    updates : ndarray, shape (M, k)
        Newcomers' sparse updates, from the same start and at the same coordinates.
    bases : ndarray, shape (M, C, q, d)
        As `feddag_flwr.similarity.proximity.pack_bases` makes them.
    counts : ndarray, shape (M, C)
        Samples a class.
    names : sequence of str
        Newcomers' names, for errors.
    angle, weight_delta, weight_scope, fusion, fusion_steps
        The settings of the same names, as the clustered clients were measured with.

    Raises
    ------
    ValueError
        A newcomer's update has no direction, or shapes do not agree.
    """
    gradient = gradient_dissimilarity_to(updates, residents.updates, names)
    angles = class_angles_to(bases, counts, residents.bases, residents.counts, angle)
    if residents.evidence is not None:
        to_founders = angles[:, :, : len(residents.fused)]
        class_conditional = residents.evidence.class_conditional
        pairs = _mean_angles(class_conditional, residents, bases, counts, to_founders)
        fused = residents.evidence.rows(gradient, counts, residents.counts, pairs, residents.pairs)
        weights = np.full(len(gradient), residents.evidence.views["gradient"].weight)
        return NewcomerRows(gradient, None, weights, fused)
    scaled_gradient = residents.gradient.apply(gradient)
    if fusion == "gradient" or residents.data is None:
        return NewcomerRows(gradient, None, np.ones(len(gradient)), scaled_gradient)
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
