"""The data-weighted mean (Eq. 18, 21, 22)."""

from __future__ import annotations

from collections.abc import Sequence

from feddag_flwr.aggregation import Weights, weighted_mean


class Mean:
    """Each member counts by its samples; see `feddag_flwr.aggregation.weighted_mean`."""

    def aggregate(
        self, updates: Sequence[Weights], weights: Sequence[float], reference: Weights
    ) -> Weights:
        """Return the members' mean; the weights that they received do not matter."""
        del reference
        return weighted_mean(updates, weights)
