"""Profiles of the clients that have a cluster, and where newcomers belong among them (A.8)."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.algorithms.feddag.profiling import Profiles
from feddag_flwr.checkpoints import AlgorithmState
from feddag_flwr.clustering.newcomers import place
from feddag_flwr.clustering.threshold import Linkage
from feddag_flwr.similarity.group_tree import GroupTree, Part
from feddag_flwr.similarity.newcomers import ProfileArrays, measure_newcomers
from feddag_flwr.similarity.normalisation import Scale
from feddag_flwr.similarity.proximity import ProximityOptions
from feddag_flwr.similarity.unlabelled import Directions, nearest_clusters

logger = logging.getLogger("flwr")


@dataclass
class ProfileStore:
    """The profiles by which newcomers are placed (Algorithm 4), measured with the same options.

    `arrays` has founders, then those placed since, a row each; `names` the client of each row, or
    None where a newer profile of that client has come in. `threshold` is alpha* of the clustering.
    `directions` has the rows' leading directions where some clients have no labels, and
    `unlabelled` those of these clients, by name. `looks` says how clients' classes looked, by name.
    """

    arrays: ProfileArrays
    names: list[str | None]
    threshold: float
    linkage: Linkage
    options: ProximityOptions
    directions: Directions | None = None
    unlabelled: dict[str, Directions] = field(default_factory=dict)
    looks: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rows = _rows(self.names)

    @property
    def num_clients(self) -> int:
        """Clients that have a profile."""
        return len(self._rows)

    @property
    def placed_since(self) -> int:
        """Clients whose profile has come in since the clustering."""
        return len(self.names) - len(self.arrays.fused)

    def founders(self) -> set[str]:
        """Return the clients that were clustered together, as far as nothing newer has come in."""
        return {name for name in self.names[: len(self.arrays.fused)] if name is not None}

    def place(self, profiles: Profiles, assignments: Mapping[str, int]) -> dict[str, int]:
        """Find the cluster of newcomers among `assignments`; of none, if there is nobody there."""
        near = {name: row for name, row in self._rows.items() if name in assignments}
        if not near:
            return {}
        rows = measure_newcomers(
            self.arrays,
            profiles.updates,
            profiles.bases,
            profiles.counts,
            names=profiles.names,
            **self.options,
        )
        clusters, labels = np.unique([assignments[name] for name in near], return_inverse=True)
        columns = list(near.values())
        placed = {}
        for name, row in zip(profiles.names, rows.fused, strict=True):
            placement = place(row[columns], labels, self.threshold, self.linkage)
            placed[name] = int(clusters[placement.cluster])
            if placement.alone:
                logger.warning(
                    "newcomer %s is %.3f from the nearest cluster, above alpha* = %.3f: "
                    "it joins cluster %d, nearest by mean, instead of being alone",
                    name, placement.distances.min(), self.threshold, placed[name],
                )  # fmt: skip
        return placed

    def place_unlabelled(
        self, names: Collection[str], assignments: Mapping[str, int], rng: np.random.Generator
    ) -> dict[str, tuple[int, float]]:
        """Find the cluster of clients without labels among `assignments`, and how sure it is."""
        near = {name: row for name, row in self._rows.items() if name in assignments}
        ordered = sorted(names)
        if not near or not ordered or self.directions is None:
            return {}
        each = [self.unlabelled[name] for name in ordered]
        newcomers = reduce(Directions.joined_by, each)
        labels = [assignments[name] for name in near]
        members = self.directions.only(list(near.values()))
        clusters, sure = nearest_clusters(members, labels, newcomers, rng)
        pairs = zip(clusters.tolist(), sure.tolist(), strict=True)
        return dict(zip(ordered, pairs, strict=True))

    def take_in(self, profiles: Profiles) -> None:
        """Keep the profiles of clients that have come in, in place of older ones of theirs.

        A founder's older row stays, without a name, for the scales and weights that it set.
        """
        newer, founders = set(profiles.names), len(self.arrays.fused)
        names = [None if name in newer else name for name in self.names]
        kept = [row for row, name in enumerate(names) if row < founders or name is not None]
        self.names = [*(names[row] for row in kept), *profiles.names]
        self.arrays = self.arrays.only(kept).joined_by(
            profiles.updates, profiles.bases, profiles.counts, self.options["angle"]
        )
        if self.directions is not None and profiles.directions is not None:
            self.directions = self.directions.only(kept).joined_by(profiles.directions)
        self.looks |= profiles.looks
        self._rows = _rows(self.names)

    def counts_of(self, name: str) -> tuple[int, ...]:
        """Return a client's samples of each class in its profile; none where it has no profile."""
        if name not in self._rows:
            return ()
        return tuple(self.arrays.counts[self._rows[name]].tolist())

    def present(self) -> Profiles:
        """Return the newest profile of each client that has one."""
        rows, arrays = list(self._rows.values()), self.arrays
        directions = None if self.directions is None else self.directions.only(rows)
        return Profiles(
            list(self._rows),
            arrays.updates[rows],
            arrays.bases[rows],
            arrays.counts[rows],
            directions,
            dict(self.looks),
        )

    def state_dict(self) -> AlgorithmState:
        """Return all of it for a checkpoint."""
        arrays = self.arrays
        scales = {
            view: scale and [scale.minimum, scale.maximum]
            for view, scale in (("gradient", arrays.gradient), ("data", arrays.data))
        }
        return AlgorithmState(
            {
                "profiles": {
                    "updates": arrays.updates,
                    "bases": arrays.bases,
                    "counts": arrays.counts,
                    "leaves": arrays.leaves,
                },
                "founders": {"fused": arrays.fused},
                **self._more_arrays(),
            },
            {
                "names": self.names,
                "threshold": self.threshold,
                "scales": scales,
                "tree": arrays.tree and arrays.tree.root.notes(),
            },
        )

    def _more_arrays(self) -> dict[str, dict[str, Any]]:
        looks = {"looks": dict(sorted(self.looks.items()))} if self.looks else {}
        if self.directions is None:
            return looks
        unlabelled = {
            f"{name}/{what}": values
            for name, of_client in sorted(self.unlabelled.items())
            for what, values in of_client.arrays().items()
        }
        kept = {"directions": self.directions.arrays(), **looks}
        return kept | ({"unlabelled": unlabelled} if unlabelled else {})

    @classmethod
    def from_state_dict(
        cls, kept: AlgorithmState, linkage: Linkage, options: ProximityOptions
    ) -> ProfileStore:
        """Make what `kept` returned."""
        rows, notes = kept.arrays["profiles"], kept.notes
        scales = {view: scale and Scale(*scale) for view, scale in notes["scales"].items()}
        arrays = ProfileArrays(
            rows["updates"],
            rows["bases"],
            rows["counts"],
            scales["gradient"],
            scales["data"],
            kept.arrays["founders"]["fused"],
            GroupTree(Part.of_notes(notes["tree"])) if notes["tree"] else None,
            rows["leaves"],
        )
        directions = kept.arrays.get("directions")
        return cls(
            arrays, notes["names"], notes["threshold"], linkage, options,
            Directions(**directions) if directions else None,
            _unlabelled_of(kept.arrays.get("unlabelled", {})), dict(kept.arrays.get("looks", {})),
        )  # fmt: skip


def _unlabelled_of(arrays: Mapping[str, Any]) -> dict[str, Directions]:
    """Read the directions of clients without labels, by name."""
    names = sorted({key.rpartition("/")[0] for key in arrays})
    parts = ("vectors", "shares", "samples")
    return {name: Directions(*(arrays[f"{name}/{part}"] for part in parts)) for name in names}


def _rows(names: Collection[str | None]) -> dict[str, int]:
    """Row of each client, in the order of names."""
    return dict(sorted((name, row) for row, name in enumerate(names) if name is not None))
