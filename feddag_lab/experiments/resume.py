"""What of a suite is finished, and what is yet to be run: an experiment goes on where it stopped.

A cell is finished here exactly if the report can use it: its ``cell.json`` says so, is the cell's
own, and the files of its run read well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feddag_lab.experiments.agreement import MACHINE_SETTINGS, in_full
from feddag_lab.experiments.cells import Cell
from feddag_lab.experiments.layout import CellRecord, DamagedError, read_record, read_text
from feddag_lab.experiments.output import FINISHED, ExperimentError, Output
from feddag_lab.experiments.results import read_run


@dataclass(frozen=True)
class Standing:
    """How far an experiment is.

    Attributes
    ----------
    todo : list of Cell
        Yet to be run, in their order.
    finished : list of CellRecord
        What was noted of the others.
    reopened : dict of str to str
        Why a cell that left a ``cell.json`` cannot count, by slug; all of them are in `todo`.
    """

    todo: list[Cell]
    finished: list[CellRecord]
    reopened: dict[str, str]


def take_stock(
    cells: Sequence[Cell], others: Sequence[Cell], output: Output, *, rerun_changed: bool
) -> Standing:
    """Find the cells that are yet to be run.

    Parameters
    ----------
    cells : sequence of Cell
        Those to run.
    others : sequence of Cell
        The suite's other cells: none of them is run, but their results must stay the suite's.
    output : Output
        The experiment's folder.
    rerun_changed : bool
        Count a finished cell that had other settings as yet to be run.

    Raises
    ------
    ExperimentError
        A finished cell had other settings, and is one of `others`, or `rerun_changed` is false.
    """
    finished, reopened = _finished(cells, output)
    changed = _changed(cells, finished, output)
    beside = _changed(others, _finished(others, output)[0], output)
    refused = beside if rerun_changed else changed | beside
    if refused:
        way = "--rerun-changed without --only," if beside else "--rerun-changed"
        raise ExperimentError(
            "\n".join(
                [
                    f"{len(refused)} finished cells of {output.path} had other settings:",
                    *(f"cell {slug}: {'; '.join(found)}" for slug, found in refused.items()),
                    f"give another --output, or {way} to run them anew",
                ]
            )
        )
    done = {slug: record for slug, record in finished.items() if slug not in changed}
    return Standing([c for c in cells if c.slug not in done], list(done.values()), reopened)


def _finished(
    cells: Sequence[Cell], output: Output
) -> tuple[dict[str, CellRecord], dict[str, str]]:
    """Return the records of finished cells, and what is wrong with others; both by slug."""
    finished, reopened = {}, {}
    for cell in cells:
        try:
            record = _record(cell, output)
        except DamagedError as error:
            reopened[cell.slug] = str(error)
            continue
        if record is not None:
            finished[cell.slug] = record
    return finished, reopened


def _record(cell: Cell, output: Output) -> CellRecord | None:
    """Return what was noted of a finished cell; None where it did not end, or failed."""
    path = output.folder(cell) / "cell.json"
    if not path.exists():
        return None
    record = read_record(CellRecord, path)
    # Two names may share a slug: what an earlier edition of the suite called otherwise is not this.
    if (record.algorithm, record.scenario, record.seed) != (
        cell.algorithm, cell.scenario, cell.seed
    ):  # fmt: skip
        theirs = f"{record.algorithm} / {record.scenario} / seed {record.seed}"
        raise DamagedError(f"cell.json is that of {theirs}")
    if record.status != FINISHED:
        return None
    read_run(path.parent, cell.seed)
    return record


def _changed(
    cells: Sequence[Cell], finished: Mapping[str, CellRecord], output: Output
) -> dict[str, list[str]]:
    found = {
        cell.slug: _changes(cell, json.loads(read_text(output.folder(cell) / "settings.json")))
        for cell in cells
        if cell.slug in finished
    }
    return {slug: changes for slug, changes in found.items() if changes}


def _changes(cell: Cell, before: Mapping[str, Any]) -> list[str]:
    """Compare a finished cell's settings with its present ones: ``key: before, now`` for each.

    A setting that was not there when it ran is taken as `in_full` has it.
    """
    had, now = in_full(before), cell.settings.to_run_config()
    return [
        f"{key}: {had.get(key)!r}, now {now.get(key)!r}"
        for key in sorted({*had, *now} - MACHINE_SETTINGS)
        if had.get(key) != now.get(key)
    ]
