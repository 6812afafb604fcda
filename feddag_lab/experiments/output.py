"""The folder of an experiment: where everything lies there, and how it gets there.

========================  ==========================================================================
``suite.json``            the suite as it was run
``trials/SLUG/``          a run's files (see `feddag_flwr.run_folder`) and ``trial.json``, which
                          comes last: a folder without one is an attempt that was broken off
``trials/SLUG.log``       what the trial printed
========================  ==========================================================================
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from feddag_lab.experiments.layout import record_path, trials_folder
from feddag_lab.experiments.trials import Trial

FINISHED = "finished"
FAILED = "failed"


class ExperimentError(RuntimeError):
    """An experiment cannot be run, or goes on no more."""


class Output:
    """Reads and writes an experiment's folder.

    Parameters
    ----------
    path : Path
        The folder; made when it is first written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runners out; the lock goes with the process, however that ends.

        Raises
        ------
        ExperimentError
            Another runner is at work here.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / ".lock", timeout=0):
                yield
        except Timeout:
            raise ExperimentError(f"{self.path}: another runner is at work there") from None

    def write_suite(self, suite: Mapping[str, Any]) -> None:
        """Write ``suite.json``.

        Raises
        ------
        ExperimentError
            The folder belongs to another suite.
        """
        path = self.path / "suite.json"
        before = _read_json(path)
        if before is not None and before.get("name") != suite["name"]:
            raise ExperimentError(
                f"{self.path} holds the suite {before.get('name')!r}, not {suite['name']!r}"
            )
        _write_json(path, suite)

    def folder(self, trial: Trial) -> Path:
        """Return the folder of a trial's run."""
        return trials_folder(self.path) / trial.slug

    def log(self, trial: Trial) -> Path:
        """Return the file of what a trial prints."""
        return trials_folder(self.path) / f"{trial.slug}.log"

    def clear(self, trial: Trial) -> None:
        """Remove what an earlier attempt at a trial left, its mark of being finished first."""
        folder = self.folder(trial)
        record_path(folder).unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
        self.log(trial).unlink(missing_ok=True)

    def write_record(self, trial: Trial, record: Mapping[str, Any]) -> None:
        """Write ``trial.json``: at once or not at all."""
        folder = self.folder(trial)
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(record_path(folder), record)

    def balanced_accuracy(self, trial: Trial) -> float | None:
        """Return the closing mean balanced accuracy of a finished trial, a share."""
        summary = _read_json(self.folder(trial) / "summary.json") or {}
        value = summary.get("overall", {}).get("balanced-accuracy")
        return float(value) if isinstance(value, int | float) else None


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w", encoding="utf-8") as stream:
        json.dump(values, stream, indent=2, allow_nan=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
