"""One model judged on one client's test data, and means over clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.metrics.base import Metric, State

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What metrics in use, the headline first, keep of one model on some test data.

    `totals`, shape (C,), int64, are the samples of each true class.
    """

    metrics: tuple[Metric, ...]
    totals: NDArray[np.int64]
    states: Mapping[str, State]

    @classmethod
    def of(
        cls, metrics: Sequence[Metric], scores: Tensor, labels: Tensor, losses: Tensor
    ) -> Evaluation:
        """Judge one batch, see `Metric.update`."""
        totals = np.bincount(labels.cpu().numpy(), minlength=scores.shape[1]).astype(np.int64)
        states = {metric.name: metric.update(scores, labels, losses) for metric in metrics}
        return cls(tuple(metrics), totals, states)

    @staticmethod
    def merged(evaluations: Iterable[Evaluation]) -> Evaluation:
        """Return the evaluation of all samples together, of one evaluation at least."""
        return reduce(_merge, evaluations)

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.totals.sum())

    def value(self, name: str) -> float:
        """Return the value of a metric in use; NaN where it does not exist."""
        return self.figures()[name]

    def figures(self) -> dict[str, float]:
        """Return the value of each metric, by name and in the order of `metrics`."""
        return {
            metric.name: metric.value(self.states[metric.name], self.totals)
            for metric in self.metrics
        }

    def details(self) -> dict[str, dict[str, Any]]:
        """Return what metrics say beside their values, by their names; of those that say more."""
        told = {m.name: dict(m.details(self.states[m.name], self.totals)) for m in self.metrics}
        return {name: details for name, details in told.items() if details}


def _merge(first: Evaluation, second: Evaluation) -> Evaluation:
    states = {
        metric.name: metric.merge(first.states[metric.name], second.states[metric.name])
        for metric in first.metrics
    }
    return Evaluation(first.metrics, first.totals + second.totals, states)


def pooled(evaluations: Iterable[Evaluation]) -> dict[str, Any]:
    """Figures and details of all clients' test data together; empty where nobody has any.

    Clients count by their samples here. The means are `mean_over_clients`.
    """
    usable = [evaluation for evaluation in evaluations if evaluation.samples]
    if not usable:
        return {}
    together = Evaluation.merged(usable)
    figures = {name: value for name, value in together.figures().items() if np.isfinite(value)}
    return {"samples": together.samples, **figures, "details": together.details()}


def spread_over_clients(evaluations: Mapping[str, Evaluation]) -> dict[str, dict[str, Any]]:
    """Worst client and 10th percentile of each metric that is given by client.

    The 10th percentile is of the worse end: where smaller is better, a tenth of clients have more.
    """
    usable = {name: each for name, each in sorted(evaluations.items()) if each.samples}
    metrics = next(iter(usable.values())).metrics if usable else ()
    spread: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        figures = {name: each.value(metric.name) for name, each in usable.items()}
        finite = {name: value for name, value in figures.items() if np.isfinite(value)}
        if metric.by_client and finite:
            sign = 1.0 if metric.higher_is_better else -1.0
            worst = min(finite, key=lambda name: sign * finite[name])
            tenth = sign * float(np.percentile(sign * np.array(list(finite.values())), 10))
            spread[metric.name] = {
                "worst-client": worst,
                "worst": finite[worst],
                "10th-percentile": tenth,
            }
    return spread


def mean_over_clients(evaluations: Iterable[Evaluation]) -> dict[str, float | int]:
    """Mean figures over clients, each client counted once (the paper's metric, Sec. 5).

    ``clients`` says how many have test data; each mean is over those of them for which the metric
    exists, and left out where it exists for none.
    """
    usable = [evaluation.figures() for evaluation in evaluations if evaluation.samples]
    means: dict[str, float | int] = {"clients": len(usable)}
    for name in usable[0] if usable else ():
        values = [figures[name] for figures in usable if np.isfinite(figures[name])]
        if values:
            means[name] = float(np.mean(values))
    return means
