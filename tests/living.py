"""Runs in which clients come late or change: settings, and what is read of them."""

import json

from memory_grid import MemoryGrid

from feddag_flwr.simulation.grid import partitions

CLIENTS = 9
LATE = {
    "num_clients": CLIENTS,
    "newcomer_share": 0.34,
    "newcomer_round": 2,
    "num_rounds": 3,
    "participation": 1.0,
    "evaluate_every": 3,
    "warmup_epochs": 1,
    "secondary": "none",
}


def lines(strategy):
    with (strategy.folder.path / "metrics.jsonl").open() as stream:
        return [json.loads(line) for line in stream]


def groups_of(strategy, names):
    """Cluster of each true group, of the clients named; each group must have one cluster."""
    found = {}
    for name in names:
        found.setdefault(strategy.context.true_groups[name], set()).add(
            strategy.state.assignments[name]
        )
    return found


DRIFT = LATE | {
    "newcomer_share": 0.0,
    "drift_share": 0.67,
    "drift_round": 2,
    "num_rounds": 4,
    "evaluate_every": 2,
    "recluster_share": 0.0,
}


def renamed_grid(settings, config):
    """A grid with one node more, which is the last, is not connected yet and has `config`."""
    configs = partitions(settings, settings.run.num_clients)
    grid = MemoryGrid(settings, node_configs=[*configs, config])
    extra = max(grid.contexts)
    grid.connected.discard(extra)
    return grid, extra
