"""What is reported: the line of a round in ``metrics.jsonl``, and ``summary.json`` at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any

import numpy as np
from flwr.app import MetricRecord

from feddag_flwr.clustering.rand_index import adjusted_rand_index
from feddag_flwr.federation.context import FederationContext
from feddag_flwr.metrics import Evaluation, mean_over_clients, pooled, spread_over_clients
from feddag_flwr.state import ServerState, Unlabelled
from feddag_flwr.traffic import ARRAYS, LEAST, SENT, Counts, overhead, total


class RoundReport:
    """Gathers a round's line until it is closed.

    `totals` are the bytes of all rounds closed, both ways, counted as in `feddag_flwr.traffic`.
    """

    def __init__(self) -> None:
        self.line: dict[str, Any] = {}
        self.totals = dict.fromkeys((ARRAYS, SENT, LEAST), 0)
        self._assignments: dict[str, int] = {}
        self._teachers: tuple[tuple[int, ...], ...] = ()
        self._unlabelled: dict[str, Unlabelled] = {}

    def note_evaluations(
        self, scope: str, evaluations: Mapping[str, Evaluation], assignments: Mapping[str, int]
    ) -> MetricRecord | None:
        """Add metrics under a name: overall (returned, if there are any), by cluster, by client."""
        overall = mean_over_clients(evaluations.values())
        by_cluster = {
            str(cluster): mean_over_clients(
                evaluation
                for name, evaluation in evaluations.items()
                if assignments[name] == cluster
            )
            for cluster in sorted({assignments[name] for name in evaluations})
        }
        by_client = {
            name: {**_listed_figures(evaluation), "samples": evaluation.samples}
            for name, evaluation in evaluations.items()
            if evaluation.samples
        }
        self.line[scope] = {"overall": overall, "by-cluster": by_cluster, "by-client": by_client}
        return MetricRecord(dict(overall)) if evaluations else None

    def note_placed(self, placed: Mapping[str, int]) -> None:
        """Add the clusters of clients that came in, if any did."""
        if placed:
            self.line["placed"] = self.line.get("placed", {}) | placed

    def note_unlabelled(self, unlabelled: Mapping[str, Unlabelled]) -> None:
        """Add the clients without labels whose place is new, and how sure it is."""
        changed = {n: each for n, each in unlabelled.items() if self._unlabelled.get(n) != each}
        if changed:
            self.line["unlabelled"] = as_json(changed)
        self._unlabelled = dict(unlabelled)

    def go_on(
        self,
        totals: Mapping[str, int],
        state: ServerState,
        unlabelled: Mapping[str, Unlabelled],
    ) -> None:
        """Count on from where a stopped run was."""
        self.totals, self._unlabelled = dict(totals), dict(unlabelled)
        self._assignments = dict(state.assignments)
        self._teachers = state.teachers

    def close(
        self, server_round: int, state: ServerState, traffic: Mapping[str, Counts]
    ) -> dict[str, Any]:
        """Return the round's line: traffic, who changed cluster, who learns from whom now."""
        sums = {what: total(counts) for what, counts in traffic.items()}
        self.totals = {what: self.totals[what] + added for what, added in sums.items()}
        line = {"round": server_round, **self.line, "clusters": state.num_clusters, **traffic}
        line["overhead"] = overhead(sums)
        moved = {
            name: cluster
            for name, cluster in sorted(state.assignments.items())
            if self._assignments.get(name) != cluster
        }
        if moved:
            line["moved"] = moved
        if state.teachers != self._teachers:
            line["teachers"] = [list(row) for row in state.teachers]
        self._assignments, self._teachers = dict(state.assignments), state.teachers
        self.line = {}
        return line


def as_json(unlabelled: Mapping[str, Unlabelled]) -> dict[str, dict[str, Any]]:
    """Write the clients without labels, by name."""
    return {name: asdict(each) for name, each in unlabelled.items()}


def _listed_figures(evaluation: Evaluation) -> dict[str, float]:
    """Return the figures that a client's line holds: those that exist, of metrics that say so."""
    figures = evaluation.figures()
    return {
        metric.name: figures[metric.name]
        for metric in evaluation.metrics
        if metric.by_client and isfinite(figures[metric.name])
    }


def closing_summary(
    state: ServerState,
    evaluations: Mapping[str, Evaluation],
    true_groups: Mapping[str, int],
    totals: Mapping[str, int],
) -> dict[str, Any]:
    """Sum up a finished run."""
    clusters = []
    for cluster in range(state.num_clusters):
        members = state.members(cluster)
        of_members = [evaluations[m.name] for m in members if m.name in evaluations]
        clusters.append(
            {
                "cluster": cluster,
                "members": [member.name for member in members],
                "train-samples": sum(member.train_samples for member in members),
                "teachers": list(state.teachers[cluster]) if state.teachers else [],
                **mean_over_clients(of_members),
                "pooled": pooled(of_members),
            }
        )
    return {
        "rounds": state.server_round,
        "num-clusters": state.num_clusters,
        "clusters": clusters,
        "overall": mean_over_clients(evaluations.values()),
        "pooled": pooled(evaluations.values()),
        "spread": spread_over_clients(evaluations),
        "adjusted-rand-index": adjusted_rand_index(state.assignments, true_groups),
        "without-cluster": sorted(set(state.clients) - set(state.assignments)),
        "bytes-per-client": round(totals[ARRAYS] / len(state.clients)),
        "bytes-sent-per-client": round(totals[SENT] / len(state.clients)),
        "overhead": overhead(totals),
        "true-groups": dict(sorted(true_groups.items())),
    }


def left_out_at_the_end(
    context: FederationContext, evaluations: Mapping[str, Evaluation]
) -> dict[str, Any]:
    """Return which clients, files, columns and classes a finished run did without; perhaps none.

    Classes are those of the clients' own data alone: made-up scenarios need not hand out all.
    """
    state = context.state
    members = state.assignments.keys() | context.held_out.keys() | context.unlabelled.keys()
    drifted = "its data has drifted, and it was not placed anew"
    sit_out = dict.fromkeys(context.absent & members, "not connected")
    sit_out |= dict.fromkeys(context.drifted, drifted)
    totals = [evaluation.totals for evaluation in evaluations.values()]
    own = totals and context.settings.data.scenario == "own"
    judged = np.sum(totals, axis=0) if own else np.ones(len(state.class_names))
    classes = [name for name, count in zip(state.class_names, judged, strict=True) if not count]
    nodes = context.clients.names
    return context.exchange.left_out.summary(members, nodes, sit_out, classes)
