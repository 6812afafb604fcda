"""How far the probabilities that a model states are from how often it is right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.metrics.base import ArraySpec, Metric, MetricError, State

if TYPE_CHECKING:
    from torch import Tensor

BINS: Final = 15


class CalibrationError(Metric):
    """Expected calibration error (Guo et al. 2017): mean gap of accuracy and confidence.

    Samples lie in 15 bins of equal width by the probability of the class predicted, and each bin
    counts by its samples.
    """

    name = "calibration-error"
    higher_is_better = False

    def arrays(self, num_classes: int) -> Mapping[str, ArraySpec]:
        """Return the form of samples, hits and summed probabilities of each bin."""
        del num_classes
        counts = ArraySpec(np.int64, (BINS,))
        return {"samples": counts, "hits": counts, "confidence": ArraySpec(np.float64, (BINS,))}

    def update(self, scores: Tensor, labels: Tensor, losses: Tensor) -> State:
        """Count; scores that are not finite have the confidence 0."""
        del losses
        confidence, guess = scores.double().softmax(dim=1).nan_to_num(nan=0.0).max(dim=1)
        right = (guess == labels).cpu().numpy()
        sure = confidence.cpu().numpy()
        # A bin holds its upper edge and not its lower one.
        bins = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)
        return {
            "samples": np.bincount(bins, minlength=BINS).astype(np.int64),
            "hits": np.bincount(bins[right], minlength=BINS).astype(np.int64),
            "confidence": np.bincount(bins, weights=sure, minlength=BINS).astype(np.float64),
        }

    def value(self, state: State, totals: NDArray[np.int64]) -> float:
        """Return the mean over samples of their bin's gap."""
        samples = int(totals.sum())
        if not samples:
            return float("nan")
        return float(np.abs(state["hits"] - state["confidence"]).sum() / samples)

    def check(self, state: State, totals: NDArray[np.int64]) -> None:
        """Refuse what no samples can have led to."""
        samples, hits, confidence = state["samples"], state["hits"], state["confidence"]
        if (samples < 0).any() or samples.sum() != totals.sum():
            raise MetricError("samples: bins do not add up to the samples")
        if (hits < 0).any() or (hits > samples).any():
            raise MetricError("hits: more than samples in a bin, or negative")
        if (confidence < 0).any() or (confidence > samples * (1.0 + 1e-9)).any():
            raise MetricError("confidence: more than 1 a sample, or negative")
