"""The report's figures as CSV: one row a cell, a comparison, a client. Shares, not percent."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from feddag_lab.experiments.comparison import Comparison
from feddag_lab.experiments.results import (
    BestRound,
    Cell,
    Results,
    Run,
    Scores,
    mean_accuracy,
    mean_balanced_accuracy,
)

CELL = ("scenario", "algorithm", "seed")
FIGURES = (
    "clients", "balanced-accuracy", "accuracy", "tuned-balanced-accuracy", "tuned-accuracy",
    "unseen-clients", "unseen-balanced-accuracy", "unseen-accuracy",
    "unseen-tuned-balanced-accuracy", "unseen-tuned-accuracy",
    "adjusted-rand-index", "clusters", "bytes-per-client", "training-bytes-per-client",
    "best-rand-index", "best-clusters", "best-round",
)  # fmt: skip
SECONDS = ("seconds", "cpu-seconds")
CLIENT_FIGURES = (
    "client", "part", "samples", "balanced-accuracy", "accuracy",
    "tuned-balanced-accuracy", "tuned-accuracy", "cluster", "true-group",
)  # fmt: skip
DIFFERENCES = (
    "scenario", "reference", "rival", "seeds", "pairs", "points",
    "bootstrap-low", "bootstrap-high", "t-low", "t-high", "outcome",
)  # fmt: skip

Value = str | int | float | None


def write_results(path: Path, results: Results) -> None:
    """Write one row a cell of the suite, usable or not."""
    rows = []
    for cell in results.cells.values():
        record = cell.record
        figures = _figures(cell.run) if cell.run else [None] * len(FIGURES)
        seconds = (record.seconds, record.cpu_seconds) if record else (None, None)
        rows.append([*_names(cell), cell.status, cell.reason, *figures, *seconds])
    _write(path, (*CELL, "status", "reason", *FIGURES, *SECONDS), rows)


def write_clients(path: Path, results: Results) -> None:
    """Write one row a client and usable cell; ``part`` says whether training saw the client."""
    rows = [
        [*_names(cell), *row]
        for cell in results.cells.values()
        if cell.run
        for row in _client_rows(cell.run)
    ]
    _write(path, (*CELL, *CLIENT_FIGURES), rows)


def write_differences(path: Path, comparisons: Iterable[Comparison]) -> None:
    """Write one row a comparison; differences and intervals in points."""
    rows: list[list[Value]] = []
    for each in comparisons:
        bootstrap = (each.bootstrap.low, each.bootstrap.high) if each.bootstrap else (None, None)
        student = (each.student.low, each.student.high) if each.student else (None, None)
        rows.append(
            [
                each.scenario, each.reference, each.rival, len(each.seed_means), each.pairs,
                each.mean, *bootstrap, *student, each.outcome,
            ]
        )  # fmt: skip
    _write(path, DIFFERENCES, rows)


def _names(cell: Cell) -> list[Value]:
    return [cell.scenario, cell.algorithm, cell.seed]


def _figures(run: Run) -> list[Value]:
    return [
        len(run.seen), *_means(run.seen), *_means(run.tuned),
        len(run.unseen) if run.unseen else None, *_means(run.unseen), *_means(run.unseen_tuned),
        run.rand_index, run.num_clusters, run.total_bytes, run.training_bytes,
        *_best(run.best),
    ]  # fmt: skip


def _best(best: BestRound | None) -> list[Value]:
    return [best.rand_index, best.num_clusters, best.round] if best else [None, None, None]


def _means(scores: Scores | None) -> list[Value]:
    if scores is None:
        return [None, None]
    return [mean_balanced_accuracy(scores), mean_accuracy(scores)]


def _client_rows(run: Run) -> list[list[Value]]:
    rows: list[list[Value]] = []
    for part, scores, tuned in (
        ("seen", run.seen, run.tuned or {}),
        ("unseen", run.unseen or {}, run.unseen_tuned or {}),
    ):
        for name, score in scores.items():
            after = tuned.get(name)
            rows.append(
                [
                    name, part, score.samples, score.balanced_accuracy, score.accuracy,
                    after.balanced_accuracy if after else None, after.accuracy if after else None,
                    run.clusters.get(name), run.true_groups.get(name),
                ]
            )  # fmt: skip
    return rows


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Value]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
