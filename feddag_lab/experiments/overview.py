"""The report's first section: what was run, and what became of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from feddag_lab.experiments.agreement import PLACES
from feddag_lab.experiments.layout import TrialRecord
from feddag_lab.experiments.markdown import code, duration, plain, table
from feddag_lab.experiments.results import Results, Status
from feddag_lab.experiments.suite import Suite

STATUSES: tuple[Status, ...] = get_args(Status)

# Differ from trial to trial by their nature, or say where things lie on one machine.
NOT_COMMON = PLACES | {"seed", "algorithm"}


def overview(results: Results) -> list[str]:
    """Say what was run: suite, state of the trials, versions, dates, seconds, settings."""
    suite = results.suite
    counts = Counter(results.table["status"])
    records = [trial.record for trial in results.trials.values() if trial.record is not None]
    lines = [
        "## What was run",
        "",
        f"Suite {code(suite.name)}: {len(suite.scenarios)} scenarios x {len(suite.algorithms)} "
        f"algorithms x {len(suite.seeds)} seeds ({', '.join(map(str, suite.seeds))}) = "
        f"{len(results.trials)} trials: "
        + ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
        + ".",
        "",
        *_records(records),
        *_not_counted(results),
        *_differing("Whole suite", _suite_wide(suite)),
        *_differing("Algorithms", suite.algorithms),
        *_differing("Scenarios", {name: each.settings for name, each in suite.scenarios.items()}),
        *_common(results),
    ]
    return [plain(suite.description), "", *lines] if suite.description else lines


def common_settings(results: Results) -> dict[str, Any]:
    """Return the settings that all usable runs share, those of a machine left out."""
    runs = [trial.settings for trial in results.all_finished()]
    if not runs:
        return {}
    return {
        key: value
        for key, value in runs[0].items()
        if key not in NOT_COMMON and all(key in each and each[key] == value for each in runs)
    }


def _records(records: Iterable[TrialRecord]) -> list[str]:
    records = list(records)
    versions = sorted({_version(record) for record in records if record.version})
    dates = sorted(d for record in records for d in (record.started, record.finished) if d)
    seconds = sum(record.seconds or 0.0 for record in records)
    cpu = sum(record.cpu_seconds or 0.0 for record in records)
    lines = [f"- Versions: {'; '.join(map(plain, versions)) or 'not noted'}"]
    if dates:
        lines.append(f"- From {plain(dates[0])} to {plain(dates[-1])}")
    lines.append(f"- All trials together: {duration(seconds)}, {duration(cpu)} of CPU time")
    return [*lines, ""]


def _version(record: TrialRecord) -> str:
    """Name the code that ran a trial, and what it ran on."""
    commit = f" (commit {record.commit})" if record.commit else ""
    backend = f", {record.backend}" if record.backend else ""
    return f"{record.version}{commit}{backend}"


def _not_counted(results: Results) -> list[str]:
    """List every trial and folder that no figure below rests on."""
    rows = _without_run(results)
    rows += [
        [f"folder {plain(name)}", "", "", "left out", plain(why)] for name, why in results.strays
    ]
    if not rows:
        return ["Every trial of the suite is in the figures below.", ""]
    return [
        "Not in any figure below; where seeds are missing, the tables say how many there are:",
        "",
        *table(("scenario", "algorithms", "seeds", "state", "reason"), rows, left=5),
    ]


def _without_run(results: Results) -> list[list[str]]:
    """List the trials without figures; those alike in all but seed or algorithm share a row."""
    seeds: dict[tuple[str, ...], list[str]] = {}
    for (scenario, algorithm, seed), trial in results.trials.items():
        if trial.files is None:
            key = (scenario, algorithm, trial.status, trial.reason)
            seeds.setdefault(key, []).append(str(seed))
    algorithms: dict[tuple[str, ...], list[str]] = {}
    for (scenario, algorithm, status, reason), of_it in seeds.items():
        shared = (scenario, ", ".join(of_it), status, reason)
        algorithms.setdefault(shared, []).append(plain(algorithm))
    every = len(results.suite.algorithms)
    return [
        [plain(scenario), "all" if len(names) == every else ", ".join(names), of_it, status,
         plain(reason)]
        for (scenario, of_it, status, reason), names in algorithms.items()
    ]  # fmt: skip


def _differing(title: str, settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not settings:
        return []
    rows = [
        [
            plain(name),
            ", ".join(code(_assignment(k, v)) for k, v in each.items() if k not in PLACES) or "-",
        ]
        for name, each in settings.items()
    ]
    return table((title, "settings"), rows, left=2)


def _suite_wide(suite: Suite) -> dict[str, dict[str, Any]]:
    layers = {"every trial": suite.settings, "command line (wins)": suite.command_line}
    return {name: layer for name, layer in layers.items() if set(layer) - PLACES}


def _common(results: Results) -> list[str]:
    common = common_settings(results)
    if not common:
        return []
    shown = [_assignment(key, value) for key, value in sorted(common.items())]
    return [
        f"<details><summary>{len(common)} settings that all finished trials share</summary>",
        "",
        "```",
        *shown,
        "```",
        "",
        "</details>",
        "",
    ]


def _assignment(key: str, value: object) -> str:
    return f"{key}={json.dumps(value, ensure_ascii=False)}"
