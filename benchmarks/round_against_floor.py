"""A simulated round against its floor: the same SGD steps in a bare loop on as many processes.

Fashion-MNIST, label skew 30 %, alpha' = 1, 20 of 100 clients a round, both phases, through the real
Flower. The floor is a hand-written PyTorch loop over float tensors in memory, without evaluation,
messages or server. A first simulation, not counted, says which clients train what; then floor and
simulation take turns, so that each simulation has a floor before and after it. Both train as
``classifier-training`` says, by default each encoder with its own half of the classifier:

    python benchmarks/round_against_floor.py --data-dir ../shared/data --rounds 5
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.pool import Pool
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arguments import at_least
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from feddag_flwr.checkpoints import newest_checkpoint
from feddag_flwr.data.datasets import load_dataset
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.launcher import run_simulation
from feddag_flwr.models.encoders import LeNetEncoder
from feddag_flwr.settings import Settings, SettingValue

APP_DIR = Path(__file__).resolve().parents[1]
CLIENTS, CLASSES, IMAGE_SHAPE = 100, 10, (1, 28, 28)
NO_GRADIENT_CHUNK = 256
START_SECONDS = 300.0
LIMIT_RATIO = 1.25


@dataclass(frozen=True)
class Work:
    """What one client does in one round."""

    client: str
    samples: int
    phases: int

    def steps(self, settings: Settings) -> int:
        """SGD steps of all phases."""
        bounds = batch_bounds(self.samples, settings.training.batch_size)
        return self.phases * settings.training.local_epochs * len(bounds)


Plan = list[list[Work]]


@dataclass(frozen=True)
class Simulated:
    """What one simulation did, and the seconds of each round by phase."""

    plan: Plan
    seconds: list[dict[str, float]]

    @property
    def round_seconds(self) -> list[float]:
        """Seconds of each round: training and aggregation."""
        return [each["train"] for each in self.seconds]


@dataclass(frozen=True)
class Floor:
    """Seconds of each round in the bare loop; of a bare evaluation of the same clients, apart."""

    train: list[float]
    evaluate: list[float]


def batch_bounds(count: int, batch_size: int) -> list[tuple[int, int]]:
    """Bounds of an epoch's batches; a last batch of one sample joins the one before it."""
    starts = list(range(0, count, batch_size))
    if len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))


# -- the simulation ----------------------------------------------------------------------------


def run_config(data_dir: Path, rounds: int, sharing: str) -> dict[str, SettingValue]:
    """Return the settings of the round that the limit is about; the warm-up is cut short."""
    chosen: dict[str, SettingValue] = (
        {"teacher-clusters": "graph", "classifier-training": "joint"} if sharing == "graph" else {}
    )
    return chosen | {
        "algorithm": "feddag",
        "num-clients": CLIENTS,
        "num-rounds": rounds,
        "participation": 0.2,
        "evaluate-every": max(1000, rounds),
        "dataset": "fashion-mnist",
        "data-dir": str(data_dir.resolve()),
        "scenario": "label-skew",
        "label-skew": 30.0,
        "dirichlet-alpha": 1.0,
        "model": "lenet",
        "device": "cpu",
        "warmup-rounds": 1,
        "warmup-epochs": 1,
    }


def simulate(config: dict[str, SettingValue], processes: int) -> Simulated:
    """Run one simulation through the real Flower and read its run folder."""
    with tempfile.TemporaryDirectory(prefix="round-") as folder:
        outcome = run_simulation(
            APP_DIR,
            config | {"run-dir": folder, "run-name": "measured"},
            num_supernodes=CLIENTS,
            cpus=processes,
        )
        if not outcome.succeeded:
            raise SystemExit(f"{outcome.log}\n{outcome.status}: {outcome.details}")
        return read_run(Path(folder) / "measured")


def read_run(folder: Path) -> Simulated:
    """Read which clients ran which phases, and for how long; round 0 is the profile."""
    clustering = json.loads((folder / "clustering.json").read_text(encoding="utf-8"))
    clients = newest_checkpoint(folder).state.clients
    samples = {name: each.train_samples for name, each in clients.items()}
    # A cluster's clients run the secondary phase where the cluster is somebody's source.
    teaching = {source for row in clustering["teachers"] for source in row}
    plan: Plan = []
    for line in read_lines(folder / "metrics.jsonl")[1:]:
        if line["failed"]:
            raise SystemExit(f"round {line['round']}: no reply of {line['lost']}; not comparable")
        plan.append(
            [
                Work(name, samples[name], 2 if clustering["assignments"][name] in teaching else 1)
                for name in line["sampled"]
            ]
        )
    return Simulated(plan, read_lines(folder / "seconds.jsonl")[1:])


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# -- the floor ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClientTensors:
    """One client's data: training images as standardised floats, test images as stored."""

    samples: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor


@dataclass(frozen=True)
class Bench:
    """What one process of the floor holds before the clock starts."""

    settings: Settings
    clients: dict[str, ClientTensors]
    mean: float
    deviation: float
    primary: nn.Module
    secondary: nn.Module
    heads: nn.ModuleList  # of primary and secondary: the classifier's halves
    start: dict[str, Tensor]

    @classmethod
    def open(cls, settings: Settings, names: Sequence[str]) -> Bench:
        """Load the data of the named clients and make the networks."""
        pixels = load_dataset(settings).train.samples
        mean, deviation = float(pixels.mean()), float(pixels.std(dtype=np.float64))
        clients = {}
        for name in names:
            partition = {"partition-id": int(name.rpartition("-")[2]), "num-partitions": CLIENTS}
            data = load_client_data(settings, partition)
            assert data.name == name
            clients[name] = ClientTensors(
                (torch.from_numpy(data.train.samples).float() - mean) / deviation,
                torch.from_numpy(data.train.labels),
                torch.from_numpy(data.test.samples),
                torch.from_numpy(data.test.labels),
            )
        torch.manual_seed(settings.run.seed)
        primary, secondary = LeNetEncoder(IMAGE_SHAPE), LeNetEncoder(IMAGE_SHAPE)
        size = LeNetEncoder.feature_size
        heads = nn.ModuleList([nn.Linear(size, CLASSES), nn.Linear(size, CLASSES, bias=False)])
        whole = nn.ModuleList([primary, secondary, heads])
        start = {key: value.clone() for key, value in whole.state_dict().items()}
        return cls(settings, clients, mean, deviation, primary, secondary, heads, start)

    @property
    def separate_heads(self) -> bool:
        """Whether each half of the classifier is trained with its own encoder."""
        return self.settings.sharing.classifier_training == "separate"

    def reset(self) -> None:
        """Put the networks back to their start."""
        whole = nn.ModuleList([self.primary, self.secondary, self.heads])
        whole.load_state_dict(self.start)

    def train_primary(self, data: ClientTensors) -> int:
        """Train the primary encoder and its half of the classifier, or all of it; count steps."""
        if self.separate_heads:
            return self.train_half(0, self.primary, data)
        frozen = features(self.secondary, data.samples)

        def loss(index: Tensor) -> Tensor:
            logits = self.heads[0](self.primary(data.samples[index])) + self.heads[1](frozen[index])
            return functional.cross_entropy(logits, data.labels[index])

        trained = [*self.primary.parameters(), *self.heads.parameters()]
        return self.descend(trained, loss, len(data.labels))

    def train_secondary(self, data: ClientTensors) -> int:
        """Train the secondary encoder and its half of the classifier, or it alone; count steps."""
        if self.separate_heads:
            return self.train_half(1, self.secondary, data)
        frozen = features(self.primary, data.samples)

        def loss(index: Tensor) -> Tensor:
            images = data.samples[index]
            logits = self.heads[0](frozen[index]) + self.heads[1](self.secondary(images))
            return functional.cross_entropy(logits, data.labels[index])

        self.heads.requires_grad_(False)
        steps = self.descend(list(self.secondary.parameters()), loss, len(data.labels))
        self.heads.requires_grad_(True)
        return steps

    def train_half(self, which: int, encoder: nn.Module, data: ClientTensors) -> int:
        """Train an encoder and its half of the classifier as if there were no other."""
        head = self.heads[which]

        def loss(index: Tensor) -> Tensor:
            logits = head(encoder(data.samples[index]))
            return functional.cross_entropy(logits, data.labels[index])

        return self.descend([*encoder.parameters(), *head.parameters()], loss, len(data.labels))

    def descend(
        self, trained: list[nn.Parameter], loss: Callable[[Tensor], Tensor], count: int
    ) -> int:
        """Run the SGD steps of one phase."""
        optimizer = torch.optim.SGD(
            trained,
            lr=self.settings.training.learning_rate,
            momentum=self.settings.training.momentum,
            weight_decay=self.settings.training.weight_decay,
            fused=True,
        )
        bounds = batch_bounds(count, self.settings.training.batch_size)
        for _ in range(self.settings.training.local_epochs):
            order = torch.randperm(count)
            for start, end in bounds:
                optimizer.zero_grad()
                loss(order[start:end]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return self.settings.training.local_epochs * len(bounds)

    @torch.no_grad()
    def evaluate(self, data: ClientTensors) -> int:
        """Count right answers on the test images, both encoders at work."""
        right = torch.zeros((), dtype=torch.int64)
        for start in range(0, len(data.test_labels), NO_GRADIENT_CHUNK):
            chunk = slice(start, start + NO_GRADIENT_CHUNK)
            images = (data.test_images[chunk].float() - self.mean) / self.deviation
            logits = self.heads[0](self.primary(images)) + self.heads[1](self.secondary(images))
            right += (logits.argmax(dim=1) == data.test_labels[chunk]).sum()
        return int(right)


@torch.no_grad()
def features(encoder: nn.Module, images: Tensor) -> Tensor:
    """Features of all images under a frozen encoder."""
    return torch.cat([encoder(chunk) for chunk in torch.split(images, NO_GRADIENT_CHUNK)])


# Of the process that it is in, set by `open_process`.
bench: Bench


def open_process(settings: Settings, names: Sequence[str], ready: Barrier) -> None:
    """Prepare a process of the floor, then wait for all the others."""
    global bench
    torch.set_num_threads(settings.training.threads)
    bench = Bench.open(settings, names)
    ready.wait(START_SECONDS)


def train_client(work: Work) -> int:
    """Run one client's phases in a process of the floor; returns the number of steps."""
    bench.reset()
    data = bench.clients[work.client]
    steps = bench.train_secondary(data) if work.phases == 2 else 0
    return steps + bench.train_primary(data)


def evaluate_client(work: Work) -> int:
    """Evaluate one client's model in a process of the floor."""
    return bench.evaluate(bench.clients[work.client])


@contextmanager
def floor_processes(settings: Settings, plan: Plan, processes: int) -> Iterator[Pool]:
    """Keep processes that have the data of all clients of the plan in memory."""
    names = sorted({work.client for works in plan for work in works})
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(processes + 1)
    with context.Pool(processes, open_process, (settings, names, ready)) as pool:
        ready.wait(START_SECONDS)
        yield pool


def measure_floor(settings: Settings, plan: Plan, processes: int) -> Floor:
    """Run the steps of all rounds in a bare loop, then the evaluations."""

    def timed(task: Callable[[Work], int], works: list[Work]) -> tuple[float, int]:
        longest_first = sorted(works, key=lambda work: -work.steps(settings))
        start = time.perf_counter()
        total = sum(pool.imap_unordered(task, longest_first, chunksize=1))
        return time.perf_counter() - start, total

    with floor_processes(settings, plan, processes) as pool:
        train = []
        for works in plan:
            seconds, steps = timed(train_client, works)
            assert steps == sum(work.steps(settings) for work in works)
            train.append(seconds)
        return Floor(train, [timed(evaluate_client, works)[0] for works in plan])


# -- the comparison ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """All that was measured; the first round of every list is left out of the report."""

    settings: Settings
    plan: Plan
    simulations: list[Simulated]
    floors: list[Floor]

    def simulated(self, index: int) -> float:
        """Mean seconds of a round in the simulations."""
        return statistics.fmean(each.round_seconds[index] for each in self.simulations)

    def aggregated(self, index: int) -> float:
        """Mean seconds of a round's aggregation."""
        return statistics.fmean(each.seconds[index]["aggregate"] for each in self.simulations)

    def floor(self, index: int) -> float:
        """Mean over the simulations of the mean of the floors before and after."""
        return statistics.fmean(
            (before.train[index] + after.train[index]) / 2
            for before, after in zip(self.floors, self.floors[1:], strict=False)
        )

    def evaluated(self, index: int) -> float:
        """Mean seconds of a bare evaluation of the round's clients."""
        return statistics.fmean(each.evaluate[index] for each in self.floors)

    @property
    def rounds(self) -> range:
        """Indices of the rounds that count: not the first, with Ray's start and the imports."""
        return range(1, len(self.plan))


def compare(config: dict[str, SettingValue], processes: int, repeats: int) -> Comparison:
    """Simulate once for the plan; then floor, simulation, floor, simulation, .. floor."""
    settings = Settings.from_run_config(config)
    plan = simulate(config, processes).plan
    floors, simulations = [measure_floor(settings, plan, processes)], []
    for _ in range(repeats):
        simulations.append(simulate(config, processes))
        if simulations[-1].plan != plan:
            raise SystemExit("two simulations of one seed differ in clients, clusters or sources")
        floors.append(measure_floor(settings, plan, processes))
    return Comparison(settings, plan, simulations, floors)


def report_rounds(found: Comparison, processes: int) -> Table:
    """Tabulate each round that counts, and the total with its verdict."""
    table = Table(
        title=f"A simulated round against its floor, {processes} processes, "
        f"mean of {len(found.simulations)} simulations"
    )
    for column in (
        "round", "clients", "both phases", "SGD steps", "simulation s", "floor s", "ratio", "limit",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    table.add_column("within limit")

    def add(label: str, indices: Sequence[int], *verdict: str) -> None:
        works = [work for index in indices for work in found.plan[index]]
        simulated = sum(found.simulated(index) for index in indices)
        floor = sum(found.floor(index) for index in indices)
        table.add_row(
            label,
            str(len(works)),
            str(sum(work.phases == 2 for work in works)),
            f"{sum(work.steps(found.settings) for work in works):,}",
            f"{simulated:.2f}",
            f"{floor:.2f}",
            f"{simulated / floor:.2f}",
            *verdict,
        )

    for index in found.rounds:
        add(str(index + 1), [index])
    table.add_section()
    verdict = "yes" if total_ratio(found) <= LIMIT_RATIO else "NO"
    add("total", found.rounds, f"{LIMIT_RATIO:g}", verdict)
    return table


def total_ratio(found: Comparison) -> float:
    """Return seconds of all rounds that count, simulated, over the floor's."""
    simulated = sum(found.simulated(index) for index in found.rounds)
    return simulated / sum(found.floor(index) for index in found.rounds)


def report_rest(found: Comparison) -> Table:
    """Tabulate where a mean round's seconds above the floor go."""

    def mean(value: Callable[[int], float]) -> float:
        return statistics.fmean(value(index) for index in found.rounds)

    floor, evaluated = mean(found.floor), mean(found.evaluated)
    aggregated = mean(found.aggregated)
    rest = mean(found.simulated) - floor - evaluated - aggregated
    messages = mean(lambda index: 2 * len(found.plan[index]))
    table = Table(title="Where a mean round goes")
    table.add_column("part")
    for column in ("s", "of the floor"):
        table.add_column(column, justify="right")
    for name, seconds in (
        ("floor: the SGD steps alone", floor),
        ("evaluation of the received model on the test data, in a bare loop", evaluated),
        ("aggregation on the server", aggregated),
        (f"rest: {messages:.0f} messages (requests and replies), data, waiting", rest),
    ):
        table.add_row(name, f"{seconds:.2f}", f"{seconds / floor:.0%}")
    return table


def report_turns(found: Comparison) -> Table:
    """Tabulate the sums over the rounds that count, in the order of measurement."""
    table = Table(title="In the order of measurement, sums over the rounds")
    for column in ("simulation", "floor before s", "simulation s", "floor after s", "ratio"):
        table.add_column(column, justify="right")

    def total(seconds: list[float]) -> float:
        return math.fsum(seconds[index] for index in found.rounds)

    floors = [total(floor.train) for floor in found.floors]
    for number, simulation in enumerate(found.simulations):
        before, after = floors[number], floors[number + 1]
        seconds = total(simulation.round_seconds)
        ratio = seconds / ((before + after) / 2)
        table.add_row(
            str(number + 1), f"{before:.2f}", f"{seconds:.2f}", f"{after:.2f}", f"{ratio:.2f}"
        )
    return table


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    positive = at_least(1)
    parser.add_argument("--data-dir", type=Path, default=APP_DIR.parent / "shared" / "data")
    parser.add_argument("--rounds", type=at_least(2), default=5, help="the first does not count")
    parser.add_argument("--processes", type=positive, default=2)
    parser.add_argument("--repeats", type=positive, default=3, help="simulations that count")
    parser.add_argument(
        "--sharing", choices=("all", "graph"), default="all", help="graph: with joint training"
    )
    arguments = parser.parse_args()
    # As an exception, so that the launcher ends Flower's processes on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    load = os.getloadavg()[0]
    config = run_config(arguments.data_dir, arguments.rounds, arguments.sharing)
    found = compare(config, arguments.processes, arguments.repeats)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(report_turns(found))
    console.print(report_rounds(found, arguments.processes))
    console.print(report_rest(found))
    console.print(
        "The simulation's seconds are the phase train of seconds.jsonl. They hold "
        "the evaluation of the received model, which travels in the train reply; the floor does "
        "not. The first round is left out: Ray starts and imports in it.\n"
        f"{os.cpu_count()} cores; load before the start {load:.1f}: well above 0, the machine was "
        "busy and the ratio says little."
    )


if __name__ == "__main__":
    main()
