"""One line a round, for who watches the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from feddag_flwr.metrics import Metric
from feddag_flwr.observers import Observer, RoundOver, RunStarted, metric_title

logger = logging.getLogger("flwr")


class Progress(Observer):
    """Logs one line a round: clusters, the first metric, seconds, time left.

    Flower streams the server's log line by line, so each round is a line of its own.
    """

    def run_started(self, event: RunStarted) -> None:
        """Start the clock."""
        self._rounds, self._first = event.num_rounds, event.first_round
        self._headline = event.metrics[0]
        self._start = time.monotonic()

    def round_over(self, event: RoundOver) -> None:
        """Log the line of a finished round."""
        if event.server_round:
            self._show(event.server_round, event.state.num_clusters, event.line)

    def _show(self, server_round: int, num_clusters: int, line: Mapping[str, Any]) -> None:
        scope = "all" if "all" in line else "participants"
        overall = line[scope]["overall"]
        seconds = (time.monotonic() - self._start) / (server_round - self._first + 1)
        logger.info(
            "round %*d/%d | %d clusters | %s %s (%d clients%s) | %.1f s a round | %s left",
            len(str(self._rounds)),
            server_round,
            self._rounds,
            num_clusters,
            metric_title(self._headline),
            _short(overall.get(self._headline.name), self._headline),
            overall["clients"],
            "" if scope == "all" else ", model received",
            seconds,
            timedelta(seconds=round(seconds * (self._rounds - server_round))),
        )


def _short(value: float | None, metric: Metric) -> str:
    if value is None:
        return "   n/a"
    return f"{100 * value:5.1f} %" if metric.percent else f"{value:7.4g}"
