"""Where training for the last checks has taken clients: what parts are proposed by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from feddag_flwr.algorithms.feddag.choosing import Parts
from feddag_flwr.algorithms.feddag.held_back import TrainedMeans
from feddag_flwr.clustering.refinement import direction_distances, proposed_parts
from feddag_flwr.similarity.matrices import FloatArray

LOOKS: Final = 5  # checks whose directions count, the last ones


class UpdateDirections:
    """Products of clients' updates in the last checks, which tell the angles between any of them.

    One check's directions have the noise of one training from one model. Those of several checks
    have it on the mean, however clients were grouped meanwhile.
    """

    def __init__(self) -> None:
        self._looks: list[tuple[list[str], FloatArray]] = []

    def add(self, trained: TrainedMeans) -> None:
        """Take in the updates of a check, of the part that is trained first."""
        names = sorted(trained.replies)
        if names:
            updates = trained.updates(names, trained.parts[0])
            away = updates - updates.mean(axis=0)
            products: FloatArray = (away @ away.T).astype(np.float64)
            self._looks = [*self._looks, (names, products)][-LOOKS:]

    def parts(self, names: Sequence[str], numbers: Iterable[int]) -> list[Parts]:
        """Propose partitions of clients that trained for the last check, the clearest first.

        Each is into so many parts; one with a part of one client is passed over.
        """
        possible = [number for number in numbers if number <= len(names) // 2]
        if not possible:
            return []
        proposals: list[Parts] = []
        for number, labels in proposed_parts(self._distances(names), possible).items():
            members = [
                tuple(n for n, z in zip(names, labels, strict=True) if z == part)
                for part in range(number)
            ]
            if min(map(len, members)) > 1:
                parts = {name: members[z] for name, z in zip(names, labels, strict=True)}
                proposals.append(parts)
        return proposals

    def _distances(self, names: Sequence[str]) -> FloatArray:
        """Mean squared distances between directions, over the checks that both trained for."""
        total, seen = np.zeros((len(names), len(names))), np.zeros((len(names), len(names)))
        for trained, products in self._looks:
            places = {name: place for place, name in enumerate(trained)}
            here = [number for number, name in enumerate(names) if name in places]
            rows = [places[names[number]] for number in here]
            total[np.ix_(here, here)] += direction_distances(products[np.ix_(rows, rows)])
            seen[np.ix_(here, here)] += 1.0
        return total / seen

    # -- what a checkpoint keeps -------------------------------------------------------------------

    def notes(self) -> list[list[str]]:
        """Return whose directions are kept, by check."""
        return [names for names, _ in self._looks]

    def arrays(self) -> dict[str, FloatArray]:
        """Return the products, by check."""
        return {f"look-{number}": products for number, (_, products) in enumerate(self._looks)}

    def load(self, notes: Sequence[Sequence[str]], arrays: Mapping[str, Any]) -> None:
        """Take over what `notes` and `arrays` returned."""
        self._looks = [
            (list(names), arrays[f"look-{number}"]) for number, names in enumerate(notes)
        ]
