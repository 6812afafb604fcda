"""Which round's checkpoint somebody wants: the newest, that of a round, or the best round's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from feddag_flwr.checkpoints.checkpoint import Checkpoint, CheckpointError
from feddag_flwr.checkpoints.folder import CHECKPOINTS, CheckpointFolder, newest_checkpoint
from feddag_flwr.checkpoints.model_arrays import model_of

# What the groups of arrays that hold the best round's models begin with, and its note.
BEST_MODELS: Final = "best."
BEST_ROUND: Final = "best-round"

Choice = int | Literal["best"] | None


def chosen_checkpoint(run_folder: Path, choice: Choice = None) -> Checkpoint:
    """Read the checkpoint of a round, of the best round, or the newest one.

    Parameters
    ----------
    run_folder : Path
    choice : int, "best" or None
        None: the newest that is whole. "best": the models that did best on what clients hold back
        (settings ``keep``, ``patience``), as the newest one keeps them.

    Raises
    ------
    CheckpointError
        That round is not kept, with those that are; no round is known to be the best; or the
        checkpoint is damaged.
    """
    if choice is None:
        return newest_checkpoint(run_folder)
    if choice == "best":
        return _best(run_folder)
    folder = CheckpointFolder(run_folder / CHECKPOINTS, keep=1)
    rounds = folder.rounds()
    if choice not in rounds:
        kept = _in_words(rounds) if rounds else "none is"
        raise CheckpointError(
            f"round {choice} is not kept in {folder.path}: {kept} (settings keep-checkpoints and "
            "checkpoint-every)"
        )
    return folder.read(choice)


def _best(run_folder: Path) -> Checkpoint:
    newest = newest_checkpoint(run_folder)
    best = newest.notes.get(BEST_ROUND, {}).get("round", 0)
    if not best:
        raise CheckpointError(
            f"{run_folder}: no round is known to be the best: that needs keep = 'best-validation' "
            "or patience, and validation-share"
        )
    groups = newest.algorithm.arrays
    models = [model_of(groups[f"{BEST_MODELS}{z}"]) for z in range(newest.state.num_clusters)]
    state = replace(newest.state, models=models)
    return replace(newest, server_round=best, state=state)


def _in_words(rounds: Sequence[int]) -> str:
    """Write rounds: "kept are 3 to 5", or each where they do not follow one another."""
    follow = len(rounds) > 2 and rounds[-1] - rounds[0] == len(rounds) - 1
    named = f"{rounds[0]} to {rounds[-1]}" if follow else ", ".join(map(str, rounds))
    return f"kept are {named}" if len(rounds) > 1 else f"kept is {named}"
