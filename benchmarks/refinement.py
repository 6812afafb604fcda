"""Are wrong clusterings mended, and right ones left alone? Runs that start from a given clustering.

Each trial runs FedDAG in this process with a first clustering that is forced on it, and with checks
every few rounds (refine-every). A record a line is appended to OUTPUT/trials.jsonl; trials that are
there already are passed over:

    python benchmarks/refinement.py run digits --seeds 1 3
    python benchmarks/refinement.py run fashion-mnist --data DIR --scenarios II --starts one random
    python benchmarks/refinement.py run cifar10 --data FILE.npz
    python benchmarks/refinement.py report

Starts: `one` cluster, `random` groups (as many as there are), two groups `merged`, `right`.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from groups import SCENARIOS, TRAINING
from records import Records
from rich.console import Console
from rich.table import Table
from sklearn.metrics import adjusted_rand_score

from feddag_flwr.algorithms.feddag.clustering_result import ClusteringResult
from feddag_flwr.algorithms.feddag.profiling import Profiles
from feddag_flwr.algorithms.feddag.server import FedDAG
from feddag_flwr.sections import Section, prefixed, setting
from feddag_flwr.settings import Settings
from feddag_flwr.simulation import run_in_process

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "results" / "refinement"
STARTS = ("one", "random", "merged", "right")
USUAL = {"digits": (20, 60), "fashion-mnist": (20, 100), "cifar10": (20, 250)}
# What all trials have in common: clients learn fast from little, and there is one encoder to train.
COMMON: dict[str, Any] = {
    "participation": 0.25,
    "batch-size": 10,
    "learning-rate": 0.02,
    "warmup-epochs": 1,
    "secondary": "none",
    "validation-share": 0.2,
    "evaluate-participants": False,
    "observers": "round-log, closing-table",
}
MODELS = {"cifar10": "lenet"}  # a core trains it in a tenth of the time
MENDED = 0.95  # adjusted Rand index from which on a clustering counts as right


@dataclass(frozen=True)
class Trial:
    """One run: whose data, dealt how, from which clustering on; `images` a client on the mean."""

    dataset: str
    scenario: str
    start: str
    clients: int
    images: int
    rounds: int
    every: int
    epochs: int
    seed: int


def forced_labels(truth: npt.NDArray[np.intp], start: str, seed: int) -> npt.NDArray[np.intp]:
    """Return a first clustering (N,) of clients of these groups (N,)."""
    groups = int(truth.max()) + 1
    if start == "one":
        return np.zeros_like(truth)
    if start == "random":
        return np.random.default_rng(seed).permutation(np.arange(len(truth)) % groups)
    return np.maximum(truth - 1, 0) if start == "merged" else truth


class StartSettings(Section, alias_generator=prefixed("own")):
    """Where a run starts from."""

    start: str = setting("right", "First clustering", choices=STARTS)


class Forced(FedDAG):
    """FedDAG whose first clustering is ``own-start``, whatever the profiles say."""

    own_settings = StartSettings

    def _cluster(self, profiles: Profiles) -> ClusteringResult:
        found = super()._cluster(profiles)
        truth = np.array([self.context.true_groups[name] for name in found.names], dtype=np.intp)
        start = self.settings.own(StartSettings).start
        labels = forced_labels(truth, start, self.settings.run.seed)
        chosen = replace(found.chosen, num_clusters=int(labels.max()) + 1)
        return replace(found, labels=labels, chosen=chosen, graph=None)


def settings_of(trial: Trial, data: str, folder: str) -> Settings:
    """Return the settings of a trial."""
    share = min(1.0, trial.images * trial.clients / TRAINING[trial.dataset])
    config: dict[str, Any] = {
        "dataset": {"cifar10": "npz"}.get(trial.dataset, trial.dataset),
        "data-dir": data,
        "num-clients": trial.clients,
        "num-rounds": trial.rounds,
        "refine-every": trial.every,
        "local-epochs": trial.epochs,
        "seed": trial.seed,
        "model": MODELS.get(trial.dataset, "auto"),
        "train-share": share,
        "test-share": share,
        "evaluate-every": trial.rounds,
        "algorithm": "refinement:Forced",
        "own-start": trial.start,
        "run-dir": folder,
    }
    return Settings.from_run_config(COMMON | config | SCENARIOS[trial.scenario])


def run(trial: Trial, data: str) -> dict[str, Any]:
    """Run a trial; return what becomes of its clustering by round."""
    started, worked = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        path = run_in_process(settings_of(trial, data, folder))
        lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        summary = json.loads((path / "summary.json").read_text())
    return {
        **_by_round(lines, summary["true-groups"]),
        "balanced-accuracy": summary["overall"]["balanced-accuracy"],
        "seconds": round(time.perf_counter() - started, 1),
        "cpu-seconds": round(time.process_time() - worked, 1),
    }


def _by_round(lines: list[dict[str, Any]], truth: Mapping[str, int]) -> dict[str, Any]:
    """Return the index after each round, what has been changed, and when it was right for good."""
    assignments: dict[str, int] = {}
    names, indices, changes = sorted(truth), [], []
    for line in lines:
        assignments |= line.get("moved", {})
        changes += [{"round": line["round"], **each} for each in line.get("refined", [])]
        now = [assignments[name] for name in names]
        indices.append(round(float(adjusted_rand_score([truth[n] for n in names], now)), 4))
    wrong = [number for number, index in enumerate(indices) if index < MENDED]
    mended = wrong[-1] + 1 if wrong else 0
    return {
        "groups": len(set(truth.values())),
        "clusters": len(set(assignments.values())),
        "rand-index": indices,
        "mended-in": mended if mended < len(indices) else None,
        "changes": changes,
    }


def run_trials(trials: list[Trial], data: str, records: Records) -> None:
    """Run what is not recorded yet."""
    for trial in records.missing(trials):
        outcome = run(trial, data)
        records.of_trial(trial, outcome)
        print(trial, outcome["rand-index"], outcome["mended-in"], flush=True)


def report(records: Records) -> Table:
    """Tabulate all records: how many were mended, and when; changes of right ones."""
    frame = records.frame()
    table = Table(title="From a given clustering")
    for column in ("data", "images", "scenario", "start", "rounds", "seeds", "ARI before",
                   "ARI after", "mended", "in rounds", "changes"):  # fmt: skip
        table.add_column(column)
    what = ["dataset", "images", "scenario", "start", "rounds"]
    for key, rows in frame.groupby(what, sort=False):
        ends = rows["rand-index"].map(lambda values: values[-1])
        mended = rows["mended-in"].dropna().astype(int).tolist()
        table.add_row(
            *(str(value) for value in key),
            str(len(rows)),
            f"{rows['rand-index'].map(lambda values: values[0]).mean():.2f}",
            f"{ends.mean():.2f} ({ends.min():.2f})",
            f"{len(mended)} of {len(rows)}",
            ", ".join(map(str, sorted(mended))),
            str(rows["changes"].map(len).sum()),
        )
    return table


def main() -> None:
    """Parse the command line and run trials, or report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["run", "report"])
    parser.add_argument("dataset", nargs="?", choices=[*USUAL], default="digits")
    parser.add_argument("--data", default="", help="folder, or archive of cifar10")
    parser.add_argument("--scenarios", nargs="+", default=["I 30 %", "II", "rotations"])
    parser.add_argument("--starts", nargs="+", default=STARTS, choices=STARTS)
    parser.add_argument("--seeds", type=int, nargs=2, default=(1, 1), metavar=("FROM", "TO"))
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--clients", type=int)
    parser.add_argument("--images", type=int)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    if arguments.what == "report":
        Console(width=140).print(report(Records(arguments.output / "trials.jsonl")))
        return
    clients, images = USUAL[arguments.dataset]
    trials = [
        Trial(
            arguments.dataset, scenario, start, arguments.clients or clients,
            arguments.images or images, arguments.rounds, arguments.every, arguments.epochs, seed,
        )
        for seed in range(arguments.seeds[0], arguments.seeds[1] + 1)
        for scenario in arguments.scenarios
        for start in arguments.starts
    ]  # fmt: skip
    logging.getLogger("flwr").setLevel(logging.INFO)
    run_trials(trials, arguments.data, Records.in_folder(arguments.output))


if __name__ == "__main__":
    main()
