"""What of a suite is finished, and what is yet to be run: an experiment goes on where it stopped.

A trial is finished here exactly if the report can use it: its ``trial.json`` says so, is the
trial's own, and the files of its run read well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from feddag_lab.experiments.agreement import MACHINE_SETTINGS, in_full
from feddag_lab.experiments.finished import read_trial
from feddag_lab.experiments.layout import DamagedResultsError, TrialRecord, read_record, record_path
from feddag_lab.experiments.output import FINISHED, ExperimentError, Output
from feddag_lab.experiments.trials import Trial


@dataclass
class Standing:
    """How far an experiment is; all by a trial's slug.

    Attributes
    ----------
    finished : dict of str to TrialRecord
        What was noted of the trials that are finished.
    reopened : dict of str to str
        Why a trial that left a ``trial.json`` cannot count.
    changed : dict of str to list of str
        In what the settings of a finished trial are not those of now.
    """

    finished: dict[str, TrialRecord] = field(default_factory=dict)
    reopened: dict[str, str] = field(default_factory=dict)
    changed: dict[str, list[str]] = field(default_factory=dict)


def take_stock(
    trials: Sequence[Trial], others: Sequence[Trial], output: Output, *, rerun_changed: bool
) -> tuple[list[Trial], Standing]:
    """Find the trials that are yet to be run.

    Parameters
    ----------
    trials : sequence of Trial
        Those to run.
    others : sequence of Trial
        The suite's other trials: none of them is run, but their results must stay the suite's.
    output : Output
        The experiment's folder.
    rerun_changed : bool
        Count a finished trial that had other settings as yet to be run.

    Returns
    -------
    tuple of (list of Trial, Standing)
        The trials to run, in their order, and how far all of `trials` are.

    Raises
    ------
    ExperimentError
        A finished trial had other settings, and is one of `others`, or `rerun_changed` is false.
    """
    standing, beside = _look(trials, output), _look(others, output).changed
    refused = beside if rerun_changed else standing.changed | beside
    if refused:
        way = "--rerun-changed without --only," if beside else "--rerun-changed"
        raise ExperimentError(
            "\n".join(
                [
                    f"{len(refused)} finished trials of {output.path} had other settings:",
                    *(f"trial {slug}: {'; '.join(found)}" for slug, found in refused.items()),
                    f"give another --output, or {way} to run them anew",
                ]
            )
        )
    for slug in standing.changed:
        del standing.finished[slug]
    return [trial for trial in trials if trial.slug not in standing.finished], standing


def _look(trials: Sequence[Trial], output: Output) -> Standing:
    standing = Standing()
    for trial in trials:
        path = record_path(output.folder(trial))
        if not path.exists():
            continue
        try:
            record = _own_record(trial, read_record(TrialRecord, path))
            if record.status != FINISHED:
                continue
            before = read_trial(path.parent, trial.seed).settings
        except DamagedResultsError as error:
            standing.reopened[trial.slug] = str(error)
            continue
        standing.finished[trial.slug] = record
        if changes := _changes(trial, before):
            standing.changed[trial.slug] = changes
    return standing


def _own_record(trial: Trial, record: TrialRecord) -> TrialRecord:
    # Two names may share a slug: what an earlier edition of the suite called otherwise is not this.
    theirs = f"{record.algorithm} / {record.scenario} / seed {record.seed}"
    if theirs != str(trial):
        raise DamagedResultsError(f"trial.json is that of {theirs}")
    return record


def _changes(trial: Trial, before: Mapping[str, Any]) -> list[str]:
    """Compare a finished trial's settings with its present ones: ``key: before, now`` for each.

    A setting that was not there when it ran is taken as `in_full` has it.
    """
    had, now = in_full(before), trial.settings.to_run_config()
    return [
        f"{key}: {had.get(key)!r}, now {now.get(key)!r}"
        for key in sorted({*had, *now} - MACHINE_SETTINGS)
        if had.get(key) != now.get(key)
    ]
