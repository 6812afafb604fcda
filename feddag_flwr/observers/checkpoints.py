"""Writes a checkpoint after the rounds that are due (setting ``checkpoint-every``)."""

from __future__ import annotations

import logging

from feddag_flwr.checkpoints import CHECKPOINTS, CheckpointFolder, CheckpointWriteError
from feddag_flwr.observers import Observer, RoundOver, RunStarted

logger = logging.getLogger("flwr")


class Checkpoints(Observer):
    """Keeps the last rounds; one that cannot be written costs a log line and never the round.

    A round without any valid reply has nothing new to keep: older checkpoints stay.
    """

    def run_started(self, event: RunStarted) -> None:
        """Open the folder of checkpoints."""
        self._every = event.settings.run.checkpoint_every
        self._folder = CheckpointFolder(
            event.folder.path / CHECKPOINTS, event.settings.run.keep_checkpoints
        )

    def round_over(self, event: RoundOver) -> None:
        """Write one if it is due."""
        if not event.counts or not (event.last or event.server_round % self._every == 0):
            return
        try:
            self._folder.write(event.checkpoint())
        except CheckpointWriteError as error:
            logger.error("%s; the run goes on, and would go back to an older one", error)
