"""How models are judged: metrics that merge over batches and clients, and what reports show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from feddag_flwr.metrics.base import MAX_LOSS, ArraySpec, Metric, MetricError, State
from feddag_flwr.metrics.evaluation import (
    Evaluation,
    mean_over_clients,
    pooled,
    spread_over_clients,
)
from feddag_flwr.registries import METRICS
from feddag_flwr.registry import RegistryError

__all__ = [
    "DEFAULT_METRICS",
    "MAX_LOSS",
    "ArraySpec",
    "Evaluation",
    "Metric",
    "MetricError",
    "State",
    "load_metrics",
    "mean_over_clients",
    "metric_names",
    "pooled",
    "spread_over_clients",
]

DEFAULT_METRICS = ("balanced-accuracy", "accuracy", "loss")
# What reports say beside the metrics.
_TAKEN = frozenset({"clients", "samples", "cluster", "members", "train-samples", "teachers"})


def metric_names(text: str) -> tuple[str, ...]:
    """Return what a value of the setting ``metrics`` names, in its order.

    A `RegistryError` says that it names nothing, something twice, or what can be no metric.
    """
    names = tuple(METRICS.check(name.strip()) for name in text.split(","))
    if len(set(names)) < len(names):
        raise RegistryError(f"setting metrics = {text!r}: must name each metric once")
    return names


def load_metrics(names: Sequence[str]) -> tuple[Metric, ...]:
    """Make the metrics of some names, once a process.

    A `RegistryError` says that one cannot be made, or bears a name that reports cannot show.
    """
    return _load(tuple(names))


@lru_cache(maxsize=8)
def _load(names: tuple[str, ...]) -> tuple[Metric, ...]:
    metrics = tuple(METRICS.make(name) for name in names)
    taken = set(_TAKEN)
    for given, metric in zip(names, metrics, strict=True):
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", metric.name) or metric.name in taken:
            raise RegistryError(
                f"setting metrics: {given!r} calls itself {metric.name!r}, must be a name of "
                "its own of small letters, digits and hyphens"
            )
        taken.add(metric.name)
    return metrics
