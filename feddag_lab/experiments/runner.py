"""Runs the trials of a suite side by side, and goes on where an earlier attempt stopped."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from feddag_flwr.flower.machine import usable_cores
from feddag_lab.experiments import machine
from feddag_lab.experiments.finished import read_trial
from feddag_lab.experiments.layout import DamagedResultsError
from feddag_lab.experiments.output import FAILED, FINISHED, ExperimentError, Output
from feddag_lab.experiments.pool import Ending, Job, Pool
from feddag_lab.experiments.progress import Board, Forecast
from feddag_lab.experiments.resume import take_stock
from feddag_lab.experiments.trials import Trial

BACKENDS = ("in-process", "flower")
JOBS = "feddag_lab.experiments.backends"


@dataclass(frozen=True)
class RunnerOptions:
    """How to run trials.

    Attributes
    ----------
    workers : int or None
        Trials under way at once; None: as many as cores, memory and GPUs allow.
    backend : str
        ``in-process``, or ``flower`` for the real ``flwr run``.
    app_dir : Path
        Folder of the app's ``pyproject.toml``; for Flower.
    rerun_changed : bool
        Run finished trials anew whose settings have changed.
    function : str or None
        ``package.module:name`` of what a worker calls for a trial; None: the backend's own.
    check : str or None
        The same, called for each scenario and seed before any trial runs; None: no check.
    """

    workers: int | None = None
    backend: str = "in-process"
    app_dir: Path = Path()
    rerun_changed: bool = False
    function: str | None = None
    check: str | None = f"{JOBS}:check_data"


@dataclass
class ExperimentOutcome:
    """How an experiment went: trials by number, and the failed ones with their reasons."""

    finished: int = 0
    earlier: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def run_trials(
    suite: Mapping[str, Any],
    trials: Sequence[Trial],
    output: Output,
    options: RunnerOptions,
    *,
    others: Sequence[Trial] = (),
) -> ExperimentOutcome:
    """Run the trials that are not finished yet.

    Parameters
    ----------
    suite : mapping
        What ``suite.json`` shall hold.
    trials : sequence of Trial
        In the order in which they start.
    output : Output
        Where results go.
    options : RunnerOptions
        How to run them.
    others : sequence of Trial
        The suite's trials that are not to run now; those that have finished stay as they are.

    Returns
    -------
    ExperimentOutcome
        A trial that failed is in it; it stops no other.

    Raises
    ------
    ExperimentError
        Another runner is at work in the folder, the folder holds another suite or trials with other
        settings, or the data is not there; before any trial has started.
    """
    with output.locked():
        todo, standing = take_stock(trials, others, output, rerun_changed=options.rerun_changed)
        output.write_suite(suite)
        for slug, reason in standing.reopened.items():
            print(f"trial {slug} runs again: {reason}")
        done = len(standing.finished)
        outcome = ExperimentOutcome(earlier=done)
        if todo:
            forecast = Forecast(standing.finished.values())
            with _pool(todo, options) as pool:
                _check(pool, todo, options)
                board = Board(todo, done=done, workers=pool.most, forecast=forecast)
                with board:
                    _run(pool, board, todo, output, options, outcome)
    return outcome


def _pool(trials: Sequence[Trial], options: RunnerOptions) -> Pool:
    threads = max(trial.settings.training.threads for trial in trials)
    gpus = machine.visible_gpus()
    if options.workers is not None:
        most = options.workers
    elif options.backend == "flower":  # which takes the whole machine for each run
        most = 1
    else:
        most = max(1, usable_cores() // threads)
    return Pool(
        min(most, len(trials)),
        machine.has_room,
        lambda number: machine.worker_environment(number, threads, gpus),
    )


def _check(pool: Pool, trials: Sequence[Trial], options: RunnerOptions) -> None:
    """Look at the data of each scenario and seed."""
    if options.check is None:
        return
    first = {(trial.scenario, trial.seed): trial for trial in reversed(trials)}
    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            Job(
                f"scenario {scenario!r}, seed {seed}",
                options.check,
                {"run_config": trial.settings.to_run_config()},
                Path(folder) / "check.log",
            )
            for (scenario, seed), trial in first.items()
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
    trials: Sequence[Trial],
    output: Output,
    options: RunnerOptions,
    outcome: ExperimentOutcome,
) -> None:
    by_slug = {trial.slug: trial for trial in trials}
    common = {"backend": options.backend, **provenance()}
    started: dict[str, str] = {}
    for event in pool.work([_job(trial, output, options) for trial in trials]):
        if event.job is None:
            board.tick()
            continue
        trial = by_slug[event.job.key]
        if event.ending is None:
            output.clear(trial)
            started[trial.slug] = _now()
            board.started(trial)
            continue
        ending = _with_files_read(event.ending, trial, output)
        record = {**_outcome(trial, ending), "started": started[trial.slug], "finished": _now()}
        if options.backend == "flower":  # Flower's own processes have done the work
            record |= {"cpu-seconds": None, "peak-memory-mib": None}
        output.write_record(trial, record | common)
        if ending.failure is None:
            outcome.finished += 1
        else:
            outcome.failures[str(trial)] = ending.failure
        board.ended(trial, ending.failure, ending.seconds, output.balanced_accuracy(trial))


def _job(trial: Trial, output: Output, options: RunnerOptions) -> Job:
    arguments: dict[str, Any] = {"run_config": trial.settings.to_run_config()}
    function = options.function or f"{JOBS}:in_process"
    if options.backend == "flower" and options.function is None:
        function = f"{JOBS}:through_flower"
        arguments["app_dir"] = str(options.app_dir.resolve())
    return Job(trial.slug, function, arguments, output.log(trial))


def _with_files_read(ending: Ending, trial: Trial, output: Output) -> Ending:
    """Let a run whose files the report could not use end in failure."""
    if ending.failure is None:
        try:
            read_trial(output.folder(trial), trial.seed)
        except DamagedResultsError as error:
            return replace(ending, failure=f"its files cannot be used: {error}")
    return ending


def _outcome(trial: Trial, ending: Ending) -> dict[str, Any]:
    return {
        "algorithm": trial.algorithm,
        "scenario": trial.scenario,
        "seed": trial.seed,
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
