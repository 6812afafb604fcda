"""Are the groups found? Clusterings by tests on real images, without training.

Each trial deals a data set out to clients, makes their profiles as phase 1 does, and grows the tree
of tests of phase 2 (fusion = evidence reads no gradients, so that nothing needs to be trained). A
record a line is appended to OUTPUT/trials.jsonl; trials that are there already are passed over:

    python benchmarks/groups.py natural --fashion-mnist DIR --cifar10 FILE.npz --seeds 1 10
    python benchmarks/groups.py report

Plans: `natural` (CIFAR-10), `suite` (all scenarios on Fashion-MNIST), `digits`, `none` (no groups:
one kind of all sizes, and labels by Dirichlet), `power` (images a class against clients a group).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from records import Records
from rich.console import Console
from rich.table import Table
from sklearn.metrics import adjusted_rand_score

from feddag_flwr.data.datasets import load_dataset
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.settings import Settings
from feddag_flwr.similarity.class_subspaces import ClassSubspaces
from feddag_flwr.similarity.group_tree import GroupTree
from feddag_flwr.similarity.proximity import pack_bases
from feddag_flwr.training.profile import class_subspaces

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "results" / "groups"
TRAINING = {"digits": 1347, "fashion-mnist": 60_000, "cifar10": 50_000}
ALL_CLASSES = {"scenario": "label-skew", "label-skew": 100.0, "client-groups": 1}
SCENARIOS: dict[str, dict[str, Any]] = {
    "I 20 %": {"scenario": "label-skew", "label-skew": 20.0},
    "I 30 %": {"scenario": "label-skew", "label-skew": 30.0},
    "II": {**ALL_CLASSES, "concepts": 3},
    "II on III": {"scenario": "lda", "concepts": 3},
    "II on I 30 %": {"scenario": "label-skew", "label-skew": 30.0, "concepts": 3},
    "B.10": {"scenario": "class-pairs", "client-groups": 11},
    "rotations": {**ALL_CLASSES, "rotations": 4},
    "two concepts": {**ALL_CLASSES, "concepts": 2, "min-class-samples": 1},
    "IV": {**ALL_CLASSES, "corruptions": "all"},
    "III": {"scenario": "lda"},
    "one kind": ALL_CLASSES,
}
SIZES = "one kind, sizes"  # not a scenario of the settings: sizes drawn between two bounds


@dataclass(frozen=True)
class Trial:
    """One clustering: whose data, dealt how.

    `images` is a client's mean number of training images, or of `SIZES` the bounds, "5-3000".
    """

    dataset: str
    scenario: str
    alpha: float
    images: str
    clients: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What came of a trial; p-values of the first test."""

    groups: int
    clusters: int
    rand_index: float
    chances: dict[str, float]
    seconds: float


def plans(seeds: range) -> dict[str, list[Trial]]:
    """Return the trials of each plan."""
    natural = [
        Trial("cifar10", scenario, alpha, images, clients, seed)
        for images, clients in (("300", 60), ("1000", 50), ("100", 60))
        for scenario in ("II", "rotations", "II on III")
        for alpha in (1.0, 0.25)
        for seed in seeds
    ]
    suite = [
        Trial("fashion-mnist", scenario, alpha, "600", 100, seed)
        for scenario, alphas in (
            ("I 20 %", (0.25, 1.0)), ("I 30 %", (0.25, 1.0)), ("II", (1.0, 0.5, 0.25)),
            ("II on III", (1.0, 0.25)), ("II on I 30 %", (1.0,)), ("B.10", (1.0,)),
            ("rotations", (1.0, 0.25)), ("IV", (1.0,)), ("one kind", (0.25,)), ("III", (1.0, 0.25)),
        )
        for alpha in alphas
        for seed in seeds
    ]  # fmt: skip
    digits = [
        Trial("digits", scenario, alpha, "45", 30, seed)
        for scenario in ("I 30 %", "II", "rotations", "II on III")
        for alpha in (1.0, 0.25)
        for seed in seeds
    ]
    none = [
        Trial(dataset, scenario, alpha, images, clients, seed)
        for seed in seeds
        for dataset, sizes, images, clients in (
            ("digits", "5-60", "45", 30),
            ("fashion-mnist", "5-3000", "300", 60),
            ("cifar10", "5-3000", "300", 60),
        )
        for scenario, alpha, images in (
            (SIZES, 0.0, sizes),
            ("III", 1.0, images),
            ("III", 0.25, images),
        )
    ]
    power = [
        Trial(dataset, "two concepts", 1e6, str(10 * each), 2 * members, seed)
        for dataset in ("fashion-mnist", "cifar10")
        for each in (3, 10, 30, 100)
        for members in (2, 3, 5, 10, 20)
        for seed in seeds
    ]
    return {
        "natural": natural, "suite": suite, "digits": digits, "none": none, "power": power,
    }  # fmt: skip


def settings_of(trial: Trial, paths: Mapping[str, str]) -> Settings:
    """Return the settings that deal a trial's data out."""
    kind = {"cifar10": "npz"}.get(trial.dataset, trial.dataset)
    config: dict[str, Any] = {"dataset": kind, "num-clients": trial.clients, "seed": trial.seed}
    if trial.dataset in paths:
        config["data-dir"] = paths[trial.dataset]
    config |= ALL_CLASSES if trial.scenario == SIZES else SCENARIOS[trial.scenario]
    if trial.scenario != SIZES:
        wanted = int(trial.images) * trial.clients / TRAINING[trial.dataset]
        config |= {"dirichlet-alpha": trial.alpha, "train-share": min(1.0, wanted)}
    return Settings.from_run_config(config)


def clients_of(trial: Trial, settings: Settings) -> Iterator[tuple[LabelledSamples, int, int]]:
    """Yield each client's training data, its true group and the number of classes."""
    if trial.scenario == SIZES:
        whole = load_dataset(settings)
        rng = np.random.default_rng([trial.seed, 1])
        low, high = (int(bound) for bound in trial.images.split("-"))
        for size in np.exp(rng.uniform(np.log(low), np.log(high), trial.clients)).astype(int):
            drawn = np.sort(rng.choice(len(whole.train), size, replace=False))
            yield whole.train.select(drawn), 0, len(whole.class_names)
        return
    for partition in range(trial.clients):
        node = {"partition-id": partition, "num-partitions": trial.clients}
        data = load_client_data(settings, node)
        yield data.train, data.true_group or 0, len(data.class_names)


def run(trial: Trial, paths: Mapping[str, str]) -> Outcome:
    """Deal the data out, make profiles, cluster."""
    started = time.perf_counter()
    settings = settings_of(trial, paths)
    vectors: list[npt.NDArray[np.float32]] = []
    classes, counts, groups = [], [], []
    for client, (data, group, number) in enumerate(clients_of(trial, settings)):
        rng = np.random.default_rng([trial.seed, client])
        of_client, of_rows = class_subspaces(data, settings, rng)
        vectors.append(of_client)
        classes.append(of_rows)
        counts.append(np.bincount(data.labels, minlength=number))
        groups.append(group)
    table = np.array(counts)
    profiles = ClassSubspaces(
        pack_bases(vectors, classes, table.shape[1]), table, settings.similarity.angle
    )
    tree, leaves = GroupTree.grow(profiles, settings.similarity.false_positive_rate)
    return Outcome(
        len(set(groups)),
        len(set(leaves.tolist())),
        float(adjusted_rand_score(groups, leaves)),
        tree.root.chances,
        time.perf_counter() - started,
    )


def run_plan(trials: list[Trial], paths: Mapping[str, str], output: Path) -> None:
    """Run what is not recorded yet."""
    records = Records.in_folder(output)
    for trial in records.missing(trials):
        outcome = run(trial, paths)
        records.of_trial(trial, asdict(outcome))
        print(
            trial, f"{outcome.clusters} of {outcome.groups}, {outcome.rand_index:.3f}", flush=True
        )


def report(output: Path) -> Table:
    """Tabulate all records: mean adjusted Rand index, clusters, share parted at all."""
    frame = Records.in_folder(output).frame()
    table = Table(title="Groups found by tests")
    for column in ("data", "scenario", "alpha'", "images", "clients", "groups", "seeds", "ARI",
                   "lowest", "clusters", "parted"):  # fmt: skip
        table.add_column(column)
    keys = ["dataset", "scenario", "alpha", "images", "clients"]
    for key, rows in frame.groupby(keys, sort=False):
        low, high = rows["clusters"].min(), rows["clusters"].max()
        table.add_row(
            *(f"{value:g}" if isinstance(value, float) else str(value) for value in key),
            str(rows["groups"].iloc[0]),
            str(len(rows)),
            f"{rows['rand_index'].mean():.3f}",
            f"{rows['rand_index'].min():.2f}",
            str(low) if low == high else f"{low}-{high}",
            f"{(rows['clusters'] > 1).mean():.0%}",
        )
    return table


def main() -> None:
    """Parse the command line and run a plan, or report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("plan", choices=[*plans(range(0)), "report"])
    parser.add_argument("--fashion-mnist", default="", metavar="DIR")
    parser.add_argument("--cifar10", default="", metavar="FILE.npz")
    parser.add_argument("--seeds", type=int, nargs=2, default=(1, 10), metavar=("FROM", "TO"))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    if arguments.plan == "report":
        Console(width=140).print(report(arguments.output))
        return
    paths = {"fashion-mnist": arguments.fashion_mnist, "cifar10": arguments.cifar10}
    first, last = arguments.seeds
    run_plan(plans(range(first, last + 1))[arguments.plan], paths, arguments.output)


if __name__ == "__main__":
    main()
