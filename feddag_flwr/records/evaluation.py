"""Evaluations on the wire: the states of metrics, arrays among arrays and numbers among numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, MetricRecord, RecordDict
from numpy.typing import NDArray

from feddag_flwr.metrics import ArraySpec, Evaluation, Metric, State, load_metrics
from feddag_flwr.records.arrays import array_of, counts_of
from feddag_flwr.records.header import RequestHeader
from feddag_flwr.records.values import RecordError, shown


def put_evaluation(content: RecordDict, scope: str, evaluation: Evaluation) -> None:
    """Add an evaluation to a message.

    ``SCOPE.totals`` and ``SCOPE.METRIC.ARRAY`` are arrays; where a state is a number, it is the
    value ``METRIC.ARRAY`` of the record ``SCOPE-metrics``.
    """
    arrays = content.array_records["arrays"]
    arrays[f"{scope}.totals"] = Array(evaluation.totals)
    numbers: dict[str, int | float] = {}
    for metric, state in evaluation.states.items():
        for key, values in state.items():
            if values.ndim:
                arrays[f"{scope}.{metric}.{key}"] = Array(values)
            else:
                numbers[f"{metric}.{key}"] = values.item()
    content[f"{scope}-metrics"] = MetricRecord(dict(numbers))


def evaluation_of(
    content: RecordDict, scope: str, header: RequestHeader, limit: int
) -> Evaluation | None:
    """Read and check one evaluation on `limit` samples at most; None where there is none."""
    numbers = content.get(f"{scope}-metrics")
    if numbers is None:
        return None
    if not isinstance(numbers, MetricRecord):
        raise RecordError(f"{scope}-metrics is no record of numbers")
    totals = counts_of(content, f"{scope}.totals", len(header.class_names), limit)
    if totals.sum() > limit:
        raise RecordError(f"totals add up to {totals.sum()}, more than {limit}")
    metrics = load_metrics(header.metrics)
    states = {metric.name: _state(content, scope, metric, totals, numbers) for metric in metrics}
    return Evaluation(metrics, totals, states)


def _state(
    content: RecordDict,
    scope: str,
    metric: Metric,
    totals: NDArray[np.int64],
    numbers: Mapping[str, Any],
) -> State:
    """Read what came of one metric, and let the metric check it."""
    state = {}
    for key, spec in metric.arrays(len(totals)).items():
        if spec.shape:
            wire = f"{scope}.{metric.name}.{key}"
            state[key] = array_of(content, wire, spec.dtype, spec.shape, most=_most(spec, totals))
        else:
            state[key] = _number(f"{metric.name}.{key}", numbers, spec)
    try:
        metric.check(state, totals)
    except Exception as error:  # whatever a user's own metric raises at nonsense
        raise RecordError(f"{scope}.{metric.name}: {error}") from error
    return state


def _most(spec: ArraySpec, totals: NDArray[np.int64]) -> int:
    """Return how many values an array may have: each free axis is one of samples."""
    most = 1
    for length in spec.shape:
        most *= int(totals.sum()) if length is None else length
    return most


def _number(key: str, numbers: Mapping[str, Any], spec: ArraySpec) -> NDArray[Any]:
    value, kind = numbers.get(key), int if spec.dtype is np.int64 else float
    if type(value) is not kind or not np.isfinite(value) or (kind is int and abs(value) >= 2**63):
        raise RecordError(f"{key} = {shown(value)} must be a finite {kind.__name__}")
    return np.array(value, dtype=spec.dtype)
