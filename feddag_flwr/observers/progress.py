"""One line a round, for who watches the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from feddag_flwr.observers.observer import Observer, RoundOver, RunStarted

logger = logging.getLogger("flwr")


class Progress(Observer):
    """Logs one line a round: clusters, accuracy, seconds, time left.

    Flower streams the server's log line by line, so each round is a line of its own.
    """

    def run_started(self, event: RunStarted) -> None:
        """Start the clock."""
        self._rounds, self._first = event.num_rounds, event.first_round
        self._start = time.monotonic()

    def round_over(self, event: RoundOver) -> None:
        """Log the line of a finished round."""
        if event.server_round:
            self._show(event.server_round, event.state.num_clusters, event.line)

    def _show(self, server_round: int, num_clusters: int, line: Mapping[str, Any]) -> None:
        scope = "all" if "all" in line else "participants"
        overall = line[scope]["overall"]
        accuracy = overall.get("balanced-accuracy")
        seconds = (time.monotonic() - self._start) / (server_round - self._first + 1)
        logger.info(
            "round %*d/%d | %d clusters | balanced accuracy %s (%d clients%s) | %.1f s a round | "
            "%s left",
            len(str(self._rounds)),
            server_round,
            self._rounds,
            num_clusters,
            "   n/a" if accuracy is None else f"{100 * accuracy:5.1f} %",
            overall["clients"],
            "" if scope == "all" else ", model received",
            seconds,
            timedelta(seconds=round(seconds * (self._rounds - server_round))),
        )
