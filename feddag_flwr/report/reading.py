"""What a report reads from a run folder, all of it as far as it is there."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.checkpoints import CHECKPOINTS, CheckpointFolder
from feddag_flwr.metrics import DEFAULT_METRICS, load_metrics
from feddag_flwr.registries import METRICS
from feddag_flwr.report.json_values import (
    items,
    mapping,
    number,
    numbers,
    read_lines,
    read_object,
    texts,
    whole,
)
from feddag_flwr.report.shown import ShownMetric
from feddag_flwr.run_folder import METRICS as METRIC_LINES
from feddag_flwr.run_folder import PROXIMITY, SECONDS, SESSIONS, SETTINGS, SUMMARY

CLUSTERING = "clustering.json"
# Most clients whose matrices are read: of more, one of float64 takes over a hundred megabytes.
MAX_MATRIX = 4000
# What reading an .npz that was cut short, overwritten or made by something else comes to.
DAMAGE = (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error, NotImplementedError)
_SCOPES = ("participants", "all", "held-out")


class ReportError(ValueError):
    """There is nothing to report of."""


@dataclass(frozen=True)
class RoundFigures:
    """One line of ``metrics.jsonl``, without its figures of single clients.

    `overall` are means over all clients, `received` over those that took part, with the model they
    were sent; `by_cluster` are of `overall`, or else of `received`; `worst` is the headline of the
    worst client of all; `held_back` is of the clients' validation data. Bytes are of whole
    messages.
    """

    number: int
    clusters: int | None
    overall: Mapping[str, float]
    received: Mapping[str, float]
    by_cluster: Mapping[str, Mapping[str, float]]
    worst: float | None
    held_back: Mapping[str, float]
    down: float
    up: float
    replied: int | None
    failed: tuple[str, ...]
    drifted: tuple[str, ...]
    quarantined: tuple[str, ...]


@dataclass
class Tally:
    """Of each client: its last figures, and in how many rounds what befell it."""

    figures: dict[str, Mapping[str, float]] = field(default_factory=dict)
    judged_in: dict[str, int] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    placings: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    drifted: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)
    harmful: Counter[str] = field(default_factory=Counter)
    teachers: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Matrices:
    """Arrays of ``proximity.npz``: clients, counts (N, C) or None, and matrices (N, N) by name."""

    clients: list[str]
    counts: NDArray[Any] | None
    by_name: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class RunRecord:
    """A run folder; what it has not is None or empty, and `faults` say what could not be read."""

    path: Path
    settings: Mapping[str, Any]
    metrics: tuple[ShownMetric, ...]
    rounds: list[RoundFigures]
    tally: Tally
    seconds: Mapping[int, Mapping[str, float]]
    sessions: list[dict[str, Any]]
    summary: Mapping[str, Any] | None
    clustering: Mapping[str, Any]
    matrices: Matrices | None
    state: Mapping[str, Any]
    checkpoints: list[int]
    faults: list[str]

    @property
    def headline(self) -> ShownMetric:
        """The metric that comes first."""
        return self.metrics[0]

    @property
    def last_round(self) -> int:
        """The last round that is over; 0 where none is."""
        return self.rounds[-1].number if self.rounds else 0

    @property
    def planned(self) -> int | None:
        """How many rounds the run was to have."""
        return whole(self.settings.get("num-rounds"))

    @property
    def assignments(self) -> dict[str, int]:
        """Each client's cluster at the end, or as far as is known."""
        if self.summary is not None:
            return {
                name: cluster
                for row in items(self.summary.get("clusters"))
                if (cluster := whole(mapping(row).get("cluster"))) is not None
                for name in texts(mapping(row).get("members"))
            }
        return self.tally.places or self.first_assignments

    @property
    def first_assignments(self) -> dict[str, int]:
        """Each client's cluster as the clustering left it."""
        found = mapping(self.clustering.get("assignments"))
        return {name: z for name, each in found.items() if (z := whole(each)) is not None}

    @property
    def teachers(self) -> list[tuple[int, ...]]:
        """From which clusters each learns, at the end or as far as is known; may be empty."""
        rows = self.tally.teachers or items(self.clustering.get("teachers"))
        if self.summary is not None:
            clusters = items(self.summary.get("clusters"))
            rows = [mapping(row).get("teachers") for row in clusters]
        found = [tuple(z for each in items(row) if (z := whole(each)) is not None) for row in rows]
        return found if any(found) else []

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, from a checkpoint; may be empty."""
        return list(texts(self.state.get("class-names")))


def read_run(folder: Path) -> RunRecord:
    """Read a run folder.

    Raises
    ------
    ReportError
        It is no folder, or has none of a run's files.
    """
    if not any((folder / name).is_file() for name in (SETTINGS, METRIC_LINES, SUMMARY)):
        raise ReportError(f"{folder} is no run folder: it has no {SETTINGS}")
    faults: list[str] = []
    settings = read_object(folder / SETTINGS, faults)
    if settings is None:
        faults.append(f"{SETTINGS} is missing: settings are not known.")
    sessions = list(read_lines(folder / SESSIONS, faults))
    lines = read_lines(folder / METRIC_LINES, faults)
    metrics, tally, by_round = _metrics(settings or {}, sessions), Tally(), {}
    for line in lines:
        if (server_round := whole(line.get("round"))) is not None:
            by_round[server_round] = _round_figures(server_round, line, metrics[0])
            _note(tally, server_round, line)
    seconds = {
        server_round: {phase: s for phase, s in numbers(line).items() if phase != "round"}
        for line in read_lines(folder / SECONDS, faults)
        if (server_round := whole(line.get("round"))) is not None
    }
    checkpoints = CheckpointFolder(folder / CHECKPOINTS, 1).rounds()
    return RunRecord(
        path=folder,
        settings=settings or {},
        metrics=metrics,
        rounds=[by_round[server_round] for server_round in sorted(by_round)],
        tally=tally,
        seconds=dict(sorted(seconds.items())),
        sessions=sessions,
        summary=read_object(folder / SUMMARY, faults),
        clustering=read_object(folder / CLUSTERING, faults) or {},
        matrices=_matrices(folder / PROXIMITY, faults),
        state=_state(folder, checkpoints),
        checkpoints=checkpoints,
        faults=faults,
    )


def _metrics(
    settings: Mapping[str, Any], sessions: list[dict[str, Any]]
) -> tuple[ShownMetric, ...]:
    """Return the run's metrics: as it noted them, else those of the settings.

    Nothing that a folder names is imported, but the project's own metrics. Of others that the run
    did not note the values are shown as they are, and the larger one counts as the better.
    """
    for session in reversed(sessions):
        noted = [mapping(each) for each in items(session.get("metrics"))]
        if noted and all(isinstance(each.get("name"), str) for each in noted):
            return tuple(
                ShownMetric(
                    each["name"], each.get("percent") is True, each.get("higher-is-better") is True
                )
                for each in noted
            )
    text = settings.get("metrics")
    names = text.split(",") if isinstance(text, str) else DEFAULT_METRICS
    return tuple(_known_metric(name.strip()) for name in names)


def _known_metric(name: str) -> ShownMetric:
    if name not in METRICS.names:
        return ShownMetric(name.rpartition(":")[2], False, True)
    [metric] = load_metrics([name])
    return ShownMetric(metric.name, metric.percent, metric.higher_is_better)


def _round_figures(
    server_round: int, line: Mapping[str, Any], headline: ShownMetric
) -> RoundFigures:
    everyone, received = (mapping(line.get(scope)) for scope in ("all", "participants"))
    by_client = mapping(everyone.get("by-client")).values()
    values = [v for each in by_client if (v := numbers(each).get(headline.name)) is not None]
    worst = min if headline.higher_is_better else max
    by_cluster = mapping((everyone or received).get("by-cluster"))
    sent = mapping(line.get("bytes-sent") or line.get("bytes"))
    return RoundFigures(
        number=server_round,
        clusters=whole(line.get("clusters")),
        overall=numbers(everyone.get("overall")),
        received=numbers(received.get("overall")),
        by_cluster={cluster: numbers(of) for cluster, of in by_cluster.items()},
        worst=worst(values, default=None),
        held_back=numbers(mapping(line.get("validation")).get("overall")),
        down=sum(numbers(sent.get("down")).values()),
        up=sum(numbers(sent.get("up")).values()),
        replied=whole(line.get("replied")),
        failed=texts(line.get("failed")),
        drifted=texts(line.get("drifted")),
        quarantined=texts(line.get("quarantined")),
    )


def _note(tally: Tally, server_round: int, line: Mapping[str, Any]) -> None:
    """Take note of what a line says of single clients."""
    for scope in _SCOPES:  # what is said of all clients is of the round's end, and comes last
        for name, figures in mapping(mapping(line.get(scope)).get("by-client")).items():
            tally.figures[name], tally.judged_in[name] = numbers(figures), server_round
    for name, cluster in mapping(line.get("moved")).items():
        if (known := whole(cluster)) is not None:
            tally.places[name] = known
            tally.placings[name] += 1
    tally.failed.update(texts(line.get("failed")))
    tally.drifted.update(texts(line.get("drifted")))
    tally.quarantined.update(texts(line.get("quarantined")))
    for name, verdict in mapping(line.get("judged")).items():
        said = numbers(verdict)
        tally.harmful[name] += 2 * said.get("worse", 0.0) > said.get("of", 0.0)
    tally.teachers = items(line.get("teachers")) or tally.teachers


def _matrices(path: Path, faults: list[str]) -> Matrices | None:
    """Read ``proximity.npz``; matrices of more than `MAX_MATRIX` clients stay unread."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            clients = [str(name) for name in arrays["clients"].tolist()]
            counts = arrays["counts"] if "counts" in arrays.files else None
            if counts is not None and (counts.ndim != 2 or len(counts) != len(clients)):
                raise ValueError(f"counts of shape {counts.shape} for {len(clients)} clients")
            square = (len(clients), len(clients))
            many = len(clients) > MAX_MATRIX
            names = [] if many else [n for n in arrays.files if n not in ("clients", "counts")]
            found = {name: arrays[name] for name in names}
    except FileNotFoundError:
        return None
    except DAMAGE as error:
        faults.append(f"{path.name} cannot be read ({type(error).__name__}) and is passed over.")
        return None
    if many:
        faults.append(f"Matrices of more than {MAX_MATRIX:,} clients are not drawn.")
    by_name = {
        name: np.asarray(array, float) for name, array in found.items()
        if array.shape == square and array.dtype.kind in "fiub"
    }  # fmt: skip
    return Matrices(clients, counts, by_name)


def _state(folder: Path, checkpoints: list[int]) -> Mapping[str, Any]:
    """Read the clients and classes of the newest checkpoint that has them; its models are not."""
    for server_round in reversed(checkpoints):
        path = folder / CHECKPOINTS / f"round-{server_round:06d}" / "state.json"
        try:
            return mapping(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError):
            continue
    return {}


def samples_of(run: RunRecord) -> dict[str, tuple[int | None, int | None]]:
    """Return each client's training and test samples, where a checkpoint has them."""
    rows = (mapping(each) for each in items(run.state.get("clients")))
    return {
        row["name"]: (whole(row.get("train_samples")), whole(row.get("test_samples")))
        for row in rows
        if isinstance(row.get("name"), str)
    }


def by_metric(run: RunRecord, values: Mapping[str, Any]) -> list[float | None]:
    """Return the values of the run's metrics in an object, in their order."""
    return [number(values.get(metric.name)) for metric in run.metrics]
