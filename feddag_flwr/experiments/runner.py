"""Runs the cells of a suite side by side, and goes on where an earlier attempt stopped."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from feddag_flwr.experiments import machine
from feddag_flwr.experiments.cells import Cell
from feddag_flwr.experiments.forecast import by_algorithm
from feddag_flwr.experiments.layout import DamagedError
from feddag_flwr.experiments.output import FAILED, FINISHED, ExperimentError, Output
from feddag_flwr.experiments.pool import Ending, Job, Pool
from feddag_flwr.experiments.progress import Board
from feddag_flwr.experiments.results import read_run
from feddag_flwr.experiments.resume import take_stock
from feddag_flwr.flower.machine import usable_cores

BACKENDS = ("in-process", "flower")
JOBS = "feddag_flwr.experiments.backends"


@dataclass(frozen=True)
class Plan:
    """How to run cells.

    Attributes
    ----------
    workers : int or None
        Cells under way at once; None: as many as cores, memory and GPUs allow.
    backend : str
        ``in-process``, or ``flower`` for the real ``flwr run``.
    app_dir : Path
        Folder of the app's ``pyproject.toml``; for Flower.
    rerun_changed : bool
        Run finished cells anew whose settings have changed.
    function : str or None
        ``package.module:name`` of what a worker calls for a cell; None: the backend's own.
    check : str or None
        The same, called for each scenario and seed before any cell runs; None: no check.
    """

    workers: int | None = None
    backend: str = "in-process"
    app_dir: Path = Path()
    rerun_changed: bool = False
    function: str | None = None
    check: str | None = f"{JOBS}:check_data"


@dataclass
class Report:
    """How an experiment went: cells by number, and the failed ones with their reasons."""

    finished: int = 0
    earlier: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def run_cells(
    suite: Mapping[str, Any],
    cells: Sequence[Cell],
    output: Output,
    plan: Plan,
    *,
    others: Sequence[Cell] = (),
) -> Report:
    """Run the cells that are not finished yet.

    Parameters
    ----------
    suite : mapping
        What ``suite.json`` shall hold.
    cells : sequence of Cell
        In the order in which they start.
    output : Output
        Where results go.
    plan : Plan
        How to run them.
    others : sequence of Cell
        The suite's cells that are not to run now; those that have finished stay as they are.

    Returns
    -------
    Report
        A cell that failed is in it; it stops no other.

    Raises
    ------
    ExperimentError
        Another runner is at work in the folder, the folder holds another suite or cells with other
        settings, or the data is not there; before any cell has started.
    """
    with output.locked():
        standing = take_stock(cells, others, output, rerun_changed=plan.rerun_changed)
        output.write_suite(suite)
        for slug, reason in standing.reopened.items():
            print(f"cell {slug} runs again: {reason}")
        todo, done = standing.todo, len(standing.finished)
        report = Report(earlier=done)
        if todo:
            forecast = by_algorithm(standing.finished)
            with _pool(todo, plan) as pool:
                _check(pool, todo, plan)
                board = Board(todo, done=done, workers=pool.most, forecast=forecast)
                with board:
                    _run(pool, board, todo, output, plan, report)
    return report


def _pool(cells: Sequence[Cell], plan: Plan) -> Pool:
    threads = max(cell.settings.threads for cell in cells)
    gpus = machine.visible_gpus()
    if plan.workers is not None:
        most = plan.workers
    elif plan.backend == "flower":  # which takes the whole machine for each run
        most = 1
    else:
        most = max(1, usable_cores() // threads)
    return Pool(
        min(most, len(cells)),
        machine.has_room,
        lambda number: machine.worker_environment(number, threads, gpus),
    )


def _check(pool: Pool, cells: Sequence[Cell], plan: Plan) -> None:
    """Look at the data of each scenario and seed."""
    if plan.check is None:
        return
    first = {(cell.scenario, cell.seed): cell for cell in reversed(cells)}
    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            Job(
                f"scenario {scenario!r}, seed {seed}",
                plan.check,
                {"run_config": cell.settings.to_run_config()},
                Path(folder) / "check.log",
            )
            for (scenario, seed), cell in first.items()
        ]
        faults = [
            f"{event.job.key}: {event.ending.failure}"
            for event in pool.work(jobs)
            if event.job is not None and event.ending is not None and event.ending.failure
        ]
    if faults:
        raise ExperimentError("\n".join(sorted(faults)))


def _run(
    pool: Pool,
    board: Board,
    cells: Sequence[Cell],
    output: Output,
    plan: Plan,
    report: Report,
) -> None:
    by_slug = {cell.slug: cell for cell in cells}
    common = {"backend": plan.backend, **provenance()}
    started: dict[str, str] = {}
    for event in pool.work([_job(cell, output, plan) for cell in cells]):
        if event.job is None:
            continue
        cell = by_slug[event.job.key]
        if event.ending is None:
            output.clear(cell)
            started[cell.slug] = _now()
            board.started(cell)
            continue
        ending = _with_files_read(event.ending, cell, output)
        record = {**_outcome(cell, ending), "started": started[cell.slug], "finished": _now()}
        if plan.backend == "flower":  # Flower's own processes have done the work
            record |= {"cpu-seconds": None, "peak-memory-mib": None}
        output.write_record(cell, record | common)
        if ending.failure is None:
            report.finished += 1
        else:
            report.failures[str(cell)] = ending.failure
        board.ended(cell, ending.failure, ending.seconds, output.balanced_accuracy(cell))


def _job(cell: Cell, output: Output, plan: Plan) -> Job:
    arguments: dict[str, Any] = {"run_config": cell.settings.to_run_config()}
    function = plan.function or f"{JOBS}:in_process"
    if plan.backend == "flower" and plan.function is None:
        function = f"{JOBS}:through_flower"
        arguments["app_dir"] = str(plan.app_dir.resolve())
    return Job(cell.slug, function, arguments, output.log(cell))


def _with_files_read(ending: Ending, cell: Cell, output: Output) -> Ending:
    """Let a run whose files the report could not use end in failure."""
    if ending.failure is None:
        try:
            read_run(output.folder(cell), cell.seed)
        except DamagedError as error:
            return replace(ending, failure=f"its files cannot be used: {error}")
    return ending


def _outcome(cell: Cell, ending: Ending) -> dict[str, Any]:
    return {
        "algorithm": cell.algorithm,
        "scenario": cell.scenario,
        "seed": cell.seed,
        "status": FINISHED if ending.failure is None else FAILED,
        "reason": ending.failure,
        "seconds": round(ending.seconds, 3),
        "cpu-seconds": ending.cpu_seconds,
        "peak-memory-mib": ending.peak_memory,
    }


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def provenance() -> dict[str, str | None]:
    """Return the version of this package and, in a working copy of git, its commit."""
    try:
        version: str | None = metadata.version("feddag-flwr")
    except metadata.PackageNotFoundError:
        version = None
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(
            [*command, "--abbrev=12"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return {"version": version, "commit": None}
    return {"version": version, "commit": found.stdout.strip() or None}
