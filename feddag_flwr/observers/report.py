"""Writes ``report.html`` at the end, and notes when and with what a run worked."""

from __future__ import annotations

import logging

from feddag_flwr.observers import Observer, RoundOver, RunOver, RunStarted
from feddag_flwr.report import sessions
from feddag_flwr.run_folder import SESSIONS

logger = logging.getLogger("flwr")


class Report(Observer):
    """Writes the page; one that cannot be written costs a log line, and never the run."""

    def run_started(self, event: RunStarted) -> None:
        """Note the start, and by what the run judges."""
        self._folder, self._last = event.folder, event.first_round - 1
        self._folder.append_line(SESSIONS, sessions.started(event.first_round, event.metrics))

    def round_over(self, event: RoundOver) -> None:
        """Remember how far the run is."""
        self._last = event.server_round

    def run_over(self, event: RunOver) -> None:
        """Note the end, and write the page."""
        self._folder.append_line(SESSIONS, sessions.ended(self._last))
        try:
            from feddag_flwr.report.page import write_report  # Matplotlib takes a second

            path = write_report(self._folder.path, summary=event.summary)
        except Exception as error:  # whatever drawing raises, the run has ended well
            logger.error("the report could not be written: %s: %s", type(error).__name__, error)
            return
        print(f"report: {path}")
