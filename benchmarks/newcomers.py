"""Newcomers on Fashion-MNIST, the setting of Table 13 in a short run (A.8, Algorithm 4).

Of 100 clients in scenario I (30 %, alpha' = 1), 80 train from the start and 20 join in a later
round. Each seed's line says how many of them were placed in their true group, that is, in the
cluster in which most of the group's first members are; their accuracy after the last round, beside
that of all members and of the members of their own true groups (groups are not equally hard, and
newcomers are not spread evenly over them); and how many other clients changed their cluster
meanwhile (none should).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from run_readings import Reading, homes, newcomers, run_and_read, true_groups
from sklearn.metrics import adjusted_rand_score

from feddag_flwr.settings import Settings


@dataclass(frozen=True)
class Outcome:
    """One seed's line; accuracies are means over clients."""

    seed: int
    late: int
    placed: int
    right: int
    members: int
    member_accuracy: float
    peer_accuracy: float
    late_accuracy: float
    moved: int
    rand: float
    clusters: int
    seconds: float


def judge(run: Reading, seconds: float) -> Outcome:
    """Compare the newcomers with the members."""
    late, groups = newcomers(run.settings), true_groups(run.settings)
    members = sorted(groups.keys() - set(late))
    home = homes(run.assignments, groups, members)
    accuracies = run.accuracies()
    peers = {
        group: float(np.mean([accuracies[name] for name in members if groups[name] == group]))
        for group in home
    }
    moved = {name for line in run.lines[1:] for name in line.get("moved", {})} & set(members)
    return Outcome(
        seed=run.settings.run.seed,
        late=len(late),
        placed=sum(name in run.assignments for name in late),
        right=sum(run.assignments.get(name) == home[groups[name]] for name in late),
        members=len(members),
        member_accuracy=float(np.mean([accuracies[name] for name in members])),
        peer_accuracy=float(np.mean([peers[groups[name]] for name in late])),
        late_accuracy=float(np.mean([accuracies.get(name, 0.0) for name in late])),
        moved=len(moved),
        rand=float(
            adjusted_rand_score(
                [groups[name] for name in members], [run.assignments[name] for name in members]
            )
        ),
        clusters=len(set(run.assignments.values())),
        seconds=seconds,
    )


def print_outcomes(outcomes: list[Outcome], title: str) -> None:
    """Print one line a seed, and how many newcomers came right in all."""
    table = Table(title=title)
    for column in (
        "seed", "clusters", "ARI of the members", "newcomers placed", "in their true group",
        "members' accuracy", "of the newcomers' groups", "newcomers' accuracy",
        "others moved", "seconds",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    for each in outcomes:
        table.add_row(
            str(each.seed),
            str(each.clusters),
            f"{each.rand:.3f}",
            f"{each.placed} of {each.late}",
            f"{each.right} of {each.late}",
            f"{100 * each.member_accuracy:.2f} %",
            f"{100 * each.peer_accuracy:.2f} %",
            f"{100 * each.late_accuracy:.2f} %",
            f"{each.moved} of {each.members}",
            f"{each.seconds:.0f}",
        )
    console = Console(width=140)
    console.print(table)
    right, late = sum(each.right for each in outcomes), sum(each.late for each in outcomes)
    console.print(f"in their true group: {right} of {late} ({100 * right / late:.1f} %)")


def main() -> None:
    """Run each seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", default="../shared/data")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--join-round", type=int, default=20)
    parser.add_argument("--train-share", type=float, default=1.0, help="of the training images")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--newcomer-share", type=float, default=0.2)
    parser.add_argument("--local-epochs", type=int, default=10)
    parser.add_argument("--output", type=Path, metavar="DIR", help="keep the run folders there")
    arguments = parser.parse_args()
    outcomes = []
    for seed in arguments.seeds:
        settings = Settings.from_run_config(
            {
                "dataset": "fashion-mnist",
                "data-dir": arguments.data_dir,
                "train-share": arguments.train_share,
                "num-clients": arguments.clients,
                "num-rounds": arguments.rounds,
                "local-epochs": arguments.local_epochs,
                "newcomer-share": arguments.newcomer_share,
                "newcomer-round": arguments.join_round,
                "evaluate-every": arguments.rounds,
                "seed": seed,
            }
        )
        start = time.monotonic()
        run = run_and_read(settings, arguments.output)
        outcomes.append(judge(run, time.monotonic() - start))
    print_outcomes(
        outcomes,
        f"Fashion-MNIST, I 30 %, alpha' = 1: newcomers in round {arguments.join_round} of "
        f"{arguments.rounds}, train-share {arguments.train_share:g}",
    )


if __name__ == "__main__":
    main()
