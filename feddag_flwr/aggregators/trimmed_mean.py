"""The coordinate-wise trimmed mean (Yin et al. 2018)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights, by_coordinate


class TrimmedMean:
    """Each number is the mean of the members' but for the largest and the smallest ones.

    As many are left out at either end as members may lie (``assumed-liars``, rounded up), all but
    one or two at most: three and four members make their median. What they claim to count does not
    matter. Two members make their mean.
    """

    assumed_liars: float = 0.2
    enough_members = 3

    def aggregate(
        self, updates: Sequence[Weights], weights: Sequence[float], reference: Weights
    ) -> Weights:
        """Return the trimmed mean of the members."""
        del weights, reference
        number = len(updates)
        trimmed = min(math.ceil(self.assumed_liars * number), (number - 1) // 2)

        def middle(columns: NDArray[np.float64]) -> NDArray[np.float64]:
            kept = np.sort(columns, axis=0)[trimmed : number - trimmed]
            return np.asarray(kept.mean(axis=0))

        return by_coordinate(updates, middle)
