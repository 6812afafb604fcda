"""The coordinate-wise median (Yin et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights, by_coordinate


class Median:
    """Each number is the median of the members'; what they claim to count does not matter.

    It withstands fewer than half of the members. Two members make their mean, one member itself.
    """

    enough_members = 3

    def aggregate(
        self, updates: Sequence[Weights], weights: Sequence[float], reference: Weights
    ) -> Weights:
        """Return the median of the members."""
        del weights, reference
        return by_coordinate(updates, _median)


def _median(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.median(columns, axis=0))
