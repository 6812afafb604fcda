"""Mean over classes of the harmonic mean of precision and recall."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.metrics.base import State
from feddag_flwr.metrics.confusion import ConfusionMetric


class MacroF1(ConfusionMetric):
    """F1 = 2 TP / (2 TP + FP + FN), each class that is there or is predicted counting once.

    As scikit-learn's ``f1_score(average="macro")`` over the classes present.
    """

    name = "macro-f1"

    def value(self, state: State, totals: NDArray[np.int64]) -> float:
        """Return the mean of the classes' F1."""
        del totals
        scores = _by_class(state["confusion"])
        return float(np.nanmean(scores)) if np.isfinite(scores).any() else float("nan")

    def details(self, state: State, totals: NDArray[np.int64]) -> Mapping[str, Any]:
        """Return the matrix, and each class's F1; None where it is neither there nor predicted."""
        scores = [None if np.isnan(f1) else float(f1) for f1 in _by_class(state["confusion"])]
        return {**super().details(state, totals), "f1-by-class": scores}


def _by_class(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 of each class (C,); NaN where nothing is of the class or taken for it."""
    both = (confusion.sum(axis=0) + confusion.sum(axis=1)).astype(np.float64)
    hits = 2.0 * np.diagonal(confusion)
    scores: NDArray[np.float64] = np.divide(
        hits, both, out=np.full_like(both, np.nan), where=both > 0
    )
    return scores
