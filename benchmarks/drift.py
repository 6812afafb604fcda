"""Drift (A.9, Eq. 41) on Fashion-MNIST: how soon it is told and mended, and false alarms.

1. A fifth of 100 clients in scenario I (30 %, alpha' = 1) swap their data, each with one of another
   group. A check is a round in which a client is asked to train or to be judged. Counted are checks
   until the server knows, rounds until the client is placed anew, and in which group.
2. A run over stationary data, in which everybody is asked in every round.
3. Monte Carlo: every client's classes are drawn anew in every round, from its own proportions. No
   training is needed for that, nor for the last figure: of all pairs of clients of different
   groups, how many would be told if one got the other's data.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from run_readings import Groups, Reading, drifting, homes, run_and_read, true_groups

from feddag_flwr.data.client import partition_name
from feddag_flwr.data.datasets import load_dataset
from feddag_flwr.data.drift import drifted_parts
from feddag_flwr.data.plan import Plan, make_plan
from feddag_flwr.settings import Settings, SettingValue
from feddag_flwr.similarity.drift import class_shift


@dataclass(frozen=True)
class Course:
    """What became of a client whose data changed; None: it never did.

    Attributes
    ----------
    checks : int or None
        Rounds in which it was asked, from the change on, until the server knew.
    rounds_to_know : int or None
        Rounds until then, whether it was asked or not.
    rounds_to_place : int or None
        Rounds from then until it had a cluster anew.
    right : bool
        Whether that is the one of its new group.
    """

    client: str
    checks: int | None
    rounds_to_know: int | None
    rounds_to_place: int | None
    right: bool


def follow(run: Reading, client: str, home: int) -> Course:
    """Read a client's course from the lines of the rounds."""
    start, checks, known = run.settings.data.drift_round, 0, None
    for line in run.lines[start:]:
        if known is None:
            checks += _asked(line, client)
            if client in line.get("drifted", ()):
                known = line["round"]
        elif client in line.get("placed", {}):
            right = line["placed"][client] == home
            return Course(client, checks, known - start + 1, line["round"] - known, right)
    if known is None:
        return Course(client, None, None, None, right=False)
    return Course(client, checks, known - start + 1, None, right=False)


def _asked(line: dict[str, Any], client: str) -> bool:
    judged = line.get("all", {}).get("by-client", {})
    return client in line["sampled"] or client in judged


def courses(run: Reading) -> tuple[list[Course], int]:
    """Return every drifting client's course, and how many others changed their cluster."""
    groups, after = true_groups(run.settings), drifting(run.settings)
    steady = sorted(groups.keys() - after.keys())
    home = homes(run.assignments, groups, steady)
    moved = {name for line in run.lines[1:] for name in line.get("moved", {})} & set(steady)
    return [follow(run, name, home[group]) for name, group in after.items()], len(moved)


def false_alarms(plan: Plan, settings: Settings, rounds: int) -> tuple[int, int]:
    """Draw every client's samples anew in each round; return alarms and clients that had one."""
    rng = np.random.default_rng(settings.run.seed)
    alarms = np.zeros(len(plan.counts), dtype=int)
    for client, counts in enumerate(track(plan.label_counts(), "drawing")):
        size, shares = counts.sum(), counts / counts.sum()
        reference = rng.multinomial(size, shares)
        for _ in range(rounds):
            shift = class_shift(reference, rng.multinomial(size, shares))
            alarms[client] += shift > settings.clustering.drift_threshold
    return int(alarms.sum()), int((alarms > 0).sum())


def told_pairs(plan: Plan, settings: Settings) -> float:
    """Share of ordered pairs of clients of different groups whose swap would be told."""
    counts, clients = plan.label_counts(), range(len(plan.counts))
    told = [
        class_shift(counts[mine], counts[other]) > settings.clustering.drift_threshold
        for mine in clients
        for other in clients
        if mine < other and plan.true_group(mine) != plan.true_group(other)
    ]
    return float(np.mean(told))


def print_courses(console: Console, found: list[Course], moved: int, groups: Groups) -> None:
    """Print how the drifting clients fared."""
    table = Table(title=f"{len(found)} of {len(groups)} clients got data of another group")
    for column in ("", "clients", "mean", "most"):
        table.add_column(column, justify="right" if column else "left")
    for title, values in (
        ("checks until it was known", [each.checks for each in found]),
        ("rounds until it was known", [each.rounds_to_know for each in found]),
        ("rounds from then until placed anew", [each.rounds_to_place for each in found]),
    ):
        known = [value for value in values if value is not None]
        mean = f"{np.mean(known):.2f}" if known else ""
        table.add_row(title, str(len(known)), mean, str(max(known, default="")))
    table.add_row("in the cluster of the new group", str(sum(each.right for each in found)))
    table.add_row("other clients that changed cluster", str(moved))
    console.print(table)


def print_untold(console: Console, found: list[Course], settings: Settings) -> None:
    """Name the clients that were never placed anew, with how far their classes moved."""
    plan = make_plan(load_dataset(settings), settings)
    counts = plan.label_counts()
    parts = drifted_parts(plan, settings.data.drift_share, settings.run.seed)
    shifts = {
        partition_name(client, settings.run.num_clients): class_shift(counts[client], counts[part])
        for client, part in parts.items()
    }
    for each in found:
        if each.rounds_to_place is None:
            console.print(
                f"never placed anew: {each.client}, whose classes moved by "
                f"{shifts[each.client]:.3f} "
                f"(drift-threshold {settings.clustering.drift_threshold:g})"
            )


def run_settings(arguments: argparse.Namespace, changes: dict[str, SettingValue]) -> Settings:
    """Return the settings of a run."""
    return Settings.from_run_config(
        {
            "dataset": "fashion-mnist",
            "data-dir": arguments.data_dir,
            "train-share": arguments.train_share,
            "num-clients": arguments.clients,
            "seed": arguments.seed,
            **changes,
        }
    )


def main() -> None:
    """Run the parts that are asked for and print what they show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", default="../shared/data")
    parser.add_argument("--train-share", type=float, default=0.2, help="of the training images")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--drift-round", type=int, default=5)
    parser.add_argument("--drift-share", type=float, default=0.2)
    parser.add_argument("--local-epochs", type=int, default=2)
    parser.add_argument("--stationary-rounds", type=int, default=50)
    parser.add_argument(
        "--parts", nargs="+", choices=("drift", "stationary", "chance"),
        default=["drift", "stationary", "chance"],
    )  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="DIR", help="keep the run folders there")
    arguments = parser.parse_args()
    console = Console(width=110)
    if "drift" in arguments.parts:
        settings = run_settings(
            arguments,
            {
                "num-rounds": arguments.rounds,
                "local-epochs": arguments.local_epochs,
                "drift-share": arguments.drift_share,
                "drift-round": arguments.drift_round,
            },
        )
        found, moved = courses(run_and_read(settings, arguments.output))
        print_courses(console, found, moved, true_groups(settings))
        print_untold(console, found, settings)
    rounds = arguments.stationary_rounds
    if "stationary" in arguments.parts:
        settings = run_settings(
            arguments,
            {
                "num-rounds": rounds,
                "participation": 1.0,
                "local-epochs": 1,
                "secondary": "none",
            },
        )
        run = run_and_read(settings, arguments.output)
        told = {name for line in run.lines for name in line.get("drifted", ())}
        asked = sum(_asked(line, name) for line in run.lines[1:] for name in run.assignments)
        console.print(f"stationary data: {len(told)} false alarms in {asked:,} checks")
    if "chance" in arguments.parts:
        settings = run_settings(arguments, {})
        plan = make_plan(load_dataset(settings), settings)
        alarms, clients = false_alarms(plan, settings, rounds)
        console.print(
            f"classes drawn anew in {rounds} rounds: {alarms} false alarms in "
            f"{rounds * len(plan.counts):,} checks, at {clients} of {len(plan.counts)} clients"
        )
        console.print(
            f"pairs of clients of different groups whose swap would be told: "
            f"{100 * told_pairs(plan, settings):.2f} %"
        )


if __name__ == "__main__":
    main()
