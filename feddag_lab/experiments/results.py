"""Reads an experiment's results; a trial that cannot be trusted is named, with the reason."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from feddag_lab.experiments.agreement import DATA_SETTINGS, deviation, odd_ones
from feddag_lab.experiments.finished import CLIENT_COLUMNS, FinishedTrial, read_trial
from feddag_lab.experiments.layout import (
    DamagedResultsError,
    TrialRecord,
    read_record,
    record_path,
    trials_folder,
)
from feddag_lab.experiments.suite import Suite

TrialKey = tuple[str, str, int]
Status = Literal["finished", "failed", "missing", "damaged"]

KEY = ("scenario", "algorithm", "seed")
# One row a trial: its figures, then what the runner noted.
TRIAL_COLUMNS = (
    "status", "reason",
    "clients", "balanced-accuracy", "accuracy", "tuned-balanced-accuracy", "tuned-accuracy",
    "unseen-clients", "unseen-balanced-accuracy", "unseen-accuracy",
    "unseen-tuned-balanced-accuracy", "unseen-tuned-accuracy",
    "adjusted-rand-index", "clusters", "bytes-per-client", "training-bytes-per-client",
    "best-rand-index", "best-clusters", "best-round", "seconds", "cpu-seconds",
)  # fmt: skip
LEFT_OUT = "the suite leaves it out"
BROKEN_OFF = "no trial.json: an attempt that was broken off, or is under way"


@dataclass(frozen=True, eq=False)
class TrialResult:
    """What became of a trial of the suite.

    Attributes
    ----------
    status : str
        ``finished`` (then there is `files`), ``failed`` (the runner says so), ``missing``, or
        ``damaged`` (called finished, but its files say otherwise).
    reason : str
        Why there are no figures.
    record : TrialRecord or None
        What the runner noted.
    files : FinishedTrial or None
        What it left.
    """

    status: Status
    reason: str = ""
    record: TrialRecord | None = None
    files: FinishedTrial | None = None


@dataclass(frozen=True, eq=False)
class Results:
    """All that an experiment left.

    Attributes
    ----------
    suite : Suite
    trials : dict from (scenario, algorithm, seed) to TrialResult
        Every trial of the suite, in its order, whatever became of it.
    table : DataFrame
        The same as `KEY`, `TRIAL_COLUMNS`, and ``main`` and ``main-tuned``, the balanced
        accuracy that a trial is judged by, before and after local fine-tuning, as shares.
    strays : tuple of (str, str)
        Folders that belong to no trial of the suite, and why; nothing in them is counted.
    """

    suite: Suite
    trials: Mapping[TrialKey, TrialResult]
    table: pd.DataFrame
    strays: tuple[tuple[str, str], ...] = ()

    def finished(self, scenario: str, algorithm: str) -> dict[int, FinishedTrial]:
        """Return the usable trials of an algorithm on a scenario, by seed."""
        trials = ((seed, self.trials[scenario, algorithm, seed]) for seed in self.suite.seeds)
        return {seed: trial.files for seed, trial in trials if trial.files is not None}

    def rows(self, scenario: str, algorithm: str | None = None) -> pd.DataFrame:
        """Return the rows of `table` that hold figures, of one algorithm or of all."""
        table = self.table[self.table["status"] == "finished"]
        table = table[table["scenario"] == scenario]
        return table if algorithm is None else table[table["algorithm"] == algorithm]

    def all_finished(self) -> Iterator[FinishedTrial]:
        """Yield all usable trials."""
        return (trial.files for trial in self.trials.values() if trial.files is not None)

    def judges_unseen(self, scenario: str) -> bool:
        """Whether the scenario's main figure is that of clients kept out of training."""
        return any(
            trial.main == "unseen"
            for algorithm in self.suite.algorithms
            for trial in self.finished(scenario, algorithm).values()
        )

    def clients(self) -> pd.DataFrame:
        """Return one row a client of every usable trial."""
        parts = [
            each.files.clients.assign(scenario=key[0], algorithm=key[1], seed=key[2])
            for key, each in self.trials.items()
            if each.files is not None
        ]
        columns = [*KEY, *CLIENT_COLUMNS]
        return pd.concat(parts)[columns] if parts else pd.DataFrame(columns=columns)


def read_results(folder: Path) -> Results:
    """Read an experiment's folder.

    Raises
    ------
    DamagedResultsError
        ``suite.json`` cannot be used. Nothing that is wrong with a trial raises.
    """
    suite = read_record(Suite, folder / "suite.json")
    found: dict[TrialKey, TrialResult] = {}
    strays = []
    for path in sorted(each for each in trials_folder(folder).glob("*") if each.is_dir()):
        try:
            record = read_record(TrialRecord, record_path(path))
        except DamagedResultsError as error:
            broken_off = not record_path(path).exists()
            strays.append((path.name, BROKEN_OFF if broken_off else str(error)))
            continue
        key = (record.scenario, record.algorithm, record.seed)
        known = record.scenario in suite.scenarios and record.algorithm in suite.algorithms
        if not known or record.seed not in suite.seeds:
            strays.append((path.name, "not a trial of the suite"))
        elif key in found:
            strays.append((path.name, "a second folder of a trial; the first by name counts"))
        else:
            found[key] = _judge(path, record, suite)
    trials = {}
    for scenario, each in suite.scenarios.items():
        for algorithm in suite.algorithms:
            reason = LEFT_OUT if algorithm in each.without else "not run to an end"
            for seed in suite.seeds:
                key = (scenario, algorithm, seed)
                trials[key] = found.get(key, TrialResult("missing", reason))
    _mark_disagreeing(trials, suite)
    return Results(suite, trials, _tabulate(trials), tuple(strays))


def _judge(path: Path, record: TrialRecord, suite: Suite) -> TrialResult:
    if record.status == "failed":
        return TrialResult("failed", record.reason or "no reason given", record)
    if record.status != "finished":
        return TrialResult("missing", f"status {record.status!r}", record)
    try:
        files = read_trial(path, record.seed)
    except DamagedResultsError as error:
        return TrialResult("damaged", str(error), record)
    deviates = deviation(files.settings, suite.settings_of(record.scenario, record.algorithm))
    if deviates:
        return TrialResult("damaged", f"settings.json: {deviates}", record)
    return TrialResult("finished", "", record, files)


def _tabulate(trials: Mapping[TrialKey, TrialResult]) -> pd.DataFrame:
    rows = []
    for key, trial in trials.items():
        row = {**dict(zip(KEY, key, strict=True)), "status": trial.status, "reason": trial.reason}
        if trial.record is not None:
            row |= {"seconds": trial.record.seconds, "cpu-seconds": trial.record.cpu_seconds}
        if trial.files is not None:
            figures, prefix = trial.files.figures, "unseen-" * (trial.files.main == "unseen")
            row |= figures
            row |= {"main": figures[f"{prefix}balanced-accuracy"],
                    "main-tuned": figures[f"{prefix}tuned-balanced-accuracy"]}  # fmt: skip
        rows.append(row)
    # As objects: what is missing must not make counts floats.
    columns = [*KEY, *TRIAL_COLUMNS, "main", "main-tuned"]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def _mark_disagreeing(trials: dict[TrialKey, TrialResult], suite: Suite) -> None:
    """Call a trial damaged that ran with other settings than those it is averaged or paired with.

    Seeds of an algorithm agree in all that is computed, algorithms of a scenario in their data.
    """
    # Where the suite itself gives an algorithm data of its own, its trials are no odd ones.
    own = {key for values in suite.algorithms.values() for key in values}
    for scenario in suite.scenarios:
        for algorithm in suite.algorithms:
            _mark_odd(trials, [(scenario, algorithm, seed) for seed in suite.seeds])
        of_scenario = [key for key in trials if key[0] == scenario]
        _mark_odd(trials, of_scenario, only=DATA_SETTINGS - own)


def _mark_odd(
    trials: dict[TrialKey, TrialResult],
    keys: Iterable[TrialKey],
    only: Collection[str] | None = None,
) -> None:
    settings = {key: files.settings for key in keys if (files := trials[key].files) is not None}
    for key, why in odd_ones(settings, only=only).items():
        reason = f"settings.json: {why}"
        trials[key] = replace(trials[key], status="damaged", files=None, reason=reason)
