"""From the setting ``algorithm`` to a strategy, by `feddag_flwr.algorithm_names`."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from feddag_flwr.algorithm_names import ALGORITHMS
from feddag_flwr.checkpoints import Checkpoint, check_continuation, newest_checkpoint
from feddag_flwr.registry import Registry
from feddag_flwr.run_folder import RunFolder
from feddag_flwr.settings import Settings
from feddag_flwr.strategies.clustered import ClusteredStrategy


def build_strategy(
    settings: Settings, folder: RunFolder, checkpoint: Checkpoint | None = None
) -> ClusteredStrategy:
    """Make the strategy that the settings name, perhaps to go on from a checkpoint."""
    return strategy_class(settings.algorithm)(settings, folder, checkpoint)


def open_run(settings: Settings) -> ClusteredStrategy:
    """Make the strategy of a new run, or of the stopped one that the setting ``resume`` names.

    Raises
    ------
    SettingsError
        ``resume`` names no run folder, or the stopped run had other settings.
    CheckpointError
        The stopped run has no checkpoint that can be used.
    RunFolderInUseError
        The run to resume is not stopped.
    FileExistsError
        A run of that name has been there already.
    """
    if not settings.resume:
        return build_strategy(settings, RunFolder(settings))
    folder = RunFolder.of_stopped_run(settings)
    try:
        checkpoint = newest_checkpoint(folder.path)
        check_continuation(checkpoint.settings, settings.to_run_config(), checkpoint.server_round)
        folder.go_back(checkpoint.server_round)
        return build_strategy(settings, folder, checkpoint)
    except BaseException:
        folder.release()
        raise


def strategy_class(algorithm: str) -> type[ClusteredStrategy]:
    """Return the class of an algorithm in `ALGORITHMS`, or of a user's own."""
    if algorithm not in ALGORITHMS:
        return cast(type[ClusteredStrategy], Registry("algorithm", {}).load(algorithm))
    entry = ALGORITHMS[algorithm]
    module = import_module(f"feddag_flwr.strategies.{entry.module}")
    return cast(type[ClusteredStrategy], getattr(module, entry.strategy))
