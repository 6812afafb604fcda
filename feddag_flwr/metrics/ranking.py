"""Counts of scores by class, from which metrics of ranking follow."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.metrics.base import ArraySpec, Metric, MetricError, State

if TYPE_CHECKING:
    from torch import Tensor

# Log odds below minus this, or above it, are one bin; all others have bins of equal width.
WIDEST: Final = 12.0
BINS: Final = 128


class RankingMetric(Metric):
    """A metric of how a class's samples rank among others (one against the rest).

    Its state ``histogram`` (C, 2, B), int64, holds for each class the samples of other classes (0)
    and of its own (1), by the log odds of the probability that the model gives to the class. In B =
    128 bins between -12 and 12 a bin is 0.19 wide; samples of one bin rank alike. Means are over
    the classes that some samples have, and some have not.
    """

    def arrays(self, num_classes: int) -> Mapping[str, ArraySpec]:
        """Return the form of ``histogram``."""
        return {"histogram": ArraySpec(np.int64, (num_classes, 2, BINS))}

    def update(self, scores: Tensor, labels: Tensor, losses: Tensor) -> State:
        """Count; scores that are not finite rank lowest."""
        del losses
        classes = scores.shape[1]
        odds = scores.double().softmax(dim=1).logit().nan_to_num(nan=-WIDEST).clamp(-WIDEST, WIDEST)
        bins = ((odds + WIDEST) * (BINS / (2 * WIDEST))).long().clamp(max=BINS - 1).cpu().numpy()
        own = labels.cpu().numpy()[:, None] == np.arange(classes)
        places = (np.arange(classes) * 2 + own) * BINS + bins
        counts = np.bincount(places.ravel(), minlength=classes * 2 * BINS).astype(np.int64)
        return {"histogram": counts.reshape(classes, 2, BINS)}

    def value(self, state: State, totals: NDArray[np.int64]) -> float:
        """Return the mean over classes."""
        del totals
        values = self._by_class(state["histogram"])
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")

    def check(self, state: State, totals: NDArray[np.int64]) -> None:
        """Refuse negative counts, and such as do not add up to the samples."""
        histogram = state["histogram"]
        if (histogram < 0).any():
            raise MetricError(f"histogram: {histogram.min()} is negative")
        if (histogram.sum(axis=2) != np.stack([totals.sum() - totals, totals], axis=1)).any():
            raise MetricError("histogram: counts do not add up to the samples")

    def details(self, state: State, totals: NDArray[np.int64]) -> Mapping[str, Any]:
        """Return the figure of each class; None where it does not exist."""
        del totals
        values = self._by_class(state["histogram"])
        return {"by-class": [None if np.isnan(value) else float(value) for value in values]}

    def _by_class(self, histogram: NDArray[np.int64]) -> NDArray[np.float64]:
        counts = histogram.astype(np.float64)
        exists = (histogram.sum(axis=2) > 0).all(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(exists, self.of_classes(counts[:, 0], counts[:, 1]), np.nan)

    @abstractmethod
    def of_classes(
        self, others: NDArray[np.float64], own: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return each class's figure (C,) from samples of others and its own (C, B), rising."""
