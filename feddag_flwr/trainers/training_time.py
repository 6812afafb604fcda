"""How long a local training takes, said after its first batches where that is long."""

from __future__ import annotations

import logging
import math
import time
from datetime import timedelta

from feddag_flwr.trainers import TrainJob

logger = logging.getLogger("flwr")

# Seconds from which on a training is long.
LONG = 60.0
# Batches that are timed: the first one takes longer than others.
TIMED = 2


class TrainingTime:
    """Counts the batches of a local training; says in the log how long all of them take."""

    def __init__(self, job: TrainJob) -> None:
        config = job.config
        a_pass = math.ceil(len(job.samples) / config.batch_size)
        self._steps = config.steps or config.epochs * a_pass
        if job.private is not None:
            self._steps = job.private.plan.steps
        self._done = 0
        self._start = time.monotonic()

    def batch_done(self) -> None:
        """Note that a batch is done."""
        self._done += 1
        if self._done > TIMED:
            return
        seconds = time.monotonic() - self._start
        if self._done == TIMED or seconds > LONG:
            self._tell(seconds / self._done)

    def _tell(self, a_batch: float) -> None:
        if a_batch * self._steps > LONG:
            self._done = TIMED  # once is enough
            logger.info(
                "this local training takes about %s: %d batches, %.2g s each",
                timedelta(seconds=round(a_batch * self._steps)), self._steps, a_batch,
            )  # fmt: skip
