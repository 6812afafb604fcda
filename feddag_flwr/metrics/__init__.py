"""How models are judged: metrics that merge over batches and clients, and what reports show."""

from __future__ import annotations

from feddag_flwr.metrics.base import MAX_LOSS, ArraySpec, Metric, MetricError, State
from feddag_flwr.metrics.evaluation import Evaluation, mean_over_clients
from feddag_flwr.metrics.registry import (
    DEFAULT_METRICS,
    METRICS,
    load_metrics,
    metric_names,
)

__all__ = [
    "DEFAULT_METRICS",
    "MAX_LOSS",
    "METRICS",
    "ArraySpec",
    "Evaluation",
    "Metric",
    "MetricError",
    "State",
    "load_metrics",
    "mean_over_clients",
    "metric_names",
]
