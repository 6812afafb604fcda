"""Are newcomers without labels placed right, and do they know how sure they are? Without training.

Each trial deals a data set out to clients, makes the profiles of four fifths of them as phase 1
does, clusters these by tests, and places the others by the leading directions of their images
alone. A record a line is appended to OUTPUT/trials.jsonl; trials that are there are passed over:

    python benchmarks/unlabelled.py run --fashion-mnist DIR --cifar10 FILE.npz --seeds 1 5
    python benchmarks/unlabelled.py report

The statistic was chosen on seed 101.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from groups import ALL_CLASSES, SCENARIOS, TRAINING
from records import Records
from rich.console import Console
from rich.table import Table
from sklearn.metrics import adjusted_rand_score

from feddag_flwr.data.client import partition_name
from feddag_flwr.data.newcomers import late_clients
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.profile import LeadingDirections
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings
from feddag_flwr.similarity.class_subspaces import ClassSubspaces
from feddag_flwr.similarity.group_tree import GroupTree
from feddag_flwr.similarity.proximity import pack_bases
from feddag_flwr.similarity.unlabelled import Directions, nearest_clusters
from feddag_flwr.training.profile import class_subspaces, leading_directions

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "results" / "unlabelled"
# The first of each family of corruptions: noise, blur, weather, digital.
FOUR = "gaussian-noise, defocus-blur, snow, contrast"
KINDS: dict[str, dict[str, Any]] = {
    "rotations": SCENARIOS["rotations"],
    "4 corruptions": {**ALL_CLASSES, "corruptions": FOUR},
    "17 corruptions": SCENARIOS["IV"],
    "I 30 %": SCENARIOS["I 30 %"],
    "I 20 %": SCENARIOS["I 20 %"],
    "concepts": SCENARIOS["II"],
}


@dataclass(frozen=True)
class Trial:
    """One federation: whose data, dealt how; `images` is a client's mean number of them."""

    dataset: str
    kind: str
    images: int
    clients: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What came of a trial: for each newcomer whether it came right, and how sure that was."""

    groups: int
    clusters: int
    rand_index: float
    right: list[bool]
    sure: list[float]
    seconds: float


def plan(seeds: range) -> list[Trial]:
    """Return all trials."""
    return [
        Trial(dataset, kind, images, clients, seed)
        for dataset, images, clients, kinds in (
            ("digits", 45, 30, ("rotations", "I 30 %", "I 20 %", "concepts")),
            ("fashion-mnist", 120, 60, ("rotations", "4 corruptions", "I 30 %", "I 20 %")),
            ("fashion-mnist", 600, 60, ("rotations", "4 corruptions")),
            ("cifar10", 200, 60, ("rotations", "4 corruptions", "I 30 %")),
            ("fashion-mnist", 600, 60, ("17 corruptions",)),
        )
        for kind in kinds
        for seed in seeds
    ]


def settings_of(trial: Trial, paths: Mapping[str, str]) -> Settings:
    """Return the settings that deal a trial's data out."""
    kind = {"cifar10": "npz"}.get(trial.dataset, trial.dataset)
    wanted = trial.images * trial.clients / TRAINING[trial.dataset]
    config: dict[str, Any] = {
        "dataset": kind,
        "num-clients": trial.clients,
        "seed": trial.seed,
        "newcomer-share": 0.2,
        "train-share": min(1.0, wanted),
        **KINDS[trial.kind],
    }
    if trial.dataset in paths:
        config["data-dir"] = paths[trial.dataset]
    return Settings.from_run_config(config)


def together(found: list[LeadingDirections], samples: list[int]) -> Directions:
    """Put clients' directions together."""
    return Directions.of([each.vectors for each in found], [each.shares for each in found], samples)


def run(trial: Trial, paths: Mapping[str, str]) -> Outcome:
    """Deal the data out, make profiles, cluster the members, place the others."""
    started, settings = time.perf_counter(), settings_of(trial, paths)
    late = late_clients(settings)
    vectors, classes, counts, groups = [], [], [], []
    found: list[LeadingDirections] = []
    for client in range(trial.clients):
        node = {"partition-id": client, "num-partitions": trial.clients}
        data, name = load_client_data(settings, node), partition_name(client, trial.clients)
        of_client, of_rows = class_subspaces(
            data.train, settings, generator(trial.seed, "subspace-samples", client=name)
        )
        vectors.append(of_client)
        classes.append(of_rows)
        counts.append(np.bincount(data.train.labels, minlength=len(data.class_names)))
        groups.append(data.true_group or 0)
        found.append(leading_directions(data.train.samples, settings, name))
    members = [client for client in range(trial.clients) if client not in late]
    table = np.array(counts)
    bases = pack_bases(vectors, classes, table.shape[1])
    profiles = ClassSubspaces(bases[members], table[members], settings.similarity.angle)
    _, leaves = GroupTree.grow(profiles, settings.similarity.false_positive_rate)
    newcomers, samples = sorted(late), table.sum(axis=1).tolist()
    placed, sure = nearest_clusters(
        together([found[i] for i in members], [samples[i] for i in members]),
        leaves,
        together([found[i] for i in newcomers], [samples[i] for i in newcomers]),
        generator(trial.seed, "place-unlabelled", server_round=1),
    )
    of_members = np.array(groups)[members]
    home = {g: int(np.bincount(leaves[of_members == g]).argmax()) for g in set(of_members.tolist())}
    right = [home.get(groups[i]) == z for i, z in zip(newcomers, placed.tolist(), strict=True)]
    return Outcome(
        len(set(groups)),
        len(set(leaves.tolist())),
        float(adjusted_rand_score(of_members, leaves)),
        right,
        sure.tolist(),
        time.perf_counter() - started,
    )


def run_plan(trials: list[Trial], paths: Mapping[str, str], output: Path) -> None:
    """Run what is not recorded yet."""
    records = Records.in_folder(output)
    for trial in records.missing(trials):
        outcome = run(trial, paths)
        records.of_trial(trial, asdict(outcome))
        print(trial, f"{sum(outcome.right)} of {len(outcome.right)}", flush=True)


def report(output: Path) -> list[Table]:
    """Tabulate all records: who came right, and how often those are right that are so sure."""
    frame = Records.in_folder(output).frame()
    table = Table(title="Newcomers without labels")
    for column in ("data", "groups by", "images", "seeds", "groups", "clusters", "ARI",
                   "newcomers", "right", "sure, median"):  # fmt: skip
        table.add_column(column)
    for key, rows in frame.groupby(["dataset", "kind", "images"], sort=False):
        right, sure = (np.concatenate(rows[what].to_list()) for what in ("right", "sure"))
        table.add_row(
            *map(str, key),
            str(len(rows)),
            str(rows["groups"].iloc[0]),
            f"{rows['clusters'].min()}-{rows['clusters'].max()}",
            f"{rows['rand_index'].mean():.2f}",
            str(len(right)),
            f"{np.mean(right):.1%}",
            f"{np.median(sure):.0%}",
        )
    return [table, _calibration(frame)]


def _calibration(frame: pd.DataFrame) -> Table:
    table = Table(title="How often who is so sure is right")
    for column in ("sure", "newcomers", "right", "but for concepts", "right"):
        table.add_column(column)
    looks = frame[frame["kind"] != "concepts"]
    every, some = (
        [np.concatenate(rows[what].to_list()) for what in ("sure", "right")]
        for rows in (frame, looks)
    )
    for low, high in ((0.0, 0.5), (0.5, 0.8), (0.8, 0.95), (0.95, 1.0), (1.0, 1.01)):
        cells = []
        for sure, right in (every, some):
            inside = (sure >= low) & (sure < high)
            cells += [str(inside.sum()), f"{right[inside].mean():.0%}" if inside.any() else "-"]
        table.add_row("all draws" if low == 1.0 else f"{low:.0%} to {high:.0%}", *cells)
    return table


def main() -> None:
    """Parse the command line and run, or report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["run", "report"], default="report")
    parser.add_argument("--fashion-mnist", default="", metavar="DIR")
    parser.add_argument("--cifar10", default="", metavar="FILE.npz")
    parser.add_argument("--seeds", type=int, nargs=2, default=(1, 5), metavar=("FROM", "TO"))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    if arguments.what == "report":
        for table in report(arguments.output):
            Console(width=140).print(table)
        return
    paths = {"fashion-mnist": arguments.fashion_mnist, "cifar10": arguments.cifar10}
    first, last = arguments.seeds
    run_plan(plan(range(first, last + 1)), paths, arguments.output)


if __name__ == "__main__":
    main()
