"""Between a `Checkpoint` and the contents of its files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from feddag_flwr.checkpoints.array_files import Arrays, arrays_from_bytes, file_stem
from feddag_flwr.checkpoints.checkpoint import AlgorithmState, Checkpoint
from feddag_flwr.checkpoints.errors import DamagedError
from feddag_flwr.checkpoints.state_file import (
    model_from_arrays,
    model_to_arrays,
    state_from_json,
    state_to_json,
)

STATE, NOTES = "state.json", "notes.json"
_PLAIN = (str, int, float, type(None))  # a bool is an int


def texts_of(checkpoint: Checkpoint) -> dict[str, bytes]:
    """Return the JSON files of a checkpoint, by path.

    Raises
    ------
    TypeError
        Notes hold something that would not be read back as it was.
    """
    notes = {
        "settings": checkpoint.settings,
        "run": checkpoint.notes,
        "memory": checkpoint.memory.notes,
    }
    _check_json(notes, NOTES)
    return {STATE: _text(state_to_json(checkpoint.state)), NOTES: _text(notes)}


def arrays_of(checkpoint: Checkpoint) -> dict[str, Arrays]:
    """Return the safetensors files of a checkpoint, by path."""
    models = {
        _model_file(cluster): model_to_arrays(model)
        for cluster, model in enumerate(checkpoint.state.models)
    }
    memory = {_group_file(group): its for group, its in checkpoint.memory.arrays.items()}
    return {**models, **memory}


def groups_of(checkpoint: Checkpoint) -> dict[str, str]:
    """Return the file of each group of the algorithm's memory."""
    return {group: _group_file(group) for group in checkpoint.memory.arrays}


def checkpoint_of(
    server_round: int, groups: Mapping[str, str], read: Callable[[str], bytes], checksum: str
) -> Checkpoint:
    """Make a checkpoint of its files.

    Parameters
    ----------
    server_round : int
        The round that the manifest names.
    groups : mapping of str to str
        The file of each group of memory.
    read : callable
        From a path to the checked content of that file.
    checksum : str
        Of the manifest.

    Raises
    ------
    DamagedError
        A file's content is not what it should be.
    """

    def arrays(path: str) -> dict[str, Any]:
        content = read(path)
        try:
            return arrays_from_bytes(content)
        except DamagedError as error:
            raise DamagedError(f"{path}: {error}") from error

    try:
        text, notes = json.loads(read(STATE)), json.loads(read(NOTES))
        models = [
            model_from_arrays(arrays(_model_file(cluster)), parts)
            for cluster, parts in enumerate(text["clusters"])
        ]
        memory = {group: arrays(path) for group, path in groups.items()}
        return Checkpoint(
            server_round,
            notes["settings"],
            state_from_json(text, models),
            AlgorithmState(memory, notes["memory"]),
            notes["run"],
            checksum,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{STATE} or {NOTES} is not a checkpoint's: {error!r}") from error


def _model_file(cluster: int) -> str:
    return f"models/cluster-{cluster:03d}.safetensors"


def _group_file(group: str) -> str:
    return f"memory/{file_stem(group)}.safetensors"


def _text(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()


def _check_json(value: object, where: str) -> None:
    """Refuse what JSON would give back as something else: tuples, keys that are no text, NumPy."""
    if isinstance(value, dict):
        for key, each in cast(dict[object, object], value).items():
            if not isinstance(key, str):
                raise TypeError(f"{where}: key {key!r} is no text")
            _check_json(each, f"{where}: {key}")
    elif isinstance(value, list):
        for each in cast(list[object], value):
            _check_json(each, where)
    elif not isinstance(value, _PLAIN):
        raise TypeError(f"{where}: {type(value).__name__} is no JSON")
