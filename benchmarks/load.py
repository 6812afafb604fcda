"""Does anything grow? A long run with many clients, and what its processes take meanwhile.

By default 1,000 simulated nodes, 200 of them in a round, through the real Flower; with
``--in-process`` the same without Ray and SuperLink, so that the memory seen is the app's own; with
``--deployment N`` that many real SuperNodes with TLS and keys. Fashion-MNIST, 60 images a client,
one local epoch of a small model; where the data is missing, the digits and 100 clients. Memory,
open file handles and threads of every process are sampled once a second:

    python benchmarks/load.py --rounds 30 --output benchmarks/results/load

Leaves ``processes.csv`` (every process at every moment), ``rounds.csv``, ``load.png``, and prints
the verdict over rounds 5 to the last; its exit status is 1 when something grows.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from arguments import at_least
from rich.console import Console

from feddag_flwr.launcher import run_simulation
from feddag_flwr.settings import Settings, SettingValue
from feddag_flwr.simulation import run_in_process
from feddag_lab.demonstration.federation import federation
from feddag_lab.process_watch.report import plot, tabulate, write_rounds
from feddag_lab.process_watch.sampler import (
    Sample,
    Sampler,
    descendants,
    this_process,
    write_samples,
)
from feddag_lab.process_watch.trend import FLEETING, Trend, by_round, judge, peak_processes

APP_DIR = Path(__file__).resolve().parents[1]
CLIENTS, DIGITS_CLIENTS, IMAGES_A_CLIENT = 1000, 100, 60
TRAIN_IMAGES = 60_000
FIRST_ROUND = 5
PERIOD_SECONDS = 1.0
RUN_NAME = "load"
# Client processes of a deployment that are at work at once: each takes about 700 MB.
DEPLOYED_AT_ONCE = 4
DEPLOYED_SECONDS = 6 * 3600.0

Config = dict[str, SettingValue]


@dataclass(frozen=True)
class Load:
    """How much is asked of the machine.

    Parameters
    ----------
    clients, sampled, rounds : int
        Clients, those drawn for each round, and rounds.
    data_dir : Path or None
        The folder that has ``FashionMNIST/raw``; None for the digits.
    """

    clients: int
    sampled: int
    rounds: int
    data_dir: Path | None

    def run_config(self, folder: Path) -> Config:
        """Return the settings of a run into a folder: small clients, many of them."""
        config: Config = {
            "algorithm": "feddag",
            "num-clients": self.clients,
            "num-rounds": self.rounds,
            "participation": self.sampled / self.clients,
            "evaluate-every": self.rounds,
            "local-epochs": 1,
            "warmup-rounds": 1,
            "warmup-epochs": 1,
            "model": "small",
            "device": "cpu",
            "join-timeout": 3600.0,
            "run-dir": str(folder),
            "run-name": RUN_NAME,
        }
        if self.data_dir is None:
            return config | {"dataset": "digits"}
        share = min(1.0, self.clients * IMAGES_A_CLIENT / TRAIN_IMAGES)
        return config | {
            "dataset": "fashion-mnist",
            "data-dir": str(self.data_dir.resolve()),
            "train-share": share,
            "test-share": share,
        }


# -- the runs --------------------------------------------------------------------------------------


def simulate(load: Load, folder: Path) -> list[Sample]:
    """Run through the real Flower, with Ray's actors on all cores."""
    with watching(descendants, folder) as sampler:
        outcome = run_simulation(
            APP_DIR, load.run_config(folder), num_supernodes=load.clients, stream=sys.stdout
        )
    if not outcome.succeeded:
        raise SystemExit(f"{outcome.status}: {outcome.details}")
    return sampler.samples


def run_here(load: Load, folder: Path, period: float = PERIOD_SECONDS) -> list[Sample]:
    """Run server and clients in this process."""
    with watching(this_process, folder, period) as sampler:
        run_in_process(Settings.from_run_config(load.run_config(folder)))
    return sampler.samples


def deploy(load: Load, folder: Path) -> list[Sample]:
    """Run on real SuperNodes with TLS and keys, each of them started and registered first."""
    config = load.run_config(folder) | {"max-in-flight": DEPLOYED_AT_ONCE}
    with federation() as made:
        for number in range(load.clients):
            node = {"partition-id": number, "num-partitions": load.clients}
            made.add_node(f"node-{number}", node)
        with watching(descendants, folder) as sampler:
            outcome = made.submit(APP_DIR, config, sys.stdout).wait(DEPLOYED_SECONDS)
    if not outcome.succeeded:
        raise SystemExit(f"{outcome.status}: {outcome.details}")
    return sampler.samples


def watching(
    find: Callable[[], list[psutil.Process]], folder: Path, period: float = PERIOD_SECONDS
) -> Sampler:
    """Sample what `find` finds, by the rounds of the run in a folder."""
    return Sampler(find, folder / RUN_NAME / "seconds.jsonl", period)


# -- the verdict -----------------------------------------------------------------------------------


def report(samples: list[Sample], load: Load, what: str, output: Path) -> list[Trend]:
    """Write the files, print the tables, and return the trends."""
    output.mkdir(parents=True, exist_ok=True)
    write_samples(samples, output / "processes.csv")
    rounds = by_round(samples)
    write_rounds(rounds, output / "rounds.csv")
    window = (min(FIRST_ROUND, max(1, load.rounds - 3)), load.rounds)
    title = f"{what}: {load.clients} clients, {load.sampled} a round"
    plot(rounds, window, title, output / "load.png")
    trends = judge(rounds, *window)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(tabulate(trends, f"{title}; rounds {window[0]} to {window[1]}"))
    for role in sorted(FLEETING & set(rounds.index.unique("role"))):
        console.print(f"{role}: at most {peak_processes(samples, role)} at once, not in the total")
    return trends


def verdict(trends: list[Trend]) -> bool:
    """Say whether anything grows; True when nothing does."""
    growing = [trend for trend in trends if not trend.flat]
    for trend in growing:
        print(
            f"GROWS: {trend.quantity} of {trend.role}: {trend.growth:+.1f} over "
            f"{trend.last - trend.first} rounds on {trend.level:,.1f}"
        )
    if not growing:
        print("flat: memory, handles, threads and processes of every role")
    return not growing


def default_data_dir() -> Path | None:
    """Return where Fashion-MNIST is beside the project; None where it is not."""
    data_dir = APP_DIR.parent / "shared" / "data"
    return data_dir if (data_dir / "FashionMNIST" / "raw").is_dir() else None


def main() -> None:
    """Parse the command line, run, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    positive = at_least(1)
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--in-process", action="store_true", help="without Ray and SuperLink")
    kinds.add_argument("--deployment", type=at_least(2), metavar="N", help="real SuperNodes")
    parser.add_argument("--data-dir", type=Path, default=default_data_dir())
    parser.add_argument("--clients", type=at_least(2))
    parser.add_argument("--sampled", type=positive, help="in a round; default: a fifth")
    parser.add_argument("--rounds", type=at_least(4), default=30)
    parser.add_argument("--output", type=Path, default=APP_DIR / "benchmarks" / "results" / "load")
    options = parser.parse_args()
    # As an exception, so that whatever runs is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    usual = DIGITS_CLIENTS if options.data_dir is None else CLIENTS
    clients = options.deployment or options.clients or usual
    sampled = options.sampled or max(1, clients // 5)
    load = Load(clients, sampled, options.rounds, options.data_dir)
    busy, start = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        if options.in_process:
            what, samples = "in one process", run_here(load, Path(folder))
        elif options.deployment:
            what, samples = "real SuperNodes", deploy(load, Path(folder))
        else:
            what, samples = "simulation", simulate(load, Path(folder))
    trends = report(samples, load, what, options.output)
    print(
        f"{time.monotonic() - start:.0f} s; {os.cpu_count()} cores, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB, Python {platform.python_version()}; "
        f"load before the start {busy:.1f}"
    )
    sys.exit(not verdict(trends))


if __name__ == "__main__":
    main()
