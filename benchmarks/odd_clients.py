"""Are odd clients told? One client among many of one kind, on real images, without training.

Each trial deals a data set out, changes what the first client holds (its size is the median one),
makes profiles as phase 1 does, and looks for odd clients. A record a line is appended to
OUTPUT/trials.jsonl; trials that are there already are passed over:

    python benchmarks/odd_clients.py odd --fashion-mnist DIR --cifar10 FILE.npz --seeds 1 10
    python benchmarks/odd_clients.py report

Plans: `odd` (all kinds, 40 to 120 images a client), `hundred` (500 to 1,500: 100 images a class at
the median), `none` (no odd client, 40 to 120 images).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from records import Records
from rich.console import Console
from rich.table import Table

from feddag_flwr.data.datasets import load_dataset
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.settings import Settings
from feddag_flwr.similarity.class_subspaces import ClassSubspaces
from feddag_flwr.similarity.odd_clients import OddClient, odd_clients
from feddag_flwr.similarity.proximity import pack_bases
from feddag_flwr.training.profile import class_subspaces

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "results" / "odd-clients"
NONE = "none"
KINDS = (NONE, "reversed labels", "rotated by 90", "rotated by 180", "inverted", "noisy", "swapped")
NOISE = 40.0  # standard deviation, of 255 grey levels


class Cell(NamedTuple):
    """Whose data, dealt how: `images` are the bounds of a client's size, "40-120"."""

    dataset: str
    images: str
    clients: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What was told of the first client and of others; `named`: just the two swapped classes."""

    kind: str
    found: bool
    named: bool
    false: int
    told: list[list[Any]]


def plans(seeds: range) -> dict[str, list[tuple[Cell, tuple[str, ...]]]]:
    """Return the cells of each plan, and the kinds of odd clients in them."""
    names = ("digits", "fashion-mnist", "cifar10")
    return {
        "odd": [
            (Cell(name, "40-120", clients, seed), KINDS)
            for clients in (20, 100)
            for seed in seeds
            for name in names
        ],
        "hundred": [
            (Cell(name, "500-1500", clients, seed), KINDS)
            for clients in (20, 100)
            for seed in seeds
            for name in names[1:]
        ],
        "none": [
            (Cell(name, "40-120", clients, seed), (NONE,))
            for seed in seeds
            for name in names
            for clients in (20, 100)
        ],
    }


def changed(
    data: LabelledSamples, kind: str, swapped: npt.NDArray[np.intp], rng: np.random.Generator
) -> LabelledSamples:
    """Return what an odd client holds."""
    samples, labels = data.samples, data.labels
    bright = 255 if samples.dtype == np.uint8 else 1
    if kind == "reversed labels":
        labels = 9 - labels
    elif kind in ("rotated by 90", "rotated by 180"):
        samples = np.rot90(samples, 1 if kind == "rotated by 90" else 2, (2, 3)).copy()
    elif kind == "inverted":
        samples = (bright - samples).astype(samples.dtype)
    elif kind == "noisy":
        noise = rng.normal(0.0, NOISE / 255 * bright, samples.shape)
        samples = np.clip(samples + noise, 0, bright).astype(samples.dtype)
    elif kind == "swapped":
        names = np.arange(10)
        names[swapped] = swapped[::-1]
        labels = names[labels]
    return LabelledSamples(samples, labels)


@cache
def loaded(dataset: str, path: str) -> tuple[Settings, LabelledSamples]:
    """Load all training data, and the settings that say so."""
    config: dict[str, Any] = {"dataset": {"cifar10": "npz"}.get(dataset, dataset)}
    if path:
        config["data-dir"] = path
    settings = Settings.from_run_config(config)
    return settings, load_dataset(settings).train


class Dealt:
    """The clients of one cell, of whom the first may be changed."""

    def __init__(self, cell: Cell, paths: Mapping[str, str]) -> None:
        self.settings, whole = loaded(cell.dataset, paths.get(cell.dataset, ""))
        self.rng = np.random.default_rng([cell.seed, cell.clients])
        low, high = (int(bound) for bound in cell.images.split("-"))
        sizes = self.rng.integers(low, high + 1, cell.clients)
        sizes[0] = int(np.median(sizes))
        self.swapped = np.sort(self.rng.choice(10, 2, replace=False))
        self.parts = [
            whole.select(np.sort(self.rng.choice(len(whole), size, replace=False)))
            for size in sizes
        ]
        self.others = [self._profile(part) for part in self.parts[1:]]

    def with_first(self, kind: str) -> ClassSubspaces:
        """Return all profiles, the first client's of one kind."""
        first = self._profile(changed(self.parts[0], kind, self.swapped, self.rng))
        vectors, classes, counts = zip(first, *self.others, strict=True)
        bases = pack_bases(vectors, classes, 10)
        return ClassSubspaces(bases, np.array(counts), self.settings.similarity.angle)

    def _profile(self, data: LabelledSamples) -> tuple[npt.NDArray[Any], ...]:
        vectors, classes = class_subspaces(data, self.settings, self.rng)
        return vectors, classes, np.bincount(data.labels, minlength=10)


def outcome(kind: str, swapped: npt.NDArray[np.intp], told: list[OddClient]) -> Outcome:
    """Judge what was told."""
    first = [one for one in told if one.row == 0 and kind != NONE]
    named = kind == "swapped" and any(one.exchanged == (tuple(swapped),) for one in first)
    notes = [[one.row, one.chance, [list(pair) for pair in one.exchanged]] for one in told]
    return Outcome(kind, bool(first), named, len(told) - len(first), notes)


def run_plan(
    cells: list[tuple[Cell, tuple[str, ...]]], paths: Mapping[str, str], output: Path
) -> None:
    """Run what is not recorded yet."""
    records = Records.in_folder(output)
    done = {(*(each[key] for key in Cell._fields), each["kind"]) for each in records.read()}
    for cell, kinds in cells:
        missing = [kind for kind in kinds if (*cell, kind) not in done]
        if not missing:
            continue
        dealt = Dealt(cell, paths)
        for kind in missing:
            data = dealt.with_first(kind)
            rate = dealt.settings.similarity.false_positive_rate
            told = odd_clients(data, np.zeros(cell.clients, dtype=np.intp), rate)
            result = outcome(kind, dealt.swapped, told)
            records.add({**cell._asdict(), **asdict(result)})
        print(cell, flush=True)


def report(output: Path) -> Table:
    """Tabulate all records: runs in which the first client was found, and false alarms."""
    frame = pd.DataFrame(Records.in_folder(output).read())
    table = Table(title="Odd clients")
    for column in ("data", "images", "clients", "kind", "runs", "found", "named", "others told"):
        table.add_column(column)
    for key, rows in frame.groupby(["dataset", "images", "clients", "kind"], sort=False):
        table.add_row(
            *(str(value) for value in key),
            str(len(rows)),
            f"{rows['found'].mean():.0%}",
            f"{rows['named'].mean():.0%}" if key[-1] == "swapped" else "",
            str(int((rows["false"] > 0).sum())),
        )
    return table


def main() -> None:
    """Parse the command line and run a plan, or report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("plan", choices=[*plans(range(0)), "report"])
    parser.add_argument("--fashion-mnist", default="", metavar="DIR")
    parser.add_argument("--cifar10", default="", metavar="FILE.npz")
    parser.add_argument("--seeds", type=int, nargs=2, default=(1, 10), metavar=("FROM", "TO"))
    parser.add_argument("--clients", type=int, nargs="+", default=(20, 100))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    if arguments.plan == "report":
        Console(width=140).print(report(arguments.output))
        return
    paths = {"fashion-mnist": arguments.fashion_mnist, "cifar10": arguments.cifar10}
    first, last = arguments.seeds
    cells = plans(range(first, last + 1))[arguments.plan]
    chosen = [(cell, kinds) for cell, kinds in cells if cell.clients in arguments.clients]
    run_plan(chosen, paths, arguments.output)


if __name__ == "__main__":
    main()
