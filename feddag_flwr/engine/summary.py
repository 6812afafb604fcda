"""What ``summary.json`` holds of a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from feddag_flwr.clustering.rand_index import adjusted_rand_index
from feddag_flwr.metrics import Evaluation, mean_over_clients
from feddag_flwr.state import ServerState
from feddag_flwr.traffic import ARRAYS, SENT, overhead


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
            }
        )
    return {
        "rounds": state.server_round,
        "num-clusters": state.num_clusters,
        "clusters": clusters,
        "overall": mean_over_clients(evaluations.values()),
        "adjusted-rand-index": adjusted_rand_index(state.assignments, true_groups),
        "without-cluster": sorted(set(state.clients) - set(state.assignments)),
        "bytes-per-client": round(totals[ARRAYS] / len(state.clients)),
        "bytes-sent-per-client": round(totals[SENT] / len(state.clients)),
        "overhead": overhead(totals),
        "true-groups": dict(sorted(true_groups.items())),
    }
