"""Checkpoints: what a server needs to go on after its process died, on disk after every round."""

from feddag_flwr.checkpoints.checkpoint import AlgorithmState, Checkpoint
from feddag_flwr.checkpoints.continuation import check_continuation, lasting_settings
from feddag_flwr.checkpoints.errors import CheckpointError, CheckpointWriteError
from feddag_flwr.checkpoints.folder import CHECKPOINTS, CheckpointFolder, newest_checkpoint
from feddag_flwr.checkpoints.personal import personal_groups, personal_models

__all__ = [
    "CHECKPOINTS",
    "AlgorithmState",
    "Checkpoint",
    "CheckpointError",
    "CheckpointFolder",
    "CheckpointWriteError",
    "check_continuation",
    "lasting_settings",
    "newest_checkpoint",
    "personal_groups",
    "personal_models",
]
