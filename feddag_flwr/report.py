"""What a person sees: a line a round, and a table at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from feddag_flwr.clustering.rand_index import adjusted_rand_index
from feddag_flwr.metrics import Evaluation, mean_over_clients
from feddag_flwr.state import ServerState
from feddag_flwr.traffic import ARRAYS, SENT, overhead

logger = logging.getLogger("flwr")

TABLE_WIDTH = 100


class Progress:
    """Logs one line a round: clusters, accuracy, seconds, time left.

    Flower streams the server's log line by line, so each round is a line of its own.

    Parameters
    ----------
    rounds : int
        Rounds in all.
    first : int
        Round that comes next; more than 1 in a run that goes on.
    """

    def __init__(self, rounds: int, first: int = 1) -> None:
        self.rounds = rounds
        self.first = first
        self._start = time.monotonic()

    def show(self, server_round: int, num_clusters: int, line: Mapping[str, Any]) -> None:
        """Log the line of a finished round; `line` is the round's line of ``metrics.jsonl``."""
        scope = "all" if "all" in line else "participants"
        overall = line[scope]["overall"]
        accuracy = overall.get("balanced-accuracy")
        seconds = (time.monotonic() - self._start) / (server_round - self.first + 1)
        logger.info(
            "round %*d/%d | %d clusters | balanced accuracy %s (%d clients%s) | %.1f s a round | "
            "%s left",
            len(str(self.rounds)),
            server_round,
            self.rounds,
            num_clusters,
            "   n/a" if accuracy is None else f"{100 * accuracy:5.1f} %",
            overall["clients"],
            "" if scope == "all" else ", model received",
            seconds,
            timedelta(seconds=round(seconds * (self.rounds - server_round))),
        )


def closing_summary(
    state: ServerState,
    evaluations: Mapping[str, Evaluation],
    true_groups: Mapping[str, int],
    totals: Mapping[str, int],
) -> dict[str, Any]:
    """Sum up a finished run.

    Parameters
    ----------
    state : ServerState
        After the last round.
    evaluations : mapping of str to Evaluation
        Last evaluation of all clients, by name.
    true_groups : mapping of str to int
        Where the scenario knows them.
    totals : mapping of str to int
        Bytes of the whole run, both ways, all clients, in the three ways of `feddag_flwr.traffic`.

    Returns
    -------
    dict
        What ``summary.json`` holds.
    """
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


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.2f} %"


def print_closing_table(summary: Mapping[str, Any], folder: Path) -> None:
    """Print the closing table and where the files are."""
    table = Table(title=f"After round {summary['rounds']}", title_justify="left")
    for column in ("cluster", "members", "samples", "teachers", "balanced accuracy", "accuracy"):
        table.add_column(column, justify="left" if column == "teachers" else "right")
    for row in summary["clusters"]:
        table.add_row(
            str(row["cluster"]),
            str(len(row["members"])),
            str(row["train-samples"]),
            ", ".join(map(str, row["teachers"])) or "-",
            _percent(row.get("balanced-accuracy")),
            _percent(row.get("accuracy")),
        )
    overall = summary["overall"]
    table.add_section()
    table.add_row(
        "all",
        str(overall["clients"]),
        str(sum(row["train-samples"] for row in summary["clusters"])),
        "",
        _percent(overall.get("balanced-accuracy")),
        _percent(overall.get("accuracy")),
    )
    console = Console(width=TABLE_WIDTH, no_color=True, markup=False, highlight=False)
    console.print(table)
    index = summary["adjusted-rand-index"]
    if index is not None:
        console.print(f"adjusted Rand index against the true groups: {index:.3f}")
    if summary["without-cluster"]:
        console.print(f"clients without a cluster: {', '.join(summary['without-cluster'])}")
    if "held-out" in summary:
        accuracy = _percent(summary["held-out"].get("balanced-accuracy"))
        console.print(f"clients unseen in training: {summary['held_out']['clients']}, {accuracy}")
    times = summary["overhead"]
    least = "" if times is None else f" ({times:.2f} times the least)"
    console.print(f"bytes a client, both ways: {summary['bytes-sent-per-client']:,}{least}")
    console.print(f"run folder: {folder}", soft_wrap=True)
