"""Profiles of the clients that have a cluster, and where newcomers belong among them (A.8)."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.checkpoints import AlgorithmState
from feddag_flwr.clustering.newcomers import place
from feddag_flwr.clustering.threshold import Linkage
from feddag_flwr.similarity.evidence import Evidence
from feddag_flwr.similarity.newcomers import ProfileArrays, measure_newcomers
from feddag_flwr.similarity.normalisation import Scale
from feddag_flwr.similarity.proximity import ProximityOptions, pack_bases
from feddag_flwr.strategies.profiling import Profiles

logger = logging.getLogger("flwr")


@dataclass
class ProfileStore:
    """The profiles by which newcomers are placed (Algorithm 4).

    Attributes
    ----------
    profiles_known : ProfileArrays
        Founders, then those placed since, a row each.
    names : list of str or None
        Client of each row; None where a newer profile of that client has come in.
    threshold : float
        alpha* of the clustering.
    linkage : {"average", "complete", "single"}
        Of the clustering.
    options : ProximityOptions
        As the founders were measured with.
    """

    profiles_known: ProfileArrays
    names: list[str | None]
    threshold: float
    linkage: Linkage
    options: ProximityOptions

    def __post_init__(self) -> None:
        self._rows = _rows(self.names)

    @property
    def placed_since(self) -> int:
        """Clients whose profile has come in since the clustering."""
        return len(self.names) - len(self.profiles_known.fused)

    def founders(self) -> set[str]:
        """Return the clients that were clustered together, as far as nothing newer has come in."""
        return {name for name in self.names[: len(self.profiles_known.fused)] if name is not None}

    def place(self, profiles: Profiles, assignments: Mapping[str, int]) -> dict[str, int]:
        """Find the cluster of clients that come in; nobody else moves.

        Parameters
        ----------
        profiles : Profiles
            Of the newcomers.
        assignments : mapping of str to int
            Cluster of each client that newcomers can be compared with.

        Returns
        -------
        dict of str to int
            By name; empty when there is nobody to compare with.
        """
        near = {name: row for name, row in self._rows.items() if name in assignments}
        if not near:
            return {}
        found = measure_newcomers(
            self.profiles_known,
            profiles.updates,
            self._bases(profiles),
            profiles.counts,
            names=profiles.names,
            **self.options,
        )
        clusters, labels = np.unique([assignments[name] for name in near], return_inverse=True)
        columns = list(near.values())
        placed = {}
        for name, row in zip(profiles.names, found.fused, strict=True):
            placement = place(row[columns], labels, self.threshold, self.linkage)
            placed[name] = int(clusters[placement.cluster])
            if placement.alone:
                logger.warning(
                    "newcomer %s is %.3f from the nearest cluster, above alpha* = %.3f: "
                    "it joins cluster %d, nearest by mean, instead of being alone",
                    name, placement.distances.min(), self.threshold, placed[name],
                )  # fmt: skip
        return placed

    def take_in(self, profiles: Profiles) -> None:
        """Keep the profiles of clients that have come in, in place of older ones of theirs.

        A founder's older row stays, without a name, for the scales and weights that it set.
        """
        newer, founders = set(profiles.names), len(self.profiles_known.fused)
        names = [None if name in newer else name for name in self.names]
        kept = [row for row, name in enumerate(names) if row < founders or name is not None]
        self.names = [*(names[row] for row in kept), *profiles.names]
        self.profiles_known = self.profiles_known.only(kept).joined_by(
            profiles.updates, self._bases(profiles), profiles.counts, self.options["angle"]
        )
        self._rows = _rows(self.names)

    def counts_of(self, name: str) -> tuple[int, ...]:
        """Return a client's samples of each class in its profile; none where it has no profile."""
        if name not in self._rows:
            return ()
        return tuple(self.profiles_known.counts[self._rows[name]].tolist())

    def present(self) -> tuple[list[str], NDArray[np.intp]]:
        """Return the clients that have a profile, in the order of names, and their rows."""
        return list(self._rows), np.array(list(self._rows.values()), dtype=np.intp)

    def state_dict(self) -> AlgorithmState:
        """Return all of it for a checkpoint."""
        profiles_known = self.profiles_known
        scales = {
            view: [scale.minimum, scale.maximum]
            for view, scale in (
                ("gradient", profiles_known.gradient),
                ("data", profiles_known.data),
            )
        }
        return AlgorithmState(
            {
                "profiles_known": {
                    "updates": profiles_known.updates,
                    "bases": profiles_known.bases,
                    "counts": profiles_known.counts,
                    "pairs": profiles_known.pairs,
                },
                "founders": {"fused": profiles_known.fused},
            },
            {
                "names": self.names,
                "threshold": self.threshold,
                "scales": scales,
                "evidence": profiles_known.evidence and profiles_known.evidence.notes(),
            },
        )

    @classmethod
    def load_state_dict(
        cls, memory: AlgorithmState, linkage: Linkage, options: ProximityOptions
    ) -> ProfileStore:
        """Make what `memory` returned."""
        arrays, notes = memory.arrays["profiles_known"], memory.notes
        profiles_known = ProfileArrays(
            arrays["updates"],
            arrays["bases"],
            arrays["counts"],
            Scale(*notes["scales"]["gradient"]),
            Scale(*notes["scales"]["data"]),
            memory.arrays["founders"]["fused"],
            Evidence.of_notes(notes["evidence"]) if notes["evidence"] else None,
            arrays["pairs"],
        )
        return cls(profiles_known, notes["names"], notes["threshold"], linkage, options)

    def _bases(self, profiles: Profiles) -> NDArray[np.float32]:
        classes = self.profiles_known.counts.shape[1]
        return pack_bases(profiles.vectors, profiles.vector_classes, classes)


def _rows(names: Collection[str | None]) -> dict[str, int]:
    """Row of each client, in the order of names."""
    return dict(sorted((name, row) for row, name in enumerate(names) if name is not None))
