"""Rows of G, V and A for clients that come after the clustering (A.8, Algorithm 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

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
    evidence: Evidence | None  # how their views were weighed, where they were fused by evidence
    pairs: NDArray[np.float64]  # mean angles (R, N) to the founders with evidence, else (R, 0)

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
        size = max(self.bases.shape[2], bases.shape[2])
        return replace(
            self,
            updates=np.concatenate([self.updates, updates]),
            bases=np.concatenate([_padded(self.bases, size), _padded(bases, size)]),
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
        return self.mean_angles(self.evidence, bases, counts, angles)

    def mean_angles(
        self,
        evidence: Evidence,
        bases: NDArray[np.float32],
        counts: NDArray[np.integer[Any]],
        angles: NDArray[np.floating[Any]],
    ) -> NDArray[np.float64]:
        """Mean angles (M, N) of M newcomers to the founders, from V' between them (C, M, N)."""
        founders = slice(len(self.fused))
        here = seen_counts(self.bases[founders], self.counts[founders])
        return evidence.class_conditional.rows(angles, seen_counts(bases, counts), here)


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
) -> NewcomerRows:
    """Give newcomers their rows of G, V and A; nothing of the residents changes.

    By evidence, the founders' weights and scales hold. Else G and V are normalised with the
    founders' minima and maxima, clipped to [0, 1], and fused with the newcomer's own weight:
    learned alone among the founders (`fusion.learn_newcomer_weights`), or fixed. Each newcomer is
    measured as if it had come alone.

    Arrays and settings are as `proximity.measure_proximity` takes them, of M newcomers with any
    number of vectors a class; updates start as the residents' did, at the same coordinates.
    """
    gradient = gradient_dissimilarity_to(updates, residents.updates, names)
    angles = class_angles_to(bases, counts, residents.bases, residents.counts, angle)
    if residents.evidence is not None:
        to_founders = angles[:, :, : len(residents.fused)]
        pairs = residents.mean_angles(residents.evidence, bases, counts, to_founders)
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
