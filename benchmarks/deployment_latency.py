"""Seconds a round with four real SuperNodes, beside Flower's own exchange of nothing.

One SuperLink and four SuperNodes on this machine, with TLS and node authentication. Three apps take
turns on them: empty messages with Flower's own ``send_and_receive``; empty messages whose answers
are asked for as often as this project asks; and FedDAG on clients' own files of real digits, all
four clients in each round. Each message's process notes when it was started, when its imports were
over, when it answered, and how long it trained in between. A round lasts from the last answer of
the round before to its own last answer; its parts are those of the message answered last:

    python benchmarks/deployment_latency.py --rounds 8 --repeats 2
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from arguments import at_least
from latency_apps.message_clock import FOLDER_VARIABLE, Moment
from rich.console import Console
from rich.table import Table

from feddag_flwr.federation.exchange import POLL_LAST
from feddag_flwr.settings import SettingValue
from feddag_lab.demonstration.example_parts import write_parts
from feddag_lab.demonstration.federation import Federation, federation

APP_DIR = Path(__file__).resolve().parents[1]
LATENCY_APPS = Path(__file__).resolve().parent / "latency_apps"
PACKAGES = ("feddag_flwr", "client_app", "server_app")
TASK_POLL = "FLWR_SUPEREXEC_TASK_POLL_INTERVAL"
CLIENTS = 4
RUN_SECONDS = 1800.0
FLOWER, POLLED, FEDDAG = "Flower's own exchange", "asked as often as we ask", "FedDAG"


@dataclass(frozen=True)
class Note:
    """What a message's process wrote down, see `latency_apps/message_clock.py`."""

    run_id: int
    node_id: int
    kind: str
    started: Moment
    imports_begin: Moment
    imports_end: Moment
    end: Moment
    training: Moment

    @classmethod
    def read(cls, path: Path) -> Note:
        """Read a file."""
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        moments = {key: Moment(*each) for key, each in values.items() if isinstance(each, list)}
        return cls(**{**values, **moments})


@dataclass(frozen=True)
class Parts:
    """Seconds of a round, or a mean of them, by what they went into.

    Parameters
    ----------
    way : float
        From the last answer of the round before to the start of the process: the answer's way up,
        the server, the request's way down, and what everybody's polls cost. None of it is the
        process's own CPU.
    start : float
        Until the process, with Flower in it, begins to import the app.
    imports : float
        Importing it: PyTorch, mostly.
    work : float
        From there to the answer: reading the request and the data, evaluation, the answer.
    training : float
        SGD.
    """

    way: float
    start: float
    imports: float
    work: float
    training: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.way + self.start + self.imports + self.work + self.training

    @property
    def rest(self) -> float:
        """What neither training nor imports explain."""
        return self.way + self.start + self.work


@dataclass(frozen=True)
class Measured:
    """What was seen of one app.

    Parameters
    ----------
    rounds : list of Parts
        Of each round, seconds by the clock.
    cpu : list of Parts
        Of each message, seconds of its process's CPU.
    """

    rounds: list[Parts]
    cpu: list[Parts]


def read_notes(folder: Path, run_id: int) -> list[Note]:
    """Read the notes of one run's training messages."""
    notes = [Note.read(path) for path in folder.glob("*.json")]
    return [note for note in notes if note.run_id == run_id and note.kind == "train"]


def rounds_of(notes: Iterable[Note]) -> list[list[Note]]:
    """Sort notes into rounds: the first message of each node, the second of each node, ..

    Raises
    ------
    ValueError
        Some node has fewer messages than another.
    """
    by_node: defaultdict[int, list[Note]] = defaultdict(list)
    for note in sorted(notes, key=lambda each: each.end.clock):
        by_node[note.node_id].append(note)
    lengths = {len(each) for each in by_node.values()}
    if len(lengths) != 1:
        raise ValueError(f"nodes with {sorted(lengths)} messages each: not every reply came")
    return [list(each) for each in zip(*by_node.values(), strict=True)]


def split(note: Note, previous: Moment | None, of: Callable[[Moment], float]) -> Parts:
    """Split the time until a message's answer.

    Parameters
    ----------
    note : Note
        The message.
    previous : Moment or None
        When the time begins; None for the start of the message's process.
    of : callable
        Which of the two clocks counts.
    """
    worked = of(note.imports_end.until(note.end))
    return Parts(
        way=of(previous.until(note.started)) if previous is not None else 0.0,
        start=of(note.started.until(note.imports_begin)),
        imports=of(note.imports_begin.until(note.imports_end)),
        work=worked - of(note.training),
        training=of(note.training),
    )


def examine(rounds: list[list[Note]]) -> Measured:
    """Split the rounds, but for the first, before which there is no answer to begin from."""
    by_clock = []
    for before, notes in itertools.pairwise(rounds):
        previous = max((note.end for note in before), key=lambda end: end.clock)
        last = max(notes, key=lambda note: note.end.clock)
        by_clock.append(split(last, previous, lambda moment: moment.clock))
    later = [note for notes in rounds[1:] for note in notes]
    return Measured(by_clock, [split(note, None, lambda moment: moment.cpu) for note in later])


def mean(parts: Iterable[Parts]) -> Parts:
    """Average."""
    rows = [astuple(each) for each in parts]
    return Parts(*(statistics.fmean(column) for column in zip(*rows, strict=True)))


# -- the runs --------------------------------------------------------------------------------------


def write_apps(folder: Path) -> dict[str, Path]:
    """Write the two apps, each with the clock in it."""
    noop, ours = folder / "noop", folder / "feddag"
    for app, packages in (
        (noop, [LATENCY_APPS]),
        (ours, [LATENCY_APPS, *(APP_DIR / name for name in PACKAGES)]),
    ):
        for package in packages:
            unwanted = shutil.ignore_patterns("__pycache__", "*.toml")
            shutil.copytree(package, app / package.name, ignore=unwanted)
    shutil.copy(LATENCY_APPS / "noop.toml", noop / "pyproject.toml")
    project = (APP_DIR / "pyproject.toml").read_text(encoding="utf-8")
    for old, new in (
        ('"client_app.app:app"', '"latency_apps.clocked_feddag:app"'),
        ("fab-include = [", 'fab-include = [\n    "/latency_apps/**/*.py",'),
    ):
        assert old in project
        project = project.replace(old, new)
    (ours / "pyproject.toml").write_text(project, encoding="utf-8")
    return {FLOWER: noop, POLLED: noop, FEDDAG: ours}


def run_config(kind: str, rounds: int, folder: Path) -> dict[str, SettingValue]:
    """Return the settings of one run; one round more than counts."""
    common: dict[str, SettingValue] = {"num-clients": CLIENTS, "num-rounds": rounds + 1}
    if kind != FEDDAG:
        return common | {"poll-seconds": 0.0 if kind == FLOWER else POLL_LAST}
    return common | {
        "participation": 1.0,
        "evaluate-every": rounds + 1,
        "scenario": "own",
        "dataset": "npz",
        "device": "cpu",
        "run-dir": str(folder),
    }


def measure(made: Federation, kind: str, app: Path, rounds: int, folder: Path) -> Measured:
    """Run one app, and split its rounds."""
    run = made.submit(app, run_config(kind, rounds, folder / "runs"))
    outcome = run.wait(RUN_SECONDS)
    if not outcome.succeeded:
        raise SystemExit(f"{outcome.log}\n{kind}: {outcome.status}: {outcome.details}")
    notes = rounds_of(read_notes(folder / "notes", run.run_id))
    if len(notes) != rounds + 1:
        raise SystemExit(f"{kind}: {len(notes)} rounds, expected {rounds + 1}")
    found = examine(notes)
    print(f"{kind}: {mean(found.rounds).total:.2f} s a round", flush=True)
    return found


def take_turns(
    apps: Mapping[str, Path], rounds: int, repeats: int, folder: Path
) -> dict[str, Measured]:
    """Start the federation, and let the apps take turns in it."""
    found = {kind: Measured([], []) for kind in apps}
    with federation() as made:
        for name, path in write_parts(folder).items():
            made.add_node(name, {"client-name": name, "data-path": str(path)})
        for _ in range(repeats):
            for kind, app in apps.items():
                turn = measure(made, kind, app, rounds, folder)
                found[kind].rounds.extend(turn.rounds)
                found[kind].cpu.extend(turn.cpu)
    return found


# -- the report ------------------------------------------------------------------------------------


def tabulate(found: Mapping[str, list[Parts]], title: str) -> Table:
    """Tabulate the mean of each app by parts."""
    means = {kind: mean(parts) for kind, parts in found.items()}
    table = Table(title=title)
    table.add_column("part")
    for kind in means:
        table.add_column(kind, justify="right")

    def add(label: str, values: Iterable[float]) -> None:
        table.add_row(label, *(f"{value:.2f}" for value in values))

    for name, label in (
        ("way", "answer up, server, request down, polls"),
        ("start", "the message's process starts, with Flower in it"),
        ("imports", "import of the app, with PyTorch"),
        ("work", "data, evaluation, reading and writing the message"),
        ("training", "training"),
    ):
        add(label, (getattr(each, name) for each in means.values()))
    table.add_section()
    add("all", (each.total for each in means.values()))
    add("standard deviation", (statistics.stdev(p.total for p in each) for each in found.values()))
    add("all but training and import", (each.rest for each in means.values()))
    return table


def conclude(found: Mapping[str, list[Parts]]) -> str:
    """Say the ratios, and what is left once training and import are subtracted."""
    means = {kind: mean(parts) for kind, parts in found.items()}
    ours = means[FEDDAG]
    return "\n".join(
        f"FedDAG beside {kind!r}: {ours.total:.2f} s to {base.total:.2f} s a round, ratio "
        f"{ours.total / base.total:.2f}, difference {ours.total - base.total:+.2f} s; without "
        f"training and import {ours.rest:.2f} s to {base.rest:.2f} s, ratio "
        f"{ours.rest / base.rest:.2f}, left {ours.rest - base.rest:+.2f} s."
        for kind, base in means.items()
        if kind != FEDDAG
    )


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    positive = at_least(1)
    parser.add_argument("--rounds", type=at_least(2), default=8)
    parser.add_argument("--repeats", type=positive, default=2, help="turns of each app")
    parser.add_argument(
        "--task-poll", type=float, metavar="SECONDS",
        help=f"{TASK_POLL} of all processes; Flower's default: 1",
    )  # fmt: skip
    options = parser.parse_args()
    # As an exception, so that the federation is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    load = os.getloadavg()[0]
    if options.task_poll is not None:
        os.environ[TASK_POLL] = str(options.task_poll)
    with tempfile.TemporaryDirectory(prefix="latency-") as name:
        folder = Path(name)
        (folder / "notes").mkdir()
        os.environ[FOLDER_VARIABLE] = str(folder / "notes")
        apps = write_apps(folder / "apps")
        found = take_turns(apps, options.rounds, options.repeats, folder)
    console = Console(width=None if sys.stdout.isatty() else 120)
    rounds = {kind: measured.rounds for kind, measured in found.items()}
    cpu = {kind: measured.cpu for kind, measured in found.items()}
    count = options.rounds * options.repeats
    nodes = f"{CLIENTS} SuperNodes, TLS and keys"
    console.print(tabulate(rounds, f"Seconds a round, {nodes}, mean of {count} rounds"))
    console.print(tabulate(cpu, f"CPU seconds of a message's process, mean of {CLIENTS * count}"))
    print(conclude(rounds))
    print(
        f"{os.cpu_count()} cores for all {CLIENTS} clients and the server; load before the start "
        f"{load:.1f}: well above 0, the machine was busy and seconds by the clock are too many."
    )


if __name__ == "__main__":
    main()
