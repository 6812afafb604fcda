"""Is it told when classes look otherwise, and never when chance drew them anew? Without training.

A client has `images` of three classes, in shares drawn at random. `anew` draws as many again, in
other shares, which is no change; all other kinds change the same images. A record a client and kind
is appended to OUTPUT/looks.jsonl: the chance that the test finds. Those that are there are passed
over:

    python benchmarks/looks.py run --fashion-mnist DIR --cifar10 FILE.npz
    python benchmarks/looks.py report

Features and test were chosen on other draws: seed 5 of a random generator of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from records import Records
from rich.console import Console
from rich.table import Table

from feddag_flwr.data.corruptions import corrupt
from feddag_flwr.data.datasets import load_dataset
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.data.settings import CORRUPTIONS
from feddag_flwr.data.variation import with_looks
from feddag_flwr.settings import Settings
from feddag_flwr.similarity.looks import Looks
from feddag_flwr.training.profile import look_features

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "results" / "drift"
TURNS = ("turned", "upside-down", "inverted")
LEVEL = 1e-6
CLASSES = 3
ANEW = "drawn anew"


def draw(
    data: LabelledSamples, labels: npt.NDArray[np.int64], images: int, rng: np.random.Generator
) -> LabelledSamples:
    """Draw a client's images of some classes, in shares of a flat Dirichlet law."""
    sizes = rng.multinomial(images, rng.dirichlet(np.ones(len(labels))))
    members = [np.flatnonzero(data.labels == label) for label in labels]
    drawn = [
        rng.choice(of_class, min(size, len(of_class)), replace=False)
        for of_class, size in zip(members, sizes, strict=True)
    ]
    return data.select(np.concatenate(drawn))


def changes(
    data: LabelledSamples, kinds: tuple[str, ...], rng: np.random.Generator
) -> Iterator[tuple[str, LabelledSamples]]:
    """Yield a client's images as other kinds of change leave them."""
    for kind in kinds:
        if kind in TURNS:
            yield kind, with_looks(data, kind)
        else:
            yield kind, LabelledSamples(corrupt(data.samples, kind, 3, rng), data.labels)


def chances(
    dataset: str, settings: Settings, images: int, client: int, kinds: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """Yield a record of each kind of change of one client."""
    data, rng = load_dataset(settings).train, np.random.default_rng([client, images])
    classes = int(data.labels.max()) + 1
    held = rng.choice(classes, CLASSES, replace=False)
    before, anew = (draw(data, held, images, rng) for _ in range(2))
    looks = Looks.of(look_features(before.samples, settings), before.labels, classes)
    for kind, now in ((ANEW, anew), *changes(before, kinds, rng)):
        chance = looks.chance_of(look_features(now.samples, settings), now.labels)
        yield {"data": dataset, "images": images, "client": client, "kind": kind, "chance": chance}


def run(paths: dict[str, str], images: int, numbers: range, output: Path, *, drawn: bool) -> None:
    """Look at clients that are not recorded yet; `drawn` draws anew and changes nothing else."""
    records = Records.in_folder(output, "looks.jsonl")
    done = {(each["data"], each["images"], each["client"]) for each in records.read()}
    for dataset, path in paths.items():
        kind = {"cifar10": "npz"}.get(dataset, dataset)
        settings = Settings.from_run_config({"dataset": kind, "data-dir": path, "seed": 1})
        # Corruptions are made for images of 28 pixels and more.
        kinds = () if drawn else TURNS if dataset == "digits" else (*TURNS, *CORRUPTIONS)
        for client in numbers:
            if (dataset, images, client) not in done:
                records.add(*chances(dataset, settings, images, client, kinds))
        print(dataset, images, flush=True)


def report(output: Path) -> Table:
    """Tabulate all records: who was told, and the least chance."""
    frame = pd.DataFrame(Records.in_folder(output, "looks.jsonl").read())
    table = Table(title=f"Changes of looks told at {LEVEL:g}")
    for column in ("data", "images", "change", "checks", "told", "least chance", "median"):
        table.add_column(column)
    for key, rows in frame.groupby(["data", "images", "kind"], sort=False):
        chance = rows["chance"]
        told = chance <= LEVEL
        table.add_row(
            *map(str, key),
            f"{len(rows):,}",
            str(told.sum()) if key[2] == ANEW else f"{told.mean():.0%}",
            f"{chance.min():.1e}",
            f"{chance.median():.1e}",
        )
    return table


def main() -> None:
    """Parse the command line and run, or report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["run", "report"], default="report")
    parser.add_argument("--fashion-mnist", default="", metavar="DIR")
    parser.add_argument("--cifar10", default="", metavar="FILE.npz")
    parser.add_argument("--images", type=int, nargs="+", default=[90, 300])
    parser.add_argument("--clients", type=int, nargs=2, default=(1, 20), metavar=("FROM", "TO"))
    parser.add_argument("--drawn", action="store_true", help="draw anew, and change nothing else")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    if arguments.what == "report":
        Console(width=140).print(report(arguments.output))
        return
    given = {"fashion-mnist": arguments.fashion_mnist, "cifar10": arguments.cifar10}
    paths = {"digits": "", **{name: path for name, path in given.items() if path}}
    first, last = arguments.clients
    for images in arguments.images:
        run(paths, images, range(first, last + 1), arguments.output, drawn=arguments.drawn)


if __name__ == "__main__":
    main()
