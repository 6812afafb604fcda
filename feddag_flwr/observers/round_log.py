"""Writes ``metrics.jsonl`` and ``seconds.jsonl``, one line a round."""

from __future__ import annotations

from collections.abc import Mapping

from feddag_flwr.observers import Observer, RoundOver, RunStarted
from feddag_flwr.run_folder import METRICS, SECONDS


class RoundLog(Observer):
    """Appends a line to each of the two files when a round is over."""

    def run_started(self, event: RunStarted) -> None:
        """Remember the folder."""
        self._folder = event.folder

    def round_over(self, event: RoundOver) -> None:
        """Write the round's metrics."""
        self._folder.append_line(METRICS, event.line)

    def round_timed(self, server_round: int, seconds: Mapping[str, float]) -> None:
        """Write the seconds of the round's phases."""
        self._folder.append_line(SECONDS, {"round": server_round, **seconds})
