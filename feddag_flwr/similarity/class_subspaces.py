"""What clients said of their data, and the angles between them (Eq. 4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from feddag_flwr.similarity.matrices import IntArray
from feddag_flwr.similarity.subspace import (
    Angle,
    angles_by_class,
    class_angles,
    class_angles_to,
    seen_counts,
)

ANGLES_KEPT: Final = 1000  # clients up to whom all angles are computed once


@dataclass(frozen=True, eq=False)
class ClassSubspaces:
    """What clients said of their data: bases (N, C, p, d) of the classes, and samples (N, C)."""

    bases: npt.NDArray[np.float32]
    counts: npt.NDArray[np.integer]
    angle: Angle

    @cached_property
    def seen(self) -> IntArray:
        """Samples of the classes that clients sent vectors of (N, C)."""
        return seen_counts(self.bases, self.counts)

    def only(self, clients: IntArray) -> ClassSubspaces:
        """Keep some clients."""
        return ClassSubspaces(self.bases[clients], self.counts[clients], self.angle)

    def angles(self, clients: IntArray) -> npt.NDArray[np.float32]:
        """V' of Eq. 4 (C, n, n) among some clients; all are computed once where they are few."""
        if len(self.counts) <= ANGLES_KEPT:
            return self._all_angles[:, clients[:, None], clients]
        return class_angles(self.bases[clients], self.counts[clients], self.angle)

    def angles_by_class(self) -> Iterator[npt.NDArray[np.float32]]:
        """Yield V' (N, N) among all clients, class by class."""
        if len(self.counts) <= ANGLES_KEPT:
            return iter(self._all_angles)
        return angles_by_class(self.bases, self.counts, self.angle)

    @cached_property
    def _all_angles(self) -> npt.NDArray[np.float32]:
        return class_angles(self.bases, self.counts, self.angle)

    def angles_between(
        self, rows: IntArray, founders: ClassSubspaces, columns: IntArray
    ) -> npt.NDArray[np.float32]:
        """V' (C, m, n) between some of these clients and some of the founders, perhaps the same."""
        if founders is self and len(self.counts) <= ANGLES_KEPT:
            return self._all_angles[:, rows[:, None], columns]
        return class_angles_to(
            self.bases[rows],
            self.counts[rows],
            founders.bases[columns],
            founders.counts[columns],
            self.angle,
        )
