"""Cells: one algorithm on one scenario with one seed, each a run of its own."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from feddag_flwr.settings import Settings, SettingsError, SettingValue
from feddag_lab.experiments.suite import TAKEN, Layer, Suite, slug
from feddag_lab.experiments.yaml_nodes import Faults, SuiteError

CELLS_FOLDER = "cells"
COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Cell:
    """One run of a suite.

    Attributes
    ----------
    algorithm, scenario : str
        Display names.
    seed : int
        The run's seed.
    settings : Settings
        All of the run's settings; ``run-name`` is the cell's slug.
    """

    algorithm: str
    scenario: str
    seed: int
    settings: Settings

    @property
    def slug(self) -> str:
        """Name of the cell's folder."""
        return self.settings.run_name

    def __str__(self) -> str:
        return f"{self.algorithm} / {self.scenario} / seed {self.seed}"


def plan_cells(suite: Suite, overrides: Mapping[str, SettingValue], output: Path) -> list[Cell]:
    """Make the settings of every cell, seeds outermost, so that one full seed is there early.

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
        One line for each fault of any cell: where it was written, and what is wrong with it.
    """
    faults = Faults()
    for key in set(overrides) & set(TAKEN):
        faults.add(COMMAND_LINE, f"{key!r} is decided by the runner for each cell")
    line = Layer(dict(overrides), dict.fromkeys(overrides, COMMAND_LINE))
    cells = []
    for seed, seed_place in suite.seeds.items():
        for scenario_name, scenario in suite.scenarios.items():
            for algorithm, own in suite.algorithms_in(scenario_name).items():
                name = f"{slug(scenario_name)}--{slug(algorithm)}--seed-{seed}"
                values: dict[str, SettingValue] = {
                    "seed": seed,
                    "run-dir": str(output / CELLS_FOLDER),
                    "run-name": name,
                }
                fixed = Layer(values, {"seed": seed_place})
                layers = (suite.settings, scenario.layer, own, line, fixed)
                settings = _settings(layers, scenario.where, faults)
                if settings is not None:
                    cells.append(Cell(algorithm, scenario_name, seed, settings))
    faults.check()
    return cells


def choose_cells(cells: Sequence[Cell], patterns: Iterable[str]) -> list[Cell]:
    """Keep the cells that match one of the patterns ``ALGORITHM/SCENARIO/SEED``.

    A part is a display name, its slug, or a shell pattern of one of them; parts left out match
    everything. A display name that holds ``*`` means itself alone where it is one of the suite.

    Raises
    ------
    SuiteError
        A pattern is empty, or matches no cell.
    """
    patterns = list(patterns)
    if not patterns:
        return list(cells)
    algorithms, scenarios = {c.algorithm for c in cells}, {c.scenario for c in cells}
    chosen: set[str] = set()
    for pattern in patterns:
        parts = [part.strip() or "*" for part in pattern.split("/")]
        if len(parts) > 3 or not pattern.replace("/", "").strip():
            raise SuiteError(f"--only {pattern!r}: expected ALGORITHM/SCENARIO/SEED")
        algorithm, scenario, seed = parts + ["*"] * (3 - len(parts))
        matching = {
            cell.slug
            for cell in cells
            if _matches(cell.algorithm, algorithm, algorithms)
            and _matches(cell.scenario, scenario, scenarios)
            and fnmatch.fnmatchcase(str(cell.seed), seed)
        }
        if not matching:
            raise SuiteError(f"--only {pattern!r} matches no cell of the suite")
        chosen |= matching
    return [cell for cell in cells if cell.slug in chosen]


def _matches(name: str, pattern: str, names: set[str]) -> bool:
    if pattern in names:
        return name == pattern
    return any(fnmatch.fnmatchcase(each, pattern) for each in (name, slug(name)))


def _settings(layers: Sequence[Layer], where: str, faults: Faults) -> Settings | None:
    """Merge the layers, a later one wins; a fault is told where its setting was written."""
    merged: dict[str, SettingValue] = {}
    places: dict[str, str] = {}
    for layer in layers:
        merged |= layer.values
        places |= layer.places
    try:
        return Settings.from_run_config(merged)
    except SettingsError as error:
        for fault in str(error).splitlines():
            # Every fault begins: setting KEY = .., or: unknown setting 'KEY' = ..
            named = re.match(r"(?:unknown )?setting '?([\w-]+)'? =", fault)
            key = named.group(1) if named else ""
            faults.add(places.get(key, where), fault)
        return None
