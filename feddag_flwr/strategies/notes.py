"""What a run itself keeps in a checkpoint, beside the state and the algorithm's: JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from feddag_flwr.metrics import Evaluation


def evaluations_to_json(evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Write evaluations, by client name."""
    return {
        name: {
            "hits": each.hits.tolist(),
            "totals": each.totals.tolist(),
            "loss-sum": each.loss_sum,
        }
        for name, each in evaluations.items()
    }


def evaluations_from_json(values: Mapping[str, Any]) -> dict[str, Evaluation]:
    """Read what `evaluations_to_json` wrote."""
    return {
        name: Evaluation(
            np.array(each["hits"], dtype=np.int64),
            np.array(each["totals"], dtype=np.int64),
            each["loss-sum"],
        )
        for name, each in values.items()
    }
