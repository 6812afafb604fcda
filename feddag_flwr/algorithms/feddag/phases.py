"""Phases 2 to 4 on profiles: the mathematics, called with the run's settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.clustering.complementarity import Complementarity, complementarity
from feddag_flwr.clustering.selection import choose
from feddag_flwr.clustering.threshold import Candidate, sweep, threshold_grid
from feddag_flwr.settings import Settings
from feddag_flwr.similarity.proximity import Proximity, ProximityOptions, measure_proximity


def options_of(settings: Settings) -> ProximityOptions:
    """Return the settings of phase 2."""
    return {
        "angle": settings.similarity.angle,
        "weight_delta": settings.similarity.weight_delta,
        "weight_scope": settings.similarity.weight_scope,
        "fusion": settings.similarity.fusion,
        "fusion_steps": settings.similarity.fusion_steps,
    }


def proximity_of(
    settings: Settings,
    names: Sequence[str],
    updates: NDArray[np.floating[Any]],
    bases: NDArray[np.float32],
    counts: NDArray[np.integer[Any]],
) -> Proximity:
    """Phase 2: how unlike any two clients are, see `measure_proximity`."""
    return measure_proximity(updates, bases, counts, names=names, **options_of(settings))


def cluster_clients(
    settings: Settings, fused: NDArray[np.float64]
) -> tuple[Sequence[Candidate], Candidate]:
    """Phase 3: the clusterings at all thresholds, and the one that is chosen (Eq. 9, 10)."""
    candidates = sweep(
        fused,
        linkage=settings.clustering.linkage,
        thresholds=threshold_grid(settings.clustering.threshold_step),
        gamma=settings.clustering.size_gamma,
        tau=settings.clustering.size_tau,
        lam=settings.clustering.size_lambda,
    )
    return candidates, choose(candidates, settings.clustering.split_persistence)


def draw_graph(
    settings: Settings,
    counts: NDArray[np.integer[Any]],
    angles: NDArray[np.floating[Any]],
    labels: NDArray[np.intp],
) -> Complementarity:
    """Phase 4: who learns from whom (Eq. 11 to 14)."""
    return complementarity(
        counts, angles, labels, top_k=settings.sharing.top_k, aligned=settings.sharing.alignment
    )
