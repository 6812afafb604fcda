"""The round whose models do best on data held back, kept at the end (settings keep, patience)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Final

from numpy.typing import NDArray

from feddag_flwr.algorithms.algorithm import Algorithm
from feddag_flwr.checkpoints.choice import BEST_MODELS
from feddag_flwr.checkpoints.model_arrays import arrays_of, model_of
from feddag_flwr.federation.context import FederationContext
from feddag_flwr.metrics import load_metrics, mean_over_clients, metric_names
from feddag_flwr.records import Model

logger = logging.getLogger("flwr")

# What the groups of its arrays in a checkpoint begin with.
PREFIX: Final = BEST_MODELS


@dataclass
class _Best:
    """The best round so far: 0 before the first; `passed` are looks since without a better one."""

    server_round: int = 0
    value: float = -inf
    passed: int = 0
    models: list[Model] = field(default_factory=list)


class BestRound:
    """Looks at models on clients' validation data, and remembers the best.

    What counts is the mean over clients of the headline metric. A new number of clusters begins
    anew: models of before are of other clusters.
    """

    def __init__(self, context: FederationContext, algorithm: Algorithm) -> None:
        self._context = context
        self._algorithm = algorithm
        self._best = _Best()

    @property
    def on(self) -> bool:
        """Whether there is anything to do."""
        run = self._context.settings.run
        return run.keep == "best-validation" or run.patience > 0

    @property
    def is_over(self) -> bool:
        """Whether ``patience`` looks on end have found nothing better."""
        patience = self._context.settings.run.patience
        return 0 < patience <= self._best.passed

    def look(self, server_round: int) -> dict[str, Any]:
        """Have clients judge their models on what they hold back; return what is said of it."""
        context, best = self._context, self._best
        metrics = load_metrics(metric_names(context.settings.run.metrics))
        replies = context.ask(
            replace(self._algorithm.evaluate_request(server_round, name, 0), held_back=True)
            for name in context.connected(sorted(context.state.assignments))
        )
        overall = mean_over_clients(reply.evaluation for reply in replies.values())
        headline = metrics[0]
        told = overall.get(headline.name)
        value = -inf if told is None else told if headline.higher_is_better else -told
        if len(best.models) != context.state.num_clusters:
            best = self._best = _Best()
        if value > best.value:
            models = [dict(model) for model in context.state.models]
            self._best = _Best(server_round, value, 0, models)
        else:
            best.passed += 1
        return {"overall": overall, "best-round": self._best.server_round}

    def keep(self, server_round: int) -> None:
        """Put the best round's models in the place of the last ones, where that is asked for."""
        best, state = self._best, self._context.state
        if self._context.settings.run.keep == "last" or not best.server_round:
            return
        if best.server_round != server_round and len(best.models) == state.num_clusters:
            state.models = [dict(model) for model in best.models]
            logger.info("kept are the models of round %d", best.server_round)

    def summary(self) -> dict[str, Any]:
        """Return what ``summary.json`` says of it."""
        return {"best-round": self._best.server_round, "kept": self._context.settings.run.keep}

    # -- what a checkpoint keeps -------------------------------------------------------------------

    def arrays(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Return the best models, a group each."""
        models = enumerate(self._best.models)
        return {f"{PREFIX}{cluster}": arrays_of(model) for cluster, model in models}

    def notes(self) -> dict[str, Any]:
        """Return all else."""
        best = self._best
        value = best.value if best.server_round else None
        return {"round": best.server_round, "value": value, "passed": best.passed}

    def load(
        self, arrays: Mapping[str, Mapping[str, NDArray[Any]]], notes: Mapping[str, Any]
    ) -> None:
        """Take over what `arrays` and `notes` returned."""
        models = [model_of(arrays[f"{PREFIX}{cluster}"]) for cluster in range(len(arrays))]
        value = -inf if notes["value"] is None else float(notes["value"])
        self._best = _Best(notes["round"], value, notes["passed"], models)
