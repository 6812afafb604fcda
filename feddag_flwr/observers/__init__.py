"""What watches a run from outside (setting ``observers``): files, progress, trackers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feddag_flwr.checkpoints import Checkpoint
from feddag_flwr.metrics import Metric
from feddag_flwr.run_folder import RunFolder
from feddag_flwr.settings import Settings
from feddag_flwr.state import ServerState


@dataclass(frozen=True)
class RunStarted:
    """A run is about to do its first round, or goes on.

    `metrics` are those in use, the headline first; `first_round` comes next of `num_rounds` in all.
    """

    settings: Settings
    folder: RunFolder
    metrics: Sequence[Metric]
    first_round: int
    num_rounds: int


@dataclass(frozen=True)
class RoundOver:
    """A round is over; round 0 is all that comes before the first.

    Attributes
    ----------
    line : mapping
        What ``metrics.jsonl`` holds of it: metrics, who took part, bytes.
    state : ServerState
        To be read, not changed.
    last : bool
        Whether the run ends with it.
    counts : bool
        Whether somebody sent a valid reply, or nobody had to.
    checkpoint : callable
        Makes what a resumed run needs.
    """

    server_round: int
    line: Mapping[str, Any]
    state: ServerState
    last: bool
    counts: bool
    checkpoint: Callable[[], Checkpoint]


@dataclass(frozen=True)
class RunOver:
    """All rounds are done; `summary` is what ``summary.json`` holds."""

    summary: Mapping[str, Any]


class Observer:
    """Told of a run's start, rounds and end; by default it does nothing.

    Made once a run, without arguments. One that raises costs a log line, unless it is one of the
    project's own; the run goes on.
    """

    def run_started(self, event: RunStarted) -> None:
        """Prepare; called once, before any other."""

    def round_over(self, event: RoundOver) -> None:
        """Take note of a round."""

    def round_timed(self, server_round: int, seconds: Mapping[str, float]) -> None:
        """Take note of how long the phases of a round took, observers included."""

    def run_over(self, event: RunOver) -> None:
        """Take note of the end; not called where a run stops for want of clients."""


def metric_title(metric: Metric) -> str:
    """Return a metric's name as people read it."""
    return metric.name.replace("-", " ")
