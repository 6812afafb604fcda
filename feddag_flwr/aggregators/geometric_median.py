"""The geometric median (RFA, Pillutla et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from feddag_flwr.aggregation import Weights, distance, weighted_mean
from feddag_flwr.aggregators.median import Median

STEPS: Final = 10  # of Weiszfeld's algorithm; RFA finds three enough
ENOUGH: Final = 1e-6  # relative change of the sum of distances that ends it, and least distance


class GeometricMedian:
    """The point whose weighted distances to the members' parameters add up to least.

    By the smoothed Weiszfeld algorithm, from the coordinate-wise median on. It withstands members
    that make less than half of all samples. Of two members the larger one counts more and more.
    Buffers and counters are the mean by the weights that the parameters end with.
    """

    enough_members = 3

    def aggregate(
        self, updates: Sequence[Weights], weights: Sequence[float], reference: Weights
    ) -> Weights:
        """Return the median of the members."""
        shares = np.array(weights, dtype=np.float64) / sum(weights)
        found, last = Median().aggregate(updates, weights, reference), np.inf
        for _ in range(STEPS):
            far = np.array([distance(update.floats, found.floats) for update in updates])
            total = float(shares @ far)
            if total == 0.0 or total >= last * (1.0 - ENOUGH):
                break
            last = total
            # One member that the point comes upon is not all there is: nobody is nearer than that.
            pulls = shares / np.maximum(far, ENOUGH * float(np.median(far)) or ENOUGH**2 * total)
            found = weighted_mean(updates, (pulls / pulls.sum()).tolist())
        return found
