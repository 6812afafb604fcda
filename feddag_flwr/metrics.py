"""What an evaluation counts, and the figures that follow from the counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Counts of one model on one client's test data; sums of them stay exact.

    Attributes
    ----------
    hits : ndarray, shape (C,), int64
        Correctly classified samples a true class.
    totals : ndarray, shape (C,), int64
        Samples a true class.
    loss_sum : float
        Cross-entropy summed over samples, in nats.
    """

    hits: NDArray[np.int64]
    totals: NDArray[np.int64]
    loss_sum: float

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.totals.sum())

    @property
    def accuracy(self) -> float:
        """Share of samples that are classified correctly; NaN without samples."""
        return float(self.hits.sum() / self.samples) if self.samples else float("nan")

    @property
    def balanced_accuracy(self) -> float:
        """Mean over the classes present of the share classified correctly (macro recall)."""
        present = self.totals > 0
        if not present.any():
            return float("nan")
        return float(np.mean(self.hits[present] / self.totals[present]))

    @property
    def loss(self) -> float:
        """Mean cross-entropy a sample, in nats; NaN without samples."""
        return self.loss_sum / self.samples if self.samples else float("nan")


def mean_over_clients(evaluations: Iterable[Evaluation]) -> dict[str, float | int]:
    """Mean figures over clients, each client counted once (the paper's metric, Sec. 5).

    Returns
    -------
    dict
        ``clients`` (how many), ``balanced-accuracy``, ``accuracy`` and ``loss``; the last three
        are left out when no client has test data.
    """
    usable = [evaluation for evaluation in evaluations if evaluation.samples]
    if not usable:
        return {"clients": 0}
    return {
        "clients": len(usable),
        "balanced-accuracy": float(np.mean([each.balanced_accuracy for each in usable])),
        "accuracy": float(np.mean([each.accuracy for each in usable])),
        "loss": float(np.mean([each.loss for each in usable])),
    }
