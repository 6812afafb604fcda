"""Mean over classes of the share classified correctly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.metrics.base import ArraySpec, Metric, MetricError, State

if TYPE_CHECKING:
    from torch import Tensor


class BalancedAccuracy(Metric):
    """Macro recall: each class that the test data has counts once (the paper's metric, Sec. 5)."""

    name = "balanced-accuracy"

    def arrays(self, num_classes: int) -> Mapping[str, ArraySpec]:
        """Return the form of ``hits``, samples a true class."""
        return {"hits": ArraySpec(np.int64, (num_classes,))}

    def update(self, scores: Tensor, labels: Tensor, losses: Tensor) -> State:
        """Count hits a class."""
        del losses
        right = labels[scores.argmax(dim=1) == labels]
        hits = np.bincount(right.cpu().numpy(), minlength=scores.shape[1])
        return {"hits": hits.astype(np.int64)}

    def value(self, state: State, totals: NDArray[np.int64]) -> float:
        """Return the mean of hits / samples over the classes that have samples."""
        present = totals > 0
        if not present.any():
            return float("nan")
        return float(np.mean(state["hits"][present] / totals[present]))

    def details(self, state: State, totals: NDArray[np.int64]) -> Mapping[str, Any]:
        """Return each class's recall; None where it has no samples."""
        pairs = zip(state["hits"].tolist(), totals.tolist(), strict=True)
        return {"recall-by-class": [hits / samples if samples else None for hits, samples in pairs]}

    def check(self, state: State, totals: NDArray[np.int64]) -> None:
        """Refuse fewer hits than none, or more than samples, in any class."""
        hits = state["hits"]
        if (hits < 0).any():
            raise MetricError(f"hits: {hits.min()} is negative")
        if (hits > totals).any():
            raise MetricError("more hits than samples in a class")
