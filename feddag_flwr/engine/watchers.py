"""The observers of a run, told one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from feddag_flwr.observers import Observer
from feddag_flwr.registries import OBSERVERS

logger = logging.getLogger("flwr")


class Watchers:
    """Passes what happens on to the observers of some names, in their order."""

    def __init__(self, names: Sequence[str]) -> None:
        self._observers = [(name, OBSERVERS.make(name)) for name in names]

    def tell(self, what: Callable[[Observer], None]) -> None:
        """Call each observer.

        What one of the user's own raises costs a log line that names it; the project's own write
        what a run must not lose, so theirs ends it.
        """
        for name, observer in self._observers:
            try:
                what(observer)
            except Exception as error:
                if name in OBSERVERS.names:
                    raise
                logger.error("observer %s: %s: %s", name, type(error).__name__, error)
