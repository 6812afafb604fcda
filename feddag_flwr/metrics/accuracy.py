"""Share of samples that are classified correctly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.metrics.base import ArraySpec, Metric, MetricError, State

if TYPE_CHECKING:
    from torch import Tensor


class Accuracy(Metric):
    """Correctly classified samples, as a share of all; of equal scores the first class counts."""

    name = "accuracy"

    def arrays(self, num_classes: int) -> Mapping[str, ArraySpec]:
        """Return the form of ``hits``, a number of samples."""
        del num_classes
        return {"hits": ArraySpec(np.int64)}

    def update(self, scores: Tensor, labels: Tensor, losses: Tensor) -> State:
        """Count hits."""
        del losses
        return {"hits": np.array(int((scores.argmax(dim=1) == labels).sum()), dtype=np.int64)}

    def value(self, state: State, totals: NDArray[np.int64]) -> float:
        """Return hits / samples."""
        samples = int(totals.sum())
        return float(state["hits"] / samples) if samples else float("nan")

    def check(self, state: State, totals: NDArray[np.int64]) -> None:
        """Refuse fewer hits than none, or more than samples."""
        if not 0 <= state["hits"] <= totals.sum():
            raise MetricError(f"{state['hits']} hits in {totals.sum()} samples")
