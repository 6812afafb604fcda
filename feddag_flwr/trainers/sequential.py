"""One job after the other."""

from __future__ import annotations

from collections.abc import Sequence

from feddag_flwr.trainers import TrainJob, TrainResult


class SequentialTrainer:
    """Trains each job by itself, in their order."""

    batches = False

    def train(self, jobs: Sequence[TrainJob]) -> list[TrainResult]:
        """Run the jobs."""
        return [job.run() for job in jobs]


SEQUENTIAL = SequentialTrainer()
