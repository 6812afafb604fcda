"""The mean of updates that are no longer than the median one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feddag_flwr.aggregation import Weights, distance, weighted_mean


class ClippedMean:
    """Updates longer than the lower median of the members' are shortened to it, then averaged.

    So nobody moves a model farther than an ordinary member does, in whatever direction. Of two
    members the shorter update is the yardstick; one member is taken as it is. Buffers move in
    proportion; counters are the mean.
    """

    def aggregate(
        self, updates: Sequence[Weights], weights: Sequence[float], reference: Weights
    ) -> Weights:
        """Return the mean of the members after shortening, each by its samples."""
        lengths = [distance(update.floats, reference.floats) for update in updates]
        ordinary = sorted(lengths)[(len(lengths) - 1) // 2]
        shortened = [
            update if length <= ordinary else _towards(reference, update, ordinary / length)
            for update, length in zip(updates, lengths, strict=True)
        ]
        return weighted_mean(shortened, weights)


def _towards(start: Weights, end: Weights, share: float) -> Weights:
    """Go a share of the way from one point to another."""
    floats = start.floats + share * (end.floats.astype(np.float64) - start.floats)
    buffers = start.buffers + share * (end.buffers.astype(np.float64) - start.buffers)
    return Weights(floats.astype(np.float32), buffers.astype(np.float32), end.integers)
