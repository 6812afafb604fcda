"""Runs of a changing federation in this process, and what their folders tell."""

from __future__ import annotations

import json
import logging
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feddag_flwr.checkpoints import newest_checkpoint
from feddag_flwr.data.client import partition_name
from feddag_flwr.data.datasets import load_dataset
from feddag_flwr.data.drift import drifted_parts
from feddag_flwr.data.newcomers import late_clients
from feddag_flwr.data.plan import make_plan
from feddag_flwr.settings import Settings
from feddag_flwr.simulation import run_in_process

Groups = dict[str, int]


@dataclass(frozen=True)
class Reading:
    """What a finished run left.

    Attributes
    ----------
    settings : Settings
        Of the run.
    lines : list of dict
        Of ``metrics.jsonl``; line r is that of round r.
    assignments : dict of str to int
        Cluster of each client after the last round.
    """

    settings: Settings
    lines: list[dict[str, Any]]
    assignments: dict[str, int]

    def accuracies(self) -> dict[str, float]:
        """Return each client's balanced accuracy after the last round."""
        judged = self.lines[-1]["all"]["by-client"]
        return {name: float(each["balanced-accuracy"]) for name, each in judged.items()}


def run_and_read(settings: Settings, output: Path | None) -> Reading:
    """Run a federation in this process; its folder is kept below `output`, where that is given."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as passing:
        folder = run_in_process(settings.changed({"run-dir": str(output or passing)}))
        text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
        assignments = newest_checkpoint(folder).state.assignments
    return Reading(settings, [json.loads(line) for line in text.splitlines()], assignments)


def true_groups(settings: Settings) -> Groups:
    """Return each client's true group, as long as its data is its own."""
    plan = make_plan(load_dataset(settings), settings)
    groups = {
        partition_name(client, settings.run.num_clients): plan.true_group(client)
        for client in range(settings.run.num_clients)
    }
    return {name: group for name, group in groups.items() if group is not None}


def newcomers(settings: Settings) -> list[str]:
    """Return the clients that join late, in the order of names."""
    return sorted(partition_name(each, settings.run.num_clients) for each in late_clients(settings))


def drifting(settings: Settings) -> Groups:
    """Return the clients whose data changes, with the true group that they come to have."""
    plan = make_plan(load_dataset(settings), settings)
    parts = drifted_parts(plan, settings.data.drift_share, settings.run.seed)
    after = {
        partition_name(client, settings.run.num_clients): plan.true_group(part)
        for client, part in sorted(parts.items())
    }
    return {name: group for name, group in after.items() if group is not None}


def homes(assignments: Mapping[str, int], groups: Groups, names: Iterable[str]) -> dict[int, int]:
    """Return the cluster in which most of the named clients of each true group are."""
    found: dict[int, Counter[int]] = {}
    for name in names:
        if name in assignments:
            found.setdefault(groups[name], Counter())[assignments[name]] += 1
    return {group: counter.most_common(1)[0][0] for group, counter in found.items()}
