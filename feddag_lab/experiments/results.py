"""Reads an experiment's results; a cell that cannot be trusted is named, with the reason."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np

from feddag_flwr.clustering.rand_index import adjusted_rand_index
from feddag_lab.experiments.agreement import (
    DATA_SETTINGS,
    deviation,
    odd_ones,
)
from feddag_lab.experiments.layout import (
    CellRecord,
    DamagedError,
    Evaluation,
    RoundLine,
    RunSettings,
    Score,
    Suite,
    Summary,
    read_lines,
    read_record,
    read_text,
)

Scores = Mapping[str, Score]
CellKey = tuple[str, str, int]
Status = Literal["finished", "failed", "missing", "damaged"]

# Messages that only measure; every other kind is part of what an algorithm needs for its models.
EVALUATION_KINDS = frozenset({"evaluate"})

LEFT_OUT = "the suite leaves it out"
BROKEN_OFF = "no cell.json: an attempt that was broken off, or is under way"

# A run's own mean and that of its clients may differ by rounding alone.
MEAN_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Curve:
    """Balanced accuracy of all clients in the course of a run, at each of its evaluations.

    Attributes
    ----------
    rounds : tuple of int
        Rounds with an evaluation of all clients.
    accuracy : tuple of float
        Mean over clients of the balanced accuracy, as a share.
    training_bytes : tuple of float
        Bytes a client up to and with that round, both ways, without `EVALUATION_KINDS`: how
        often a suite measures is no property of an algorithm.
    """

    rounds: tuple[int, ...]
    accuracy: tuple[float, ...]
    training_bytes: tuple[float, ...]


@dataclass(frozen=True)
class BestRound:
    """The clustering nearest the true groups that a run went through; the first of equals.

    Only who knows the groups can choose it: what an algorithm sees, apart from where it stops.

    Attributes
    ----------
    round : int
    rand_index : float
        Adjusted Rand index of that round's clusters and the true groups.
    num_clusters : int
        Those that have members.
    """

    round: int
    rand_index: float
    num_clusters: int


@dataclass(frozen=True, eq=False)
class Run:
    """The figures of one finished run, all of them after its last round.

    Attributes
    ----------
    seen : mapping of str to Score
        Clients that took part in training, by name.
    tuned : mapping or None
        The same after local fine-tuning.
    unseen, unseen_tuned : mapping or None
        Clients kept out of training, before and after local fine-tuning.
    rand_index : float or None
        Adjusted Rand index of clusters and true groups, where these are known.
    num_clusters : int
        Those that have members.
    best : BestRound or None
        Where the true groups are known.
    clients : int
        Clients over which bytes are shared out.
    total_bytes : float
        Bytes a client, both ways, all kinds of message, the whole run.
    training_bytes : float
        The same without `EVALUATION_KINDS`.
    curve : Curve
    settings : mapping of str to object
        ``settings.json``.
    clusters : mapping of str to int
        Each client's cluster at the end; empty where the run did not write it.
    true_groups : mapping of str to int
    folder : Path
        Where the run's files are.
    by_unseen : bool
        Whether the run's scenario is judged by unseen clients.
    """

    seen: Scores
    tuned: Scores | None
    unseen: Scores | None
    unseen_tuned: Scores | None
    rand_index: float | None
    num_clusters: int
    best: BestRound | None
    clients: int
    total_bytes: float
    training_bytes: float
    curve: Curve
    settings: Mapping[str, Any]
    clusters: Mapping[str, int]
    true_groups: Mapping[str, int]
    folder: Path
    by_unseen: bool = False

    @property
    def judged(self) -> Scores | None:
        """The clients whose figure is the run's main one; None where these have no model."""
        return self.unseen if self.by_unseen else self.seen

    @property
    def judged_tuned(self) -> Scores | None:
        """The same clients after local fine-tuning."""
        return self.unseen_tuned if self.by_unseen else self.tuned


@dataclass(frozen=True, eq=False)
class Cell:
    """One algorithm on one scenario with one seed.

    Attributes
    ----------
    scenario, algorithm : str
    seed : int
    status : str
        ``finished`` (then there is a `run`), ``failed`` (the runner says so), ``missing``, or
        ``damaged`` (called finished, but its files say otherwise).
    reason : str
        Why there is no run.
    record : CellRecord or None
        What the runner noted.
    run : Run or None
    """

    scenario: str
    algorithm: str
    seed: int
    status: Status
    reason: str = ""
    record: CellRecord | None = None
    run: Run | None = None


@dataclass(frozen=True, eq=False)
class Results:
    """All that an experiment left.

    Attributes
    ----------
    suite : Suite
    cells : dict from (scenario, algorithm, seed) to Cell
        Every cell of the suite, in its order, whatever became of it.
    strays : tuple of (str, str)
        Folders that belong to no cell of the suite, and why; nothing in them is counted.
    """

    suite: Suite
    cells: Mapping[CellKey, Cell]
    strays: tuple[tuple[str, str], ...] = field(default=())

    def runs(self, scenario: str, algorithm: str) -> dict[int, Run]:
        """Return the usable runs of an algorithm on a scenario, by seed."""
        cells = (self.cells[scenario, algorithm, seed] for seed in self.suite.seeds)
        return {cell.seed: cell.run for cell in cells if cell.run is not None}

    def all_runs(self) -> Iterator[Run]:
        """Yield all usable runs."""
        return (cell.run for cell in self.cells.values() if cell.run is not None)

    def judges_unseen(self, scenario: str) -> bool:
        """Whether the scenario's main figure is that of clients kept out of training."""
        return any(
            cell.run.by_unseen
            for cell in self.cells.values()
            if cell.run is not None and cell.scenario == scenario
        )


def mean_balanced_accuracy(scores: Scores) -> float:
    """Mean over clients, each counted once, as a share."""
    return float(np.mean([score.balanced_accuracy for score in scores.values()]))


def mean_accuracy(scores: Scores) -> float:
    """Mean over clients of the plain accuracy, as a share."""
    return float(np.mean([score.accuracy for score in scores.values()]))


def read_results(folder: Path) -> Results:
    """Read an experiment's folder.

    Raises
    ------
    DamagedError
        ``suite.json`` cannot be used. Nothing that is wrong with a cell raises.
    """
    suite = read_record(Suite, folder / "suite.json")
    found: dict[CellKey, Cell] = {}
    strays = []
    for path in sorted(each for each in folder.glob("cells/*") if each.is_dir()):
        try:
            record = read_record(CellRecord, path / "cell.json")
        except DamagedError as error:
            broken_off = not (path / "cell.json").exists()
            strays.append((path.name, BROKEN_OFF if broken_off else str(error)))
            continue
        key = (record.scenario, record.algorithm, record.seed)
        known = record.scenario in suite.scenarios and record.algorithm in suite.algorithms
        if not known or record.seed not in suite.seeds:
            strays.append((path.name, "not a cell of the suite"))
        elif key in found:
            strays.append((path.name, "a second folder of a cell; the first by name counts"))
        else:
            found[key] = _read_cell(path, record, suite)
    cells = {}
    for scenario in suite.scenarios:
        for algorithm in suite.algorithms:
            left_out = algorithm in suite.scenarios[scenario].without
            for seed in suite.seeds:
                reason = LEFT_OUT if left_out else "not run to an end"
                missing = Cell(scenario, algorithm, seed, "missing", reason)
                cells[scenario, algorithm, seed] = found.get((scenario, algorithm, seed), missing)
    return Results(suite, _agreeing(cells, suite), tuple(strays))


def _read_cell(path: Path, record: CellRecord, suite: Suite) -> Cell:
    cell = Cell(record.scenario, record.algorithm, record.seed, "failed", record=record)
    if record.status == "failed":
        return replace(cell, reason=record.reason or "no reason given")
    if record.status != "finished":
        return replace(cell, status="missing", reason=f"status {record.status!r}")
    try:
        run = read_run(path, record.seed)
        deviates = deviation(run.settings, suite.settings_of(record.scenario, record.algorithm))
        if deviates:
            raise DamagedError(f"settings.json: {deviates}")
        return replace(cell, status="finished", run=run)
    except DamagedError as error:
        return replace(cell, status="damaged", reason=str(error))


def read_run(path: Path, seed: int) -> Run:
    """Read one run's folder and check it against itself.

    Parameters
    ----------
    path : Path
        The folder.
    seed : int
        The seed that the run must have had.

    Raises
    ------
    DamagedError
        A file is missing or malformed; a round is missing or there twice; the last round of the
        settings has no evaluation of all clients; a mean is not that of its clients; or bytes
        do not add up to the summary's.
    """
    settings = read_record(RunSettings, path / "settings.json")
    lines = read_lines(path / "metrics.jsonl")
    summary = read_record(Summary, path / "summary.json")
    if settings.seed != seed:
        raise DamagedError(f"settings.json: seed is {settings.seed}, not {seed}")
    _check_rounds(lines, settings.num_rounds)
    last = lines[-1]
    members = [name for cluster in summary.clusters for name in cluster.members]
    clients = len(members) + len(summary.without_cluster) or settings.num_clients
    total = sum(_bytes_of(line, without=frozenset()) for line in lines)
    _check_bytes(total, clients, summary.bytes_per_client)
    training = list(accumulate(_bytes_of(line, without=EVALUATION_KINDS) for line in lines))
    evaluated = [(line, sent) for line, sent in zip(lines, training, strict=True) if line.all]
    history = list(_clusterings(lines))
    return Run(
        seen=_required(last.all, last.round),
        tuned=_scores(last.tuned, "tuned"),
        unseen=_scores(last.unseen, "unseen"),
        unseen_tuned=_scores(last.unseen_tuned, "unseen-tuned"),
        rand_index=summary.adjusted_rand_index,
        num_clusters=_inhabited(summary),
        best=_best_round(history, summary.true_groups),
        clients=clients,
        total_bytes=total / clients,
        training_bytes=training[-1] / clients,
        curve=Curve(
            tuple(line.round for line, _ in evaluated),
            tuple(mean_balanced_accuracy(_required(line.all, line.round)) for line, _ in evaluated),
            tuple(sent / clients for _, sent in evaluated),
        ),
        settings=json.loads(read_text(path / "settings.json")),
        clusters=history[-1][1] if history else {},
        true_groups=summary.true_groups,
        folder=path,
        by_unseen=settings.unseen_share > 0,
    )


def _clusterings(lines: Iterable[RoundLine]) -> Iterator[tuple[int, dict[str, int]]]:
    """Yield each client's cluster after every round in which one changed."""
    clusters: dict[str, int] = {}
    for line in lines:
        if line.moved:
            clusters = clusters | line.moved
            yield line.round, clusters


def _best_round(
    history: Iterable[tuple[int, Mapping[str, int]]], true_groups: Mapping[str, int]
) -> BestRound | None:
    found = [
        BestRound(number, index, len(set(clusters.values())))
        for number, clusters in history
        if (index := adjusted_rand_index(clusters, true_groups)) is not None
    ]
    return max(found, key=lambda each: each.rand_index, default=None)


def _inhabited(summary: Summary) -> int:
    """Count the clusters with members; models that nobody chose are none."""
    if not summary.clusters:
        return summary.num_clusters
    return sum(bool(cluster.members) for cluster in summary.clusters)


def _check_rounds(lines: list[RoundLine], num_rounds: int) -> None:
    """Refuse a run that did not reach its last round, so that no other can stand in for it."""
    rounds = [line.round for line in lines]
    if rounds != list(range(num_rounds + 1)):
        if not rounds or max(rounds) < num_rounds:
            last = max(rounds) if rounds else "none"
            raise DamagedError(f"metrics.jsonl: the last round is {last}, not {num_rounds}")
        raise DamagedError(f"metrics.jsonl: rounds are not 0, 1, .. {num_rounds}, each once")


def _check_bytes(total: int, clients: int, noted: int | None) -> None:
    if noted is not None and abs(total / clients - noted) > 1:
        raise DamagedError(
            f"metrics.jsonl adds up to {total / clients:.0f} bytes a client, "
            f"summary.json says {noted}"
        )


def _bytes_of(line: RoundLine, *, without: Iterable[str]) -> int:
    return sum(
        count
        for kinds in (line.bytes.down, line.bytes.up)
        for kind, count in kinds.items()
        if kind not in without
    )


def _required(evaluation: Evaluation | None, server_round: int) -> Scores:
    scores = _scores(evaluation, "all")
    if scores is None:
        raise DamagedError(f"metrics.jsonl: round {server_round} has no evaluation of all clients")
    return scores


def _scores(evaluation: Evaluation | None, scope: str) -> Scores | None:
    """Return the clients' figures by name, once their mean is what the run wrote."""
    if evaluation is None or not evaluation.by_client:
        return None
    scores = dict(sorted(evaluation.by_client.items()))
    own = evaluation.overall.balanced_accuracy
    recounted = mean_balanced_accuracy(scores)
    if own is None or abs(own - recounted) > MEAN_TOLERANCE:
        raise DamagedError(
            f"metrics.jsonl: {scope}: balanced accuracy is {own} overall, but its clients' mean "
            f"is {recounted}"
        )
    return scores


def _agreeing(cells: Mapping[CellKey, Cell], suite: Suite) -> dict[CellKey, Cell]:
    """Call a cell damaged that ran with other settings than those it is averaged or paired with.

    Seeds of an algorithm agree in all that is computed, algorithms of a scenario in their data.
    """
    checked = dict(cells)
    for scenario in suite.scenarios:
        for algorithm in suite.algorithms:
            _mark_odd(checked, [(scenario, algorithm, seed) for seed in suite.seeds])
        of_scenario = [key for key in checked if key[0] == scenario]
        # Where the suite itself gives an algorithm data of its own, its cells are no odd ones.
        own = {key for values in suite.algorithms.values() for key in values}
        _mark_odd(checked, of_scenario, only=DATA_SETTINGS - own)
    return checked


def _mark_odd(
    cells: dict[CellKey, Cell], keys: Iterable[CellKey], only: Collection[str] | None = None
) -> None:
    settings = {key: run.settings for key in keys if (run := cells[key].run) is not None}
    for key, why in odd_ones(settings, only=only).items():
        cells[key] = replace(cells[key], status="damaged", run=None, reason=f"settings.json: {why}")
