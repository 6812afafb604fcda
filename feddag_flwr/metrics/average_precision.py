"""Area under the curve of precision against recall, in steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.metrics.ranking import RankingMetric


class AveragePrecision(RankingMetric):
    """Sum over ranks of precision times what recall gains there (``average_precision_score``).

    Mean over classes, one against the rest.
    """

    name = "average-precision"

    def of_classes(
        self, others: NDArray[np.float64], own: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Go down from the highest bin."""
        own, others = own[:, ::-1], others[:, ::-1]
        hits = np.cumsum(own, axis=1)
        taken = hits + np.cumsum(others, axis=1)
        precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
        mean: NDArray[np.float64] = (own * precision).sum(axis=1) / own.sum(axis=1)
        return mean
