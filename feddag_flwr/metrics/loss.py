"""Mean cross-entropy of a sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.metrics.base import MAX_LOSS, ArraySpec, Metric, MetricError, State

if TYPE_CHECKING:
    from torch import Tensor

# Half of what the server believes, since a mean may be rounded up.
WORST_LOSS = MAX_LOSS / 2


class Loss(Metric):
    """Mean cross-entropy of a sample, in nats.

    A model that diverged has the worst loss there is, so that it counts as bad, not as missing.
    """

    name = "loss"
    percent = False
    by_client = False
    higher_is_better = False

    def arrays(self, num_classes: int) -> Mapping[str, ArraySpec]:
        """Return the form of ``sum``, nats."""
        del num_classes
        return {"sum": ArraySpec(np.float64)}

    def update(self, scores: Tensor, labels: Tensor, losses: Tensor) -> State:
        """Add losses up as PyTorch's own loss with ``reduction="sum"`` does, to the last bit."""
        import torch
        from torch.nn import functional

        del scores
        column = -losses.unsqueeze(1)
        total = float(functional.nll_loss(column, torch.zeros_like(labels), reduction="sum"))
        worst = WORST_LOSS * len(labels)
        return {"sum": np.array(total if total <= worst else worst, dtype=np.float64)}

    def value(self, state: State, totals: NDArray[np.int64]) -> float:
        """Return sum / samples."""
        samples = int(totals.sum())
        return float(state["sum"]) / samples if samples else float("nan")

    def check(self, state: State, totals: NDArray[np.int64]) -> None:
        """Refuse a negative sum, and one beyond all belief."""
        total = float(state["sum"])
        if not 0 <= total <= MAX_LOSS * max(1, int(totals.sum())):
            raise MetricError(f"sum = {total} is no loss")
