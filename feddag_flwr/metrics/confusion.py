"""Counts of true and predicted classes, from which metrics follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.metrics.base import ArraySpec, Metric, MetricError, State

if TYPE_CHECKING:
    from torch import Tensor


class ConfusionMetric(Metric):
    """A metric that follows from the confusion matrix.

    Its state ``confusion`` (C, C), int64, holds samples by true class (row) and predicted class
    (column); of equal scores the first class counts.
    """

    def arrays(self, num_classes: int) -> Mapping[str, ArraySpec]:
        """Return the form of ``confusion``."""
        return {"confusion": ArraySpec(np.int64, (num_classes, num_classes))}

    def update(self, scores: Tensor, labels: Tensor, losses: Tensor) -> State:
        """Count."""
        del losses
        classes = scores.shape[1]
        places = (labels * classes + scores.argmax(dim=1)).cpu().numpy()
        counts = np.bincount(places, minlength=classes**2).astype(np.int64)
        return {"confusion": counts.reshape(classes, classes)}

    def check(self, state: State, totals: NDArray[np.int64]) -> None:
        """Refuse negative counts, and rows that do not add up to the samples of their class."""
        confusion = state["confusion"]
        if (confusion < 0).any():
            raise MetricError(f"confusion: {confusion.min()} is negative")
        if (confusion.sum(axis=1) != totals).any():
            raise MetricError("confusion: rows do not add up to the samples of their class")

    def details(self, state: State, totals: NDArray[np.int64]) -> Mapping[str, Any]:
        """Return the matrix."""
        del totals
        return {"confusion": state["confusion"].tolist()}
