"""The report's figures as CSV: one row a trial, a comparison, a client. Shares, not percent."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from feddag_lab.experiments.comparison import PairedDifference
from feddag_lab.experiments.results import KEY, TRIAL_COLUMNS, Results

DIFFERENCES = (
    "scenario", "reference", "baseline", "seeds", "pairs", "points",
    "bootstrap-low", "bootstrap-high", "t-low", "t-high", "outcome",
)  # fmt: skip


def write_csv_files(
    folder: Path, results: Results, differences: Iterable[PairedDifference]
) -> None:
    """Write ``results.csv`` (trials, usable or not), ``clients.csv`` and ``differences.csv``."""
    _write(folder / "results.csv", results.table[[*KEY, *TRIAL_COLUMNS]])
    _write(folder / "clients.csv", results.clients())
    rows = [
        (
            each.scenario, each.reference, each.baseline, len(each.seed_means), each.pairs,
            each.mean, *(each.bootstrap or (None, None)), *(each.student or (None, None)),
            each.outcome,
        )
        for each in differences
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(DIFFERENCES), dtype=object)
    _write(folder / "differences.csv", frame)


def _write(path: Path, frame: pd.DataFrame) -> None:
    frame.to_csv(path, index=False, lineterminator="\n")
