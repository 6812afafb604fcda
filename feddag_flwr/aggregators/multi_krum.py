"""The mean of the members that are nearest to each other (Blanchard et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights, distance, weighted_mean
from feddag_flwr.aggregators.median import Median

FEWEST: Final = 5  # members among whom one liar can be told: n >= 2 f + 3


class MultiKrum:
    """Leaves out as many members as may lie (``assumed-liars``, rounded up), f of n.

    A member's score is the sum of the squared distances to its n - f - 2 nearest; the n - f of
    lowest score, of equal ones the first by name, are averaged by their samples. f is no more than
    (n - 3) / 2. Fewer than five members make their median.
    """

    assumed_liars: float = 0.2
    enough_members = 3

    def aggregate(
        self, updates: Sequence[Weights], weights: Sequence[float], reference: Weights
    ) -> Weights:
        """Return the mean of the members that are kept."""
        number = len(updates)
        if number < FEWEST:
            return Median().aggregate(updates, weights, reference)
        liars = min(math.ceil(self.assumed_liars * number), (number - 3) // 2)
        squares = _squared_distances(updates)
        near = np.sort(squares, axis=1)[:, 1 : number - liars - 1]  # without itself, at 0
        kept = np.sort(np.argsort(near.sum(axis=1), kind="stable")[: number - liars])
        return weighted_mean([updates[i] for i in kept], [weights[i] for i in kept])


def _squared_distances(updates: Sequence[Weights]) -> NDArray[np.float64]:
    squares = np.zeros((len(updates), len(updates)))
    for one, left in enumerate(updates):
        for other in range(one):
            squares[one, other] = squares[other, one] = (
                distance(left.floats, updates[other].floats) ** 2
            )
    return squares
