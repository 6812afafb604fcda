"""The folder of an experiment: where everything lies there, and how it gets there.

========================  ==========================================================================
``suite.json``            the suite as it was run
``cells/SLUG/``           a run's files (see `feddag_flwr.run_folder`) and ``cell.json``, which
                          comes last: a folder without one is an attempt that was broken off
``cells/SLUG.log``        what the cell printed
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

from feddag_lab.experiments.cells import CELLS_FOLDER, Cell

FINISHED = "finished"
FAILED = "failed"
# Where things lie, not what is computed: a cell stays valid when its folder is moved.
PLACES = frozenset({"run-dir", "run-name", "data-dir", "download"})


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

    def folder(self, cell: Cell) -> Path:
        """Return the folder of a cell's run."""
        return self.path / CELLS_FOLDER / cell.slug

    def log(self, cell: Cell) -> Path:
        """Return the file of what a cell prints."""
        return self.path / CELLS_FOLDER / f"{cell.slug}.log"

    def clear(self, cell: Cell) -> None:
        """Remove what an earlier attempt at a cell left, its mark of being finished first."""
        folder = self.folder(cell)
        (folder / "cell.json").unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
        self.log(cell).unlink(missing_ok=True)

    def write_record(self, cell: Cell, record: Mapping[str, Any]) -> None:
        """Write ``cell.json``: at once or not at all."""
        folder = self.folder(cell)
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(folder / "cell.json", record)

    def balanced_accuracy(self, cell: Cell) -> float | None:
        """Return the closing mean balanced accuracy of a finished cell, a share."""
        summary = _read_json(self.folder(cell) / "summary.json") or {}
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
