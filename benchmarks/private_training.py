"""What private training costs: accuracy by epsilon, of FedDAG and of FedAvg.

Each trial is a whole run in this process. A record a line is appended to OUTPUT; trials that are
there already are passed over:

    python benchmarks/private_training.py run digits --seeds 1 3
    python benchmarks/private_training.py run fashion-mnist --data DIR --seeds 1 3
    python benchmarks/private_training.py choose fashion-mnist --data DIR
    python benchmarks/private_training.py report

`choose` is what clip, sampling rate and learning rate were chosen by, on a seed that is not
reported. Noise of clients is the operating system's, so that no private trial repeats exactly.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from records import Records
from rich.console import Console
from rich.table import Table

from feddag_flwr.settings import Settings
from feddag_flwr.simulation import run_in_process

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "results" / "private-training"
EPSILONS = (0.0, 8.0, 3.0, 1.0)  # 0: no noise
CHOOSING_SEED = 201
# Shares of epsilon that FedDAG's profile and its training are given: together they cost about all.
PROFILE_SHARE, TRAINING_SHARE = 0.5, 0.83

COMMON: dict[str, Any] = {
    "scenario": "label-skew",
    "label-skew": 30.0,
    "num-clients": 20,
    "client-groups": 5,
    "num-rounds": 20,
    "participation": 1.0,
    "batch-size": 64,
    "standardise": False,
    "evaluate-every": 20,
    "evaluate-participants": False,
    "observers": "closing-table",
    "threads": 1,
}
FEDDAG: dict[str, Any] = {
    "secondary": "none",
    "initialisation": "random",
    "drift-threshold": 0.0,
}
# Without noise: the usual training; digits are few.
USUAL: dict[str, dict[str, Any]] = {
    "digits": {"local-epochs": 5, "batch-size": 10, "learning-rate": 0.05, "momentum": 0.5},
    "fashion-mnist": {"local-epochs": 1, "learning-rate": 0.05, "momentum": 0.5},
}


@dataclass(frozen=True)
class Trial:
    """One run; clip, rate, learning rate and steps a round are of private training, else 0."""

    dataset: str
    algorithm: str
    epsilon: float
    clip: float
    rate: float
    learning_rate: float
    steps: int
    seed: int


# Clip, sampling rate, learning rate, steps a round: tried on CHOOSING_SEED at epsilon 3.
_ON_DIGITS = [
    (1.0, 0.5, 1.0, 1),
    (1.0, 1.0, 1.0, 1),
    (1.0, 0.25, 1.0, 4),
    (1.0, 1.0, 0.3, 1),
    (0.3, 0.5, 3.0, 1),
    (1.0, 0.5, 2.0, 1),
    (1.0, 0.25, 1.0, 1),
]
TRIED: dict[str, dict[str, list[tuple[float, float, float, int]]]] = {
    "digits": {"fedavg": _ON_DIGITS, "feddag": _ON_DIGITS},
    "fashion-mnist": {
        "fedavg": [
            (1.0, 0.1, 0.5, 1),
            (0.3, 0.1, 1.0, 1),
            (1.0, 0.1, 0.2, 1),
            (1.0, 0.05, 2.0, 2),
            (1.0, 0.1, 2.0, 1),
            (1.0, 0.05, 1.0, 4),
        ],
        "feddag": [(1.0, 0.05, 2.0, 2), (1.0, 0.05, 1.0, 4)],
    },
}
# What was chosen: of nearly equal ones the one that takes less time.
CHOSEN = {"digits": (1.0, 0.5, 1.0, 1), "fashion-mnist": (1.0, 0.05, 2.0, 2)}


def trials(dataset: str, seeds: Iterable[int]) -> list[Trial]:
    """Return the runs that are reported."""
    return [
        Trial(
            dataset, algorithm, epsilon, *(CHOSEN[dataset] if epsilon else (0.0, 0.0, 0.0, 0)), seed
        )
        for seed in seeds
        for epsilon in EPSILONS
        for algorithm in ("feddag", "fedavg")
    ]


def choices(dataset: str) -> list[Trial]:
    """Return the runs that all else was chosen by, at epsilon 3."""
    return [
        Trial(dataset, algorithm, 3.0, *how, CHOOSING_SEED)
        for algorithm, tried in TRIED[dataset].items()
        for how in tried
    ]


def settings_of(trial: Trial, data: str, folder: str) -> Settings:
    """Return the settings of a trial."""
    config = COMMON | {
        "dataset": trial.dataset,
        "data-dir": data,
        "algorithm": trial.algorithm,
        "seed": trial.seed,
        "run-dir": folder,
    }
    feddag = trial.algorithm == "feddag"
    config |= FEDDAG if feddag else {}
    if not trial.epsilon:
        return Settings.from_run_config(config | USUAL[trial.dataset])
    if feddag:
        config["profile-epsilon"] = PROFILE_SHARE * trial.epsilon
    return Settings.from_run_config(
        config
        | {
            "training-epsilon": trial.epsilon * (TRAINING_SHARE if feddag else 1.0),
            "training-clip": trial.clip,
            "training-sampling-rate": trial.rate,
            "learning-rate": trial.learning_rate,
            "local-steps": trial.steps,
            "momentum": 0.0,
        }
    )


def run(trial: Trial, data: str) -> dict[str, Any]:
    """Run a trial; return accuracy, groups, and what was promised."""
    started, worked = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        path = run_in_process(settings_of(trial, data, folder))
        summary = json.loads((path / "summary.json").read_text())
    told = summary.get("privacy", {})
    samples = [cluster["train-samples"] for cluster in summary["clusters"]]
    return {
        "balanced-accuracy": round(summary["overall"]["balanced-accuracy"], 4),
        "accuracy": round(summary["overall"]["accuracy"], 4),
        "clusters": summary["num-clusters"],
        "rand-index": round(summary["adjusted-rand-index"], 4),
        "epsilon-told": told.get("epsilon"),
        "delta": told.get("delta"),
        "noise-multiplier": told.get("noise-multiplier"),
        "samples": sum(samples),
        "seconds": round(time.perf_counter() - started, 1),
        "cpu-seconds": round(time.process_time() - worked, 1),
    }


def report(records: Records) -> Table:
    """Tabulate all records: mean and lowest of the seeds."""
    table = Table(title="Accuracy by epsilon")
    for column in ("data", "algorithm", "epsilon", "told", "clip", "q", "rate", "steps", "noise",
                   "seeds", "balanced accuracy", "lowest", "ARI", "CPU s"):  # fmt: skip
        table.add_column(column)
    what = ["dataset", "algorithm", "epsilon", "clip", "rate", "learning_rate", "steps"]
    for key, rows in records.frame().groupby(what, sort=False):
        dataset, algorithm, epsilon, *how = (str(each) for each in key)
        private = bool(float(epsilon))
        table.add_row(
            dataset,
            algorithm,
            epsilon if private else "none",
            f"{rows['epsilon-told'].max():.3g}" if private else "",
            *how,
            f"{rows['noise-multiplier'].mean():.3g}" if private else "",
            str(len(rows)),
            f"{rows['balanced-accuracy'].mean():.3f}",
            f"{rows['balanced-accuracy'].min():.3f}",
            f"{rows['rand-index'].mean():.3f}",
            f"{rows['cpu-seconds'].mean():.0f}",
        )
    return table


def main() -> None:
    """Parse the command line and run trials, or report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["run", "choose", "report"])
    parser.add_argument("dataset", nargs="?", choices=[*CHOSEN], default="digits")
    parser.add_argument("--data", default="", metavar="DIR")
    parser.add_argument("--seeds", type=int, nargs=2, default=(1, 3), metavar=("FROM", "TO"))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    name = "choosing.jsonl" if arguments.what == "choose" else "trials.jsonl"
    records = Records.in_folder(arguments.output, name)
    if arguments.what == "report":
        for file in ("choosing.jsonl", "trials.jsonl"):
            Console(width=160).print(report(Records.in_folder(arguments.output, file)))
        return
    first, last = arguments.seeds
    planned = (
        choices(arguments.dataset)
        if arguments.what == "choose"
        else trials(arguments.dataset, range(first, last + 1))
    )
    for trial in records.missing(planned):
        outcome = run(trial, arguments.data)
        records.of_trial(trial, outcome)
        print(trial, outcome, flush=True)


if __name__ == "__main__":
    main()
