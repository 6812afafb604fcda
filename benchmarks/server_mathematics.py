"""Time and memory of phases 2 to 4 on the server, by number of clients.

Runs each size in a fresh process on made-up profiles (10 classes on every client, 3 vectors of 784
features each, updates of 1,000 coordinates), prints a table and draws how time and memory grow:

    python benchmarks/server_mathematics.py --sizes 100 1000 5000 --output benchmarks/results

Vectors of photographs have `--features 3072`: larger images are seen at 32 x 32 in colour.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from feddag_flwr.algorithms.feddag.clustering_result import (
    cluster_clients,
    draw_graph,
    options_of,
)
from feddag_flwr.settings import Settings
from feddag_flwr.similarity.class_subspaces import ClassSubspaces
from feddag_flwr.similarity.odd_clients import odd_clients
from feddag_flwr.similarity.proximity import measure_proximity

CLASSES, VECTORS, COORDINATES, GROUPS = 10, 3, 1000, 11
FEATURES = 784
# As the server takes them; phase 4 only where a setting asks for it.
STEPS = ("similarity", "clustering", "complementarity", "odd clients")
LIMIT_SECONDS = {1000: 10.0, 5000: 300.0, 10_000: 900.0}
LIMIT_GIB = 8.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class Cost:
    """One size's outcome: seconds by step, processor time and peak memory, clusters found.

    Processor time is that of all threads. Much less than total x cores: the machine was busy.
    """

    clients: int
    seconds: dict[str, float]
    processor_seconds: float
    peak_gib: float
    clusters: int

    @property
    def total(self) -> float:
        """Seconds of all steps together."""
        return sum(self.seconds.values())

    @property
    def within_limits(self) -> bool:
        """Whether time and memory keep the limits; a size without a time limit only memory's."""
        limit = LIMIT_SECONDS.get(self.clients, float("inf"))
        return self.total <= limit and self.peak_gib <= LIMIT_GIB


def profiles(
    clients: int, features: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Make up bases (N, C, p, d), counts (N, C) and updates (N, k) of clients in groups."""
    rng = np.random.default_rng(0)
    shape = (GROUPS, CLASSES, VECTORS, features)
    centres = rng.standard_normal(shape, dtype=np.float32)
    directions = rng.standard_normal((GROUPS, COORDINATES), dtype=np.float32)
    bases = np.empty((clients, *shape[1:]), dtype=np.float32)
    updates = np.empty((clients, COORDINATES), dtype=np.float32)
    for i in range(clients):
        noise = rng.standard_normal(shape[1:], dtype=np.float32)
        bases[i] = centres[i % GROUPS] + 0.5 * noise
        updates[i] = directions[i % GROUPS]
        updates[i] += rng.standard_normal(COORDINATES, dtype=np.float32)
    bases /= np.linalg.norm(bases, axis=-1, keepdims=True)
    counts = rng.integers(1, 500, (clients, CLASSES)).astype(np.intp)
    return bases, counts, updates


def measure(clients: int, features: int) -> Cost:
    """Run phases 2 to 4 once in this process."""
    bases, counts, updates = profiles(clients, features)
    before = time.process_time()
    seconds = dict.fromkeys(STEPS, 0.0)

    def timed(step: str, work: Callable[[], Result]) -> Result:
        start = time.perf_counter()
        result = work()
        seconds[step] += time.perf_counter() - start
        return result

    settings = Settings.from_run_config({})
    rate, names = settings.similarity.false_positive_rate, [str(row) for row in range(clients)]
    data = ClassSubspaces(bases, counts, settings.similarity.angle)
    proximity = timed(
        "similarity",
        lambda: measure_proximity(updates, data, names=names, **options_of(settings)),
    )
    chosen = timed("clustering", lambda: cluster_clients(settings, proximity)[1])
    timed("complementarity", lambda: draw_graph(settings, data, chosen.labels))
    timed("odd clients", lambda: odd_clients(data, chosen.labels, rate))
    processor = time.process_time() - before
    # Linux counts ru_maxrss in KiB, macOS in bytes.
    unit = 2**30 if sys.platform == "darwin" else 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return Cost(clients, seconds, processor, peak, chosen.num_clusters)


def measure_in_fresh_process(clients: int, features: int) -> Cost:
    """Run `measure` in a new interpreter, so that its peak memory is its own."""
    own = [sys.executable, str(Path(__file__).resolve())]
    command = [*own, "--features", str(features), "--worker", str(clients)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Cost(**json.loads(done.stdout))


def report(measurements: list[Cost]) -> Table:
    """Tabulate seconds by step, total, peak memory, limits, and growth since the size before."""
    table = Table(title="Phases 2 to 4 on the server")
    for column in (
        "clients",
        *STEPS,
        "total s",
        "limit s",
        "x before",
        "CPU s",
        "peak GiB",
        "clusters",
    ):
        table.add_column(column, justify="right")
    table.add_column("within limits")
    before: Cost | None = None
    for one in measurements:
        limit = LIMIT_SECONDS.get(one.clients)
        table.add_row(
            f"{one.clients:,}",
            *(f"{one.seconds[step]:.3f}" for step in STEPS),
            f"{one.total:.2f}",
            "-" if limit is None else f"{limit:g}",
            "-" if before is None else f"{one.total / before.total:.1f}",
            f"{one.processor_seconds:.1f}",
            f"{one.peak_gib:.2f} of {LIMIT_GIB:g}",
            str(one.clusters),
            "yes" if one.within_limits else "NO",
        )
        before = one
    return table


def plot(measurements: list[Cost], path: Path) -> None:
    """Draw seconds by step and peak memory over the number of clients, both axes logarithmic."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    sizes = [one.clients for one in measurements]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for step in STEPS:
        left.plot(sizes, [one.seconds[step] for one in measurements], marker="o", label=step)
    left.plot(sizes, [one.total for one in measurements], "k", marker="o", lw=2, label="total")
    limits = [(size, LIMIT_SECONDS[size]) for size in sizes if size in LIMIT_SECONDS]
    left.plot(*zip(*limits, strict=True), "k_", markersize=18, label="limit") if limits else None
    left.set(xscale="log", yscale="log", xlabel="clients", ylabel="seconds", title="Time")
    left.legend(fontsize="small")
    right.plot(sizes, [one.peak_gib for one in measurements], "k", marker="o", label="peak")
    right.axhline(LIMIT_GIB, color="k", linestyle=":", label="limit")
    right.set(xscale="log", yscale="log", xlabel="clients", ylabel="GiB", title="Resident memory")
    right.legend(fontsize="small")
    for axes in (left, right):
        axes.grid(True, which="both", alpha=0.3)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Parse the command line, measure, print, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 5000, 10_000])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--features", type=int, default=FEATURES)
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        sys.stdout.write(json.dumps(asdict(measure(arguments.worker, arguments.features))))
        return
    measurements = [
        measure_in_fresh_process(size, arguments.features) for size in sorted(arguments.sizes)
    ]
    Console(width=None if sys.stdout.isatty() else 160).print(report(measurements))
    arguments.output.mkdir(parents=True, exist_ok=True)
    plot(measurements, arguments.output / "server_mathematics.png")


if __name__ == "__main__":
    main()
