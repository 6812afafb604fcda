"""What lying clients do to honest ones, by what is done against it. Runs in this process.

Twenty clients of scenario I (five groups of four; `--unequal`: of 5, 5, 4, 4 and 2). Liars are the
first clients of groups, one each. A record a run is appended to OUTPUT/trials.jsonl; those that
are there already are passed over:

    python benchmarks/liars.py run --seeds 2 6 --rules mean geometric-median+3
    python benchmarks/liars.py report

A rule is an aggregator, and after a plus how many members judge an update where few came.

`absent` is no attack: those clients train nothing, which is what the others lose anyhow.
Attacks on training: updates turned round, also 10 and 50 times as long (`turned 1`, `turned 10`,
`turned 50`), noise of the update's own length (`noise`), updates that grow (`scaled 10`), labels
exchanged (`labels`), a thousand times as many samples claimed (`turned 1, counts`). On profiles
(`lying_app`): that of another group's client, with updates turned round (`profile copied`), random
vectors (`profile shattering`), vectors between all groups (`profile merging`), an encoder ten times
as large (`encoder scaled`), pixel moments a thousand times as large (`moments`), drift told every
round (`drift every round`), and newcomers with random vectors in round 5 (`newcomers`).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from lying_app import PLAN, groups_of, plan
from records import Records
from rich.console import Console
from rich.table import Table

from feddag_flwr import Postprocessor
from feddag_flwr.aggregation import Weights
from feddag_flwr.clustering.rand_index import adjusted_rand_index
from feddag_flwr.data.client import partition_name
from feddag_flwr.data.newcomers import late_clients
from feddag_flwr.federation.errors import FederationError
from feddag_flwr.postprocessors import ClientContext
from feddag_flwr.registries import AGGREGATORS
from feddag_flwr.settings import Settings
from feddag_flwr.simulation import run_in_process

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "results" / "liars"
CLIENTS, GROUPS = 20, 5
ATTACKS = (
    "absent",
    "turned 1",
    "turned 10",
    "turned 50",
    "noise",
    "scaled 10",
    "labels",
    "turned 1, counts",
    "profile copied",
    "profile shattering",
    "profile merging",
    "encoder scaled",
    "moments",
    "drift every round",
    "newcomers",
)
DATASETS: dict[str, dict[str, Any]] = {
    "digits": {},
    "fashion-mnist": {"dataset": "fashion-mnist", "train-share": 0.05, "test-share": 0.1},
}


@dataclass(frozen=True)
class Trial:
    """One run."""

    dataset: str
    rule: str
    attack: str
    liars: int
    participation: float
    rounds: int
    seed: int
    unequal: bool = False


class Lie(Postprocessor):
    """Changes the updates of those who lie."""

    def on_client(
        self, update: Mapping[str, Weights], received: Mapping[str, Weights], context: ClientContext
    ) -> Mapping[str, Weights]:
        """Return the lie, or the truth."""
        planned = plan()
        if context.client not in planned["liars"]:
            return update
        rng = context.rng("lie")
        return {
            name: lied(part, received[name], planned["attack"], rng)
            for name, part in update.items()
        }


def lied(part: Weights, start: Weights, attack: str, rng: np.random.Generator) -> Weights:
    """Return a part after an attack; as it is where that is about something else."""
    moved = part.floats.astype(np.float64) - start.floats
    kind, _, factor = attack.partition(" ")
    if kind == "noise":
        noise = rng.standard_normal(moved.size)
        moved = noise * np.linalg.norm(moved) / np.linalg.norm(noise)
    elif kind in {"turned", "scaled"}:
        moved *= float(factor.partition(",")[0]) * (-1.0 if kind == "turned" else 1.0)
    elif attack == "profile copied":  # who has joined another group turns its update round there
        moved *= -1.0
    else:
        return part
    return replace(part, floats=(start.floats + moved).astype(np.float32))


def config_of(trial: Trial, data_dir: str, folder: str) -> dict[str, bool | int | float | str]:
    """Return the settings of a trial."""
    aggregator, _, judges = trial.rule.partition("+")
    config: dict[str, bool | int | float | str] = {
        "num-clients": CLIENTS,
        "client-groups": GROUPS,
        "seed": trial.seed,
        "num-rounds": trial.rounds,
        "participation": trial.participation,
        "aggregator": aggregator,
        "judges": int(judges or 0),
        "postprocessors": "liars:Lie, transport",
        "evaluate-every": trial.rounds,
        "evaluate-participants": False,
        "observers": "round-log, closing-table",
        "run-dir": folder,
    }
    config |= DATASETS[trial.dataset]
    if trial.dataset != "digits":
        config["data-dir"] = data_dir
    if trial.attack == "newcomers":
        config |= {"newcomer-share": trial.liars / CLIENTS, "newcomer-round": 5}
    return config


def liars_of(trial: Trial, settings: Settings, groups: Sequence[int]) -> list[int]:
    """Return who lies: the first clients of as many groups, or the newcomers.

    Of unequal groups not of the smallest: two members, of whom one lies, cannot tell.
    """
    if trial.attack == "newcomers":
        return sorted(late_clients(settings))
    return sorted(groups.index(group) for group in range(trial.liars))


def run(trial: Trial, data_dir: str) -> dict[str, Any]:
    """Run a trial; return what became of honest clients."""
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.from_run_config(config_of(trial, data_dir, folder))
        groups = groups_of(settings, unequal=trial.unequal)
        lying = liars_of(trial, settings, groups)
        liars = [partition_name(client, CLIENTS) for client in lying]
        attack = "profile shattering" if trial.attack == "newcomers" else trial.attack
        os.environ[PLAN] = json.dumps(
            {
                "liars": liars,
                "attack": attack,
                "clients": CLIENTS,
                "unequal": trial.unequal,
                "other": groups.index(GROUPS - 1),  # whose profile is copied
            }
        )
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # of the closing table
                path = run_in_process(settings, "lying_app:app")
        except FederationError as error:  # nobody has a model any more
            return {"mean": 0.0, "worst": 0.0, "failed": str(error)}
        lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        summary = json.loads((path / "summary.json").read_text())
    by_client = lines[-1]["all"]["by-client"]
    values = {n: f["balanced-accuracy"] for n, f in by_client.items() if n not in liars}
    clusters = {
        name: each["cluster"]
        for each in summary["clusters"]
        for name in each["members"]
        if name not in liars
    }
    true = {partition_name(client, CLIENTS): group for client, group in enumerate(groups)}
    outcome = {
        "mean": float(np.mean(list(values.values()))),
        "worst": float(min(values.values())),
        "honest": len(values),
        "clusters": summary["num-clusters"],
        "ari": adjusted_rand_index(clusters, {name: true[name] for name in clusters}),
        "left-out": sum(
            2 * each["worse"] > each["of"]
            for line in lines
            for name, each in line.get("judged", {}).items()
            if name not in liars
        ),
        "quarantined": sorted({name for line in lines for name in line.get("quarantined", [])}),
        "mega-bytes": summary["bytes-sent-per-client"] / 1e6,
        "cpu-seconds": time.process_time() - began,
    }
    if trial.unequal:
        smallest = [n for n in values if true[n] == GROUPS - 1]
        outcome["minority"] = float(np.mean([values[name] for name in smallest]))
    return outcome


def trials(arguments: argparse.Namespace) -> Iterator[Trial]:
    """Yield all trials; without liars there is no attack."""
    first, last = arguments.seeds
    rest = (arguments.participation, arguments.rounds)
    for seed in range(first, last + 1):
        for dataset in arguments.datasets:
            for rule in arguments.rules:
                if 0 in arguments.liars:
                    yield Trial(dataset, rule, "", 0, *rest, seed, arguments.unequal)
                for attack in arguments.attacks:
                    for number in filter(None, arguments.liars):
                        yield Trial(dataset, rule, attack, number, *rest, seed, arguments.unequal)


def report(records: Records, *, unequal: bool) -> Iterator[Table]:
    """Tabulate all records: honest clients' mean and worst result, mean and lowest over seeds."""
    everything = records.frame()
    everything = everything[everything["unequal"] == unequal]
    for (dataset, participation), frame in everything.groupby(["dataset", "participation"]):
        names = sorted(set(frame["rule"]))
        table = Table(title=f"{dataset}, {participation:g} take part: mean / worst, clusters, ARI")
        for column in ("attack", "liars", "seeds", *names):
            table.add_column(column)
        for key, rows in frame.groupby(["attack", "liars"], sort=False):
            cells = [_cell(rows[rows["rule"] == name]) for name in names]
            table.add_row(*map(str, key), str(rows["seed"].nunique()), *cells)
        yield table


def _cell(rows: Any) -> str:  # noqa: ANN401 - a frame of pandas
    if not len(rows):
        return ""
    means = rows[["mean", "worst", "clusters", "ari"]].mean()
    smallest = rows["minority"].dropna() if "minority" in rows else ()
    minority = f", minority {np.mean(smallest):.1%}" if len(smallest) else ""
    return (
        f"{means['mean']:.1%} / {means['worst']:.1%} ({means['clusters']:.1f}, {means['ari']:.2f})"
        + minority
    )


def main() -> None:
    """Parse the command line and run, or report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["run", "report"])
    rules = [f"{aggregator}{judges}" for aggregator in AGGREGATORS.names for judges in ("", "+3")]
    parser.add_argument("--rules", nargs="+", default=rules)
    parser.add_argument("--attacks", nargs="+", default=list(ATTACKS), choices=ATTACKS)
    parser.add_argument("--liars", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--datasets", nargs="+", default=["digits"], choices=DATASETS)
    parser.add_argument("--data-dir", default="", help="folder of FashionMNIST")
    parser.add_argument("--participation", type=float, default=0.2)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs=2, default=(2, 6), metavar=("FROM", "TO"))
    parser.add_argument("--unequal", action="store_true", help="groups of 5, 5, 4, 4 and 2")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    records = Records.in_folder(arguments.output)
    if arguments.what == "report":
        for table in report(records, unequal=arguments.unequal):
            Console(width=200).print(table)
        return
    for trial in records.missing(list(trials(arguments))):
        outcome = run(trial, arguments.data_dir)
        records.of_trial(trial, outcome)
        print(trial, outcome, flush=True)


if __name__ == "__main__":
    main()
