"""The observers of a run, told one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from feddag_flwr.observers import OBSERVERS, Observer, RoundOver, RunOver, RunStarted

logger = logging.getLogger("flwr")


class Watchers(Observer):
    """Passes what happens on to observers, in their order.

    What one of the user's own raises costs a log line that names it; the project's own write what a
    run must not lose, so theirs ends it.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._observers: list[tuple[str, Observer]] = [
            (name, OBSERVERS.load(name)()) for name in names
        ]

    def run_started(self, event: RunStarted) -> None:
        """Tell all of the start."""
        self._tell(lambda observer: observer.run_started(event))

    def round_over(self, event: RoundOver) -> None:
        """Tell all of a round."""
        self._tell(lambda observer: observer.round_over(event))

    def round_timed(self, server_round: int, seconds: Mapping[str, float]) -> None:
        """Tell all of a round's seconds."""
        self._tell(lambda observer: observer.round_timed(server_round, seconds))

    def run_over(self, event: RunOver) -> None:
        """Tell all of the end."""
        self._tell(lambda observer: observer.run_over(event))

    def _tell(self, what: Callable[[Observer], None]) -> None:
        for name, observer in self._observers:
            try:
                what(observer)
            except Exception as error:
                if name in OBSERVERS.names:
                    raise
                logger.error("observer %s: %s: %s", name, type(error).__name__, error)
