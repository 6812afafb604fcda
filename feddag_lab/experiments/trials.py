"""Trials: one algorithm on one scenario with one seed, each a run of its own."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from feddag_lab.experiments.layout import trials_folder
from feddag_lab.experiments.product import Settings, SettingsError, SettingValue
from feddag_lab.experiments.suite import TAKEN, Suite, slug
from feddag_lab.experiments.yaml_marks import Faults, SuiteError

COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Trial:
    """One run of a suite.

    Attributes
    ----------
    algorithm, scenario : str
        Display names.
    seed : int
        The run's seed.
    settings : Settings
        All of the run's settings; ``run-name`` is the trial's slug.
    """

    algorithm: str
    scenario: str
    seed: int
    settings: Settings

    @property
    def slug(self) -> str:
        """Name of the trial's folder."""
        return self.settings.run.run_name

    def __str__(self) -> str:
        return f"{self.algorithm} / {self.scenario} / seed {self.seed}"


def plan_trials(suite: Suite, overrides: Mapping[str, SettingValue], output: Path) -> list[Trial]:
    """Make the settings of every trial, seeds outermost, so that one full seed is there early.

    Parameters
    ----------
    suite : Suite
        What to run.
    overrides : mapping
        Settings of the command line; they win over the suite's.
    output : Path
        Folder of the results.

    Raises
    ------
    SuiteError
        One line for each fault of any trial: where it was written, and what is wrong with it.
    """
    faults = Faults()
    for key in set(overrides) & set(TAKEN):
        faults.add(COMMAND_LINE, f"{key!r} is decided by the runner for each trial")
    trials = []
    for index, seed in enumerate(suite.seeds):
        for scenario in suite.scenarios:
            for algorithm in suite.algorithms_in(scenario):
                name = f"{slug(scenario)}--{slug(algorithm)}--seed-{seed}"
                folder = str(trials_folder(output))
                own = {"seed": seed, "run-dir": folder, "run-name": name}
                layers = suite.layers(scenario, algorithm)
                values = {k: v for layer in (*layers.values(), overrides, own)
                          for k, v in layer.items()}  # fmt: skip
                try:
                    settings = Settings.from_run_config(values)
                except SettingsError as error:
                    places = {key: suite.where((*path, key)) for path, layer in layers.items()
                              for key in layer}  # fmt: skip
                    places |= dict.fromkeys(overrides, COMMAND_LINE)
                    places["seed"] = suite.where(("seeds", index))
                    _tell(error, places, suite.where(("scenarios", scenario)), faults)
                else:
                    trials.append(Trial(algorithm, scenario, seed, settings))
    faults.check()
    return trials


def _tell(error: SettingsError, places: Mapping[str, str], where: str, faults: Faults) -> None:
    """Tell each fault of a trial's settings where its setting was written, else at `where`."""
    for fault in str(error).splitlines():
        # Every fault begins: setting KEY = .., or: unknown setting 'KEY' = ..
        named = re.match(r"(?:unknown )?setting '?([\w-]+)'? =", fault)
        faults.add(places.get(named[1] if named else "", where), fault)


def choose_trials(trials: Sequence[Trial], patterns: Iterable[str]) -> list[Trial]:
    """Keep the trials that match one of the patterns ``ALGORITHM/SCENARIO/SEED``.

    A part is a display name, its slug, or a shell pattern of one of them; parts left out match
    everything. A display name that holds ``*`` means itself alone where it is one of the suite.

    Raises
    ------
    SuiteError
        A pattern is empty, or matches no trial.
    """
    patterns = list(patterns)
    if not patterns:
        return list(trials)
    algorithms, scenarios = {t.algorithm for t in trials}, {t.scenario for t in trials}
    chosen: set[str] = set()
    for pattern in patterns:
        parts = [part.strip() or "*" for part in pattern.split("/")]
        if len(parts) > 3 or not pattern.replace("/", "").strip():
            raise SuiteError(f"--only {pattern!r}: expected ALGORITHM/SCENARIO/SEED")
        algorithm, scenario, seed = parts + ["*"] * (3 - len(parts))
        matching = {
            trial.slug
            for trial in trials
            if _matches(trial.algorithm, algorithm, algorithms)
            and _matches(trial.scenario, scenario, scenarios)
            and fnmatch.fnmatchcase(str(trial.seed), seed)
        }
        if not matching:
            raise SuiteError(f"--only {pattern!r} matches no trial of the suite")
        chosen |= matching
    return [trial for trial in trials if trial.slug in chosen]


def _matches(name: str, pattern: str, names: set[str]) -> bool:
    if pattern in names:
        return name == pattern
    return any(fnmatch.fnmatchcase(each, pattern) for each in (name, slug(name)))
