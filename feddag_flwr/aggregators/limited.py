"""Members that count no more than a share of their cluster (setting ``max-weight-share``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.aggregators import Aggregator, enough_members


def limited_shares(weights: Sequence[float], most: float) -> NDArray[np.float64]:
    """Return shares (n,) that add up to 1, none above `most`, else in proportion to `weights`.

    Sample counts are claims: who claims ever more gains no more than `most`. Where n members cannot
    keep to that, all count alike.

    Examples
    --------
    >>> limited_shares([1, 1, 8], 0.5).tolist()
    [0.25, 0.25, 0.5]
    >>> limited_shares([1, 9], 0.1).tolist()
    [0.5, 0.5]
    """
    values = np.array(weights, dtype=np.float64)
    if most * len(values) <= 1.0:
        return np.full(len(values), 1.0 / len(values))
    limited = np.zeros(len(values), dtype=np.bool_)
    while True:
        left = 1.0 - most * np.count_nonzero(limited)
        shares = np.where(limited, most, left * values / values[~limited].sum())
        beyond = (shares > most) & ~limited
        if not beyond.any():
            return shares
        limited |= beyond


@dataclass(frozen=True)
class Limited:
    """An aggregator before which `limited_shares` come."""

    aggregator: Aggregator
    most: float

    @property
    def enough_members(self) -> float:
        """As of the aggregator behind it."""
        return enough_members(self.aggregator)

    def aggregate(
        self, updates: Sequence[Weights], weights: Sequence[float], reference: Weights
    ) -> Weights:
        """Aggregate, each member by its limited share."""
        shares = limited_shares(weights, self.most)
        return self.aggregator.aggregate(updates, shares.tolist(), reference)
