"""Are the groups found in tables that no choice was made on? Heart disease and WISDM, no training.

The tests of phase 2 were made on images (docs/fusion.md). Here rows of two tables are dealt out at
random to clients, of whom some have other concepts, label sets, or another way of measuring. The
last kind is how the rows came: persons and hospitals, whose groups nobody knows. A record a line is
appended to OUTPUT/tables.jsonl; trials that are there already are passed over:

    python benchmarks/left_out_tables.py run --heart FOLDER --wisdm FILE.arff --seeds 1 10
    python benchmarks/left_out_tables.py report
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from records import Records
from rich.console import Console
from rich.table import Table
from sklearn.metrics import adjusted_rand_score

from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.modalities import load_modality
from feddag_flwr.settings import Settings
from feddag_flwr.similarity.class_subspaces import ClassSubspaces
from feddag_flwr.similarity.group_tree import GroupTree
from feddag_flwr.similarity.proximity import pack_bases
from feddag_flwr.training.profile import class_subspaces

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "results" / "groups"
AS_IT_CAME = "as it came"
KINDS = ("one kind", "sizes 5 to 200", "two concepts", "two label sets", "two ways to measure")
CLIENTS = {"wisdm": 36, "heart": 12}


class Rows(NamedTuple):
    """A table of numbers, holes filled with the column's median, and whose each row was."""

    values: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int64]
    columns: list[str]


@dataclass(frozen=True)
class Trial:
    """One clustering."""

    dataset: str
    kind: str
    clients: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    groups: int
    clusters: int
    rand_index: float
    chances: dict[str, float]


def heart(folder: Path) -> Rows:
    """Read the four hospitals; the label is whether there is any disease."""
    hospitals = sorted(folder.glob("*.csv"))
    frames = [pd.read_csv(path).assign(owner=number) for number, path in enumerate(hospitals)]
    table = pd.concat(frames, ignore_index=True)
    return rows_of(table.drop(columns=["num", "owner"]), (table["num"] > 0), table["owner"])


def wisdm(path: Path) -> Rows:
    """Read the 36 persons' windows; the label is the activity."""
    text = path.read_text()
    names = [line.split('"')[1] if '"' in line else line.split()[1]
             for line in text.splitlines() if line.lower().startswith("@attribute")]  # fmt: skip
    after = text[text.lower().index("@data") + len("@data") :]
    table = pd.read_csv(io.StringIO(after), header=None, names=names, na_values="?")
    features = table.drop(columns=["UNIQUE_ID", "user", "class"])
    return rows_of(features, table["class"], table["user"])


def rows_of(features: pd.DataFrame, labels: pd.Series, owners: pd.Series) -> Rows:
    """Fill holes; columns without any number, or of one only, say nothing and are left out."""
    numbers = features.apply(pd.to_numeric, errors="coerce")
    filled = numbers.fillna(numbers.median())
    kept = filled.loc[:, filled.nunique() > 1]
    return Rows(
        kept.to_numpy(np.float32),
        pd.factorize(labels, sort=True)[0].astype(np.int64),
        pd.factorize(owners, sort=True)[0].astype(np.int64),
        list(kept.columns),
    )


def measured_otherwise(rows: Rows, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return what others would have written: a phone turned, so that x and z change places.

    A table without such columns has the half of its columns that are continuous in other units,
    from another zero: 1.8 times and 32 more, as degrees Fahrenheit are.
    """
    changed = values.copy()
    if "XAVG" in rows.columns:
        for place, name in enumerate(rows.columns):
            other = {"X": "Z", "Z": "X"}.get(name[0], name[0]) + name[1:]
            changed[:, place] = values[:, rows.columns.index(other)] if other in rows.columns \
                else values[:, place]  # fmt: skip
        return changed
    continuous = [i for i in range(values.shape[1]) if len(np.unique(rows.values[:, i])) > 10]
    chosen = continuous[::2]
    changed[:, chosen] = 1.8 * values[:, chosen] + 32.0
    return changed


def dealt(
    rows: Rows, trial: Trial, rng: np.random.Generator
) -> Iterator[tuple[LabelledSamples, int]]:
    """Yield each client's rows and its true group."""
    if trial.kind == AS_IT_CAME:
        for owner in range(int(rows.owners.max()) + 1):
            mine = rows.owners == owner
            yield LabelledSamples(rows.values[mine], rows.labels[mine]), 0
        return
    order, groups = rng.permutation(len(rows.labels)), np.arange(trial.clients) % 2
    if trial.kind == "sizes 5 to 200":
        sizes = np.exp(rng.uniform(np.log(5), np.log(200), trial.clients)).astype(int)
        parts = [rng.choice(order, min(size, len(order)), replace=False) for size in sizes]
    else:
        parts = np.array_split(order, trial.clients)
    classes = int(rows.labels.max()) + 1
    renamed, left_out = np.roll(np.arange(classes), 1), rng.permutation(classes)[:2]
    for part, group in zip(parts, groups.tolist(), strict=True):
        values, labels = rows.values[part], rows.labels[part]
        if trial.kind == "two concepts" and group:
            labels = renamed[labels]
        if trial.kind == "two label sets":
            kept = labels != left_out[group]
            values, labels = values[kept], labels[kept]
        if trial.kind == "two ways to measure" and group:
            values = measured_otherwise(rows, values)
        known = group if trial.kind.startswith("two") else 0
        yield LabelledSamples(values, labels), known


def run(rows: Rows, trial: Trial) -> Outcome:
    """Deal the rows out, make profiles as the modality ``embedding`` does, cluster."""
    rng = np.random.default_rng([trial.seed, trial.clients])
    settings = Settings.from_run_config(
        {"dataset": "npz", "data-dir": ".", "modality": "embedding"}
    )
    modality = load_modality("embedding")
    clients = list(dealt(rows, trial, rng))
    spec = modality.spec(rows.values)
    sizes = np.array([len(data) for data, _ in clients], dtype=np.float64)
    moments = [modality.moments(data.samples) for data, _ in clients]
    scale = modality.scale(spec, moments, sizes / sizes.sum())
    found = [class_subspaces(data, settings, rng, scale, spec) for data, _ in clients]
    number = int(rows.labels.max()) + 1
    counts = np.array([np.bincount(data.labels, minlength=number) for data, _ in clients])
    bases = pack_bases([one for one, _ in found], [one for _, one in found], number)
    profiles = ClassSubspaces(bases, counts, settings.similarity.angle)
    tree, leaves = GroupTree.grow(profiles, settings.similarity.false_positive_rate)
    groups = [group for _, group in clients]
    index = float(adjusted_rand_score(groups, leaves))
    return Outcome(len(set(groups)), len(set(leaves.tolist())), index, tree.root.chances)


def trials(tables: dict[str, Rows], seeds: range) -> Iterator[Trial]:
    """Yield all trials; what came as it came has no seed."""
    for dataset, rows in tables.items():
        yield Trial(dataset, AS_IT_CAME, int(rows.owners.max()) + 1, 0)
        kinds = [kind for kind in KINDS if rows.labels.max() > 1 or kind != "two label sets"]
        for kind in kinds:
            yield from (Trial(dataset, kind, CLIENTS[dataset], seed) for seed in seeds)


def report(records: Records) -> Table:
    """Tabulate all records."""
    table = Table(title="Groups in tables that no choice was made on")
    for column in (
        "data",
        "clients are",
        "clients",
        "seeds",
        "groups",
        "clusters",
        "ARI",
        "parted",
    ):
        table.add_column(column)
    for key, rows in records.frame().groupby(["dataset", "kind", "clients"], sort=False):
        known = rows["groups"].iloc[0] > 1
        table.add_row(
            *map(str, key),
            str(len(rows)),
            str(rows["groups"].iloc[0]) if key[1] != AS_IT_CAME else "?",
            f"{rows['clusters'].min()}-{rows['clusters'].max()}",
            f"{rows['rand_index'].mean():.2f} ({rows['rand_index'].min():.2f})" if known else "",
            f"{(rows['clusters'] > 1).mean():.0%}",
        )
    return table


def main() -> None:
    """Parse the command line and run, or report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["run", "report"])
    parser.add_argument("--heart", type=Path, metavar="FOLDER")
    parser.add_argument("--wisdm", type=Path, metavar="FILE.arff")
    parser.add_argument("--seeds", type=int, nargs=2, default=(1, 10), metavar=("FROM", "TO"))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    records = Records.in_folder(arguments.output, "tables.jsonl")
    if arguments.what == "report":
        Console(width=140).print(report(records))
        return
    tables = {}
    if arguments.heart:
        tables["heart"] = heart(arguments.heart)
    if arguments.wisdm:
        tables["wisdm"] = wisdm(arguments.wisdm)
    first, last = arguments.seeds
    for trial in records.missing(trials(tables, range(first, last + 1))):
        outcome = run(tables[trial.dataset], trial)
        records.of_trial(trial, asdict(outcome))
        print(
            trial, f"{outcome.clusters} of {outcome.groups}, {outcome.rand_index:.2f}", flush=True
        )


if __name__ == "__main__":
    main()
