"""Checkpoints: what a server needs to go on after its process died, on disk after every round."""

from feddag_flwr.checkpoints.checkpoint import (
    AlgorithmState,
    Checkpoint,
    CheckpointError,
    CheckpointWriteError,
)
from feddag_flwr.checkpoints.choice import Choice, chosen_checkpoint
from feddag_flwr.checkpoints.continuation import check_continuation, lasting_settings
from feddag_flwr.checkpoints.folder import CHECKPOINTS, CheckpointFolder, newest_checkpoint

__all__ = [
    "CHECKPOINTS",
    "AlgorithmState",
    "Checkpoint",
    "CheckpointError",
    "CheckpointFolder",
    "CheckpointWriteError",
    "Choice",
    "check_continuation",
    "chosen_checkpoint",
    "lasting_settings",
    "newest_checkpoint",
]
