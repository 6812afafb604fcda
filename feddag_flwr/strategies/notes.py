"""What a run itself keeps in a checkpoint, beside the state and the algorithm's: JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from feddag_flwr.metrics import Evaluation, Metric


def evaluations_to_json(evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Write evaluations, by client name: samples a class, and each metric's state by its name."""
    return {
        name: {
            "totals": each.totals.tolist(),
            "states": {
                metric: {key: values.tolist() for key, values in state.items()}
                for metric, state in each.states.items()
            },
        }
        for name, each in evaluations.items()
    }


def evaluations_from_json(
    values: Mapping[str, Any], metrics: Sequence[Metric]
) -> dict[str, Evaluation]:
    """Read what `evaluations_to_json` wrote, under the same metrics."""
    return {name: _evaluation(each, metrics) for name, each in values.items()}


def _evaluation(value: Mapping[str, Any], metrics: Sequence[Metric]) -> Evaluation:
    totals = np.array(value["totals"], dtype=np.int64)
    states = {
        metric.name: {
            key: np.array(value["states"][metric.name][key], dtype=spec.dtype)
            for key, spec in metric.arrays(len(totals)).items()
        }
        for metric in metrics
    }
    return Evaluation(tuple(metrics), totals, states)
