"""What lying clients do to honest ones, by aggregator. Runs on the digits, in this process.

Twenty clients of scenario I (five groups). Liars, the first of each group in turn, train as asked
and change what they send. A record a run is appended to OUTPUT/trials.jsonl; those that are there
already are passed over:

    python benchmarks/liars.py run --seeds 1 3 --aggregators mean clipped-mean median
    python benchmarks/liars.py report

Attacks: updates turned round, also 10 and 50 times as long (`turned 1`, `turned 10`, `turned 50`),
noise of the update's own length in its place (`noise`), and updates that grow (`scaled 10`).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from records import Records
from rich.console import Console
from rich.table import Table

from feddag_flwr import Postprocessor
from feddag_flwr.aggregation import Weights
from feddag_flwr.data.client import partition_name
from feddag_flwr.postprocessors import ClientContext
from feddag_flwr.registries import AGGREGATORS
from feddag_flwr.settings import Settings
from feddag_flwr.simulation import run_in_process

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "results" / "liars"
CLIENTS, GROUPS = 20, 5
ATTACKS = ("turned 1", "turned 10", "turned 50", "noise", "scaled 10")
LIE = "FEDDAG_BENCHMARK_LIE"  # what the clients of this process are to do, as JSON


@dataclass(frozen=True)
class Trial:
    """One run."""

    aggregator: str
    attack: str
    liars: int
    participation: float
    rounds: int
    seed: int


def liars_of(number: int) -> list[str]:
    """Return the names of so many liars: client k is of group k modulo the number of groups."""
    return [partition_name(client, CLIENTS) for client in range(number)]


class Lie(Postprocessor):
    """Changes the updates of those who lie."""

    def on_client(
        self, update: Mapping[str, Weights], received: Mapping[str, Weights], context: ClientContext
    ) -> Mapping[str, Weights]:
        """Return the lie, or the truth."""
        plan = json.loads(os.environ[LIE])
        if context.client not in plan["liars"]:
            return update
        rng = context.rng("lie")
        return {
            name: lied(part, received[name], plan["attack"], rng) for name, part in update.items()
        }


def lied(part: Weights, start: Weights, attack: str, rng: np.random.Generator) -> Weights:
    """Return a part after an attack."""
    moved = part.floats.astype(np.float64) - start.floats
    kind, _, factor = attack.partition(" ")
    if kind == "noise":
        noise = rng.standard_normal(moved.size)
        moved = noise * np.linalg.norm(moved) / np.linalg.norm(noise)
    else:
        moved *= float(factor) * (-1.0 if kind == "turned" else 1.0)
    return replace(part, floats=(start.floats + moved).astype(np.float32))


def run(trial: Trial) -> dict[str, Any]:
    """Run a trial; return what became of honest clients."""
    liars = liars_of(trial.liars)
    os.environ[LIE] = json.dumps({"liars": liars, "attack": trial.attack})
    config: dict[str, bool | int | float | str] = {
        "num-clients": CLIENTS,
        "client-groups": GROUPS,
        "seed": trial.seed,
        "num-rounds": trial.rounds,
        "participation": trial.participation,
        "aggregator": trial.aggregator,
        "postprocessors": "liars:Lie, transport",
        "evaluate-every": trial.rounds,
        "evaluate-participants": False,
        "observers": "round-log",
    }
    with tempfile.TemporaryDirectory() as folder:
        path = run_in_process(Settings.from_run_config(config | {"run-dir": folder}))
        lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    values = [
        figures["balanced-accuracy"]
        for name, figures in lines[-1]["all"]["by-client"].items()
        if name not in liars
    ]
    return {"mean": float(np.mean(values)), "worst": float(np.min(values)), "honest": len(values)}


def trials(
    aggregators: list[str], attacks: list[str], participation: float, rounds: int, seeds: range
) -> Iterator[Trial]:
    """Yield all trials; without liars there is no attack."""
    for seed in seeds:
        for aggregator in aggregators:
            yield Trial(aggregator, "", 0, participation, rounds, seed)
        for attack in attacks:
            for number in (1, 4):
                for aggregator in aggregators:
                    yield Trial(aggregator, attack, number, participation, rounds, seed)


def report(records: Records) -> Table:
    """Tabulate all records: honest clients' mean and worst result, over seeds."""
    frame = records.frame()
    names = list(dict.fromkeys(frame["aggregator"]))
    table = Table(title="Honest clients' balanced accuracy, mean / worst client")
    for column in ("attack", "liars", "takes part", "seeds", *names):
        table.add_column(column)
    for key, rows in frame.groupby(["attack", "liars", "participation"], sort=False):
        cells = []
        for name in names:
            of_one = rows[rows["aggregator"] == name]
            cells.append(
                f"{of_one['mean'].mean():.1%} / {of_one['worst'].mean():.1%}" if len(of_one) else ""
            )
        table.add_row(*map(str, key), str(rows["seed"].nunique()), *cells)
    return table


def main() -> None:
    """Parse the command line and run, or report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["run", "report"])
    parser.add_argument("--aggregators", nargs="+", default=list(AGGREGATORS.names))
    parser.add_argument("--attacks", nargs="+", default=list(ATTACKS), choices=ATTACKS)
    parser.add_argument("--participation", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs=2, default=(1, 3), metavar=("FROM", "TO"))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    records = Records.in_folder(arguments.output)
    if arguments.what == "report":
        Console(width=200).print(report(records))
        return
    first, last = arguments.seeds
    planned = trials(
        arguments.aggregators,
        arguments.attacks,
        arguments.participation,
        arguments.rounds,
        range(first, last + 1),
    )
    for trial in records.missing(list(planned)):
        outcome = run(trial)
        records.of_trial(trial, outcome)
        print(trial, outcome, flush=True)


if __name__ == "__main__":
    main()
