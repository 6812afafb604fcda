"""What can be wrong with checkpoints."""

from __future__ import annotations


class CheckpointError(RuntimeError):
    """There is no checkpoint that can be used."""


class CheckpointWriteError(CheckpointError):
    """A checkpoint could not be written: disk full, no permission; older ones are untouched."""


class DamagedError(CheckpointError):
    """One checkpoint is torn, truncated, changed or of another kind; says which file and how."""
