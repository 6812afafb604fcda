"""Area under the receiver operating characteristic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.metrics.ranking import RankingMetric


class AUROC(RankingMetric):
    """Chance that a sample of a class ranks above one of another class; half for equal ranks.

    Mean over classes, one against the rest (``roc_auc_score(multi_class="ovr")``). Off by half the
    share of such pairs that are in one bin, at most.
    """

    name = "auroc"

    def of_classes(
        self, others: NDArray[np.float64], own: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Count pairs in order (Mann-Whitney)."""
        below = np.cumsum(others, axis=1) - 0.5 * others
        area: NDArray[np.float64] = (own * below).sum(axis=1) / (
            own.sum(axis=1) * others.sum(axis=1)
        )
        return area
