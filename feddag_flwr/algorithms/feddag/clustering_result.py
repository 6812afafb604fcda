"""Phases 2 to 4 with the run's settings: what they make of profiles, and how it is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.clustering.complementarity import (
    Complementarity,
    complementarity,
    drawn_members,
)
from feddag_flwr.clustering.selection import choose
from feddag_flwr.clustering.threshold import Candidate, sweep, threshold_grid
from feddag_flwr.run_folder import PROXIMITY, RunFolder
from feddag_flwr.settings import Settings
from feddag_flwr.similarity.class_subspaces import ANGLES_KEPT, ClassSubspaces
from feddag_flwr.similarity.group_tree import Part
from feddag_flwr.similarity.odd_clients import OddClient
from feddag_flwr.similarity.proximity import Proximity, ProximityOptions
from feddag_flwr.state import ServerState


def options_of(settings: Settings) -> ProximityOptions:
    """Return the settings of phase 2."""
    return {
        "angle": settings.similarity.angle,
        "weight_delta": settings.similarity.weight_delta,
        "weight_scope": settings.similarity.weight_scope,
        "fusion": settings.similarity.fusion,
        "fusion_steps": settings.similarity.fusion_steps,
        "false_positive_rate": settings.similarity.false_positive_rate,
    }


def cluster_clients(
    settings: Settings, proximity: Proximity
) -> tuple[Sequence[Candidate], Candidate]:
    """Phase 3: the clusterings at all thresholds, and the one that is chosen (Eq. 9, 10).

    Where tests have parted the clients, each of their levels is a candidate and the lowest one is
    chosen: all that they parted stays apart.
    """
    tested = proximity.tree is not None
    thresholds = threshold_grid(settings.clustering.threshold_step)
    if proximity.tree is not None:
        levels = np.unique([0.0, *proximity.tree.heights.flat, 1.0])
        thresholds = [*((levels[:-1] + levels[1:]) / 2.0), 1.0]
    candidates = sweep(
        proximity.fused,
        linkage=settings.clustering.linkage,
        thresholds=thresholds,
        gamma=settings.clustering.size_gamma,
        tau=settings.clustering.size_tau,
        lam=settings.clustering.size_lambda,
    )
    if tested:
        return candidates, candidates[0]
    return candidates, choose(candidates, settings.clustering.split_persistence)


def draw_graph(
    settings: Settings, profiles: ClassSubspaces, labels: NDArray[np.intp]
) -> Complementarity:
    """Phase 4: who learns from whom (Eq. 11 to 14).

    Of more clients than angles are kept of, each cluster is compared by some that are drawn.
    """
    rows = drawn_members(labels) if len(labels) > ANGLES_KEPT else np.arange(len(labels))
    compared = profiles.only(rows) if len(rows) < len(labels) else profiles
    return complementarity(
        profiles.counts,
        compared.angles_by_class(),
        labels,
        top_k=settings.sharing.top_k,
        aligned=settings.sharing.alignment,
        rows=rows,
    )


@dataclass(frozen=True, eq=False)
class ClusteringResult:
    """One clustering of N clients, in the order of names.

    `chosen` is the candidate at alpha* (phase 3), `labels` (N,) its clusters, numbered as they are
    used, `counts` (N, C) samples a class; no `graph` (phase 4) where it has no say; `odd` are
    single clients that are unlike their cluster.
    """

    names: list[str]
    counts: NDArray[np.integer[Any]]
    proximity: Proximity
    candidates: Sequence[Candidate]
    chosen: Candidate
    labels: NDArray[np.intp]
    graph: Complementarity | None
    odd: Sequence[OddClient] = ()

    def clusters(self) -> list[list[str]]:
        """Return the members of each cluster."""
        return [
            [name for name, label in zip(self.names, self.labels, strict=True) if label == z]
            for z in range(self.chosen.num_clusters)
        ]

    def reasons(self) -> str:
        """Say what the clients were parted by."""
        if (tree := self.proximity.tree) is None:
            return f"mean fusion weight {float(self.proximity.weights.mean()):.2f}"
        partings = Counter(part.view for part in tree.root.partings())
        if not partings:
            told = ", ".join(f"{view} p = {p:.3f}" for view, p in tree.root.chances.items())
            level = f"{tree.root.level:.3g}"
            return f"no view shows more than chance ({told or 'none can tell'}; needed {level})"
        return "parted by " + ", ".join(
            f"{view} ({count} {'test' if count == 1 else 'tests'})"
            for view, count in partings.items()
        )

    def oddities(self, class_names: Sequence[str]) -> dict[str, str]:
        """Say of each odd client, by name, what is odd about it."""
        told = {}
        for one in self.odd:
            pairs = ", ".join(
                f"{class_names[left]!r} and {class_names[right]!r}" for left, right in one.exchanged
            )
            what = "its classes look unlike those of all others there"
            if pairs:
                what = f"its classes {pairs} look exchanged"
            told[self.names[one.row]] = f"{what} (p = {one.chance:.3g})"
        return told

    def write(self, folder: RunFolder, state: ServerState) -> None:
        """Write ``proximity.npz`` and ``clustering.json``."""
        proximity = self.proximity
        arrays = {
            "clients": np.array(self.names),
            "counts": self.counts,
            "gradient": proximity.gradient,
            "fusion-weights": proximity.weights,
            "fused": proximity.fused,
        }
        if proximity.data is not None:
            arrays["data"] = proximity.data
        folder.write_arrays(PROXIMITY, arrays)
        folder.write_json(
            "clustering.json",
            {
                "threshold": self.chosen.threshold,
                "num-clusters": self.chosen.num_clusters,
                "tests": proximity.tree and _tests(proximity.tree.root),
                "sweep": [_sweep_row(candidate) for candidate in self.candidates],
                "assignments": state.assignments,
                "teachers": [list(row) for row in state.teachers],
                "odd-clients": self.oddities(state.class_names),
                **_graph(self.graph),
            },
        )


def _tests(part: Part) -> dict[str, Any]:
    """Return the tree of tests: clients, p-values, the level that was needed, what parted them."""
    return {
        "clients": part.clients,
        "p-values": part.chances,
        "level": part.level,
        "parted-by": part.view or None,
        "parts": [_tests(child) for child in part.children],
    }


def _graph(graph: Complementarity | None) -> dict[str, Any]:
    """Return the scores of Eq. 14 with demand and supply, where the graph was drawn."""
    if graph is None:
        return {}
    return {
        "scores": [
            [None if p == q else float(score) for q, score in enumerate(row)]
            for p, row in enumerate(graph.scores)
        ],
        "demand": graph.demand.tolist(),
        "supply": graph.supply.tolist(),
    }


def _finite(value: float) -> float | None:
    """JSON knows no infinity: a size penalty that overflowed is written as null."""
    return value if np.isfinite(value) else None


def _sweep_row(candidate: Candidate) -> dict[str, Any]:
    return {
        "threshold": candidate.threshold,
        "num-clusters": candidate.num_clusters,
        "loss": _finite(candidate.loss),
        "loss-within": candidate.within,
        "loss-size": _finite(candidate.size),
    }
