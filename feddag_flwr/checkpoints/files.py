"""Between a `Checkpoint` and the contents of its files."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, cast
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from feddag_flwr.checkpoints.checkpoint import AlgorithmState, Checkpoint, DamagedError
from feddag_flwr.layout import ModelLayout
from feddag_flwr.state import Client, ServerState

Arrays = Mapping[str, NDArray[Any]]

STATE, NOTES = "state.json", "notes.json"
FOLDERS = ("models", "algorithm")
# Longest file name that is made of a group's or a client's name; file systems take 255 bytes.
MAX_STEM = 120
# Marks an array's name that safetensors would take for its own, or that bears the mark.
_MARK = "~"
_PLAIN = (str, int, float, type(None))  # a bool is an int


def encode(checkpoint: Checkpoint) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the content of each file of a checkpoint.

    `TypeError` where notes hold something that would not be read back as it was, or an array other
    things than booleans, integers and floats.
    """
    layout, algorithm = checkpoint.layout, checkpoint.algorithm
    notes = {
        "settings": checkpoint.settings,
        "run": checkpoint.notes,
        "algorithm": algorithm.notes,
        "arrays": {  # safetensors has an order of its own
            group: {"file": _file("algorithm", group), "names": list(arrays)}
            for group, arrays in algorithm.arrays.items()
        },
        "models": {client: _file("models", f"client-{client}") for client in algorithm.models},
    }
    _check_json(notes, NOTES)
    yield STATE, _text(_state_to_json(checkpoint.state) | {"layout": layout.to_json()})
    yield NOTES, _text(notes)
    for cluster, model in enumerate(checkpoint.state.models):
        yield _cluster_file(cluster), save(layout.named(model))
    for client, model in algorithm.models.items():
        yield notes["models"][client], save(layout.named(model))
    for group, arrays in algorithm.arrays.items():
        yield notes["arrays"][group]["file"], _pack(arrays)


def decode(server_round: int, read: Callable[[str], bytes], checksum: str) -> Checkpoint:
    """Make a checkpoint of its files, with arrays that may be written to.

    `read` gives the checked content of a path, `checksum` is the manifest's. `DamagedError` where a
    file's content is not what it should be.
    """
    path = STATE
    try:
        text = json.loads(read(STATE))
        layout = ModelLayout.from_json(text["layout"])
        path = NOTES
        notes = json.loads(read(NOTES))
        models = []
        for cluster in range(text["num-clusters"]):
            path = _cluster_file(cluster)
            models.append(layout.flat(load(read(path))))
        personal = {}
        for client, path in notes["models"].items():
            personal[client] = layout.flat(load(read(path)))
        groups = {}
        for group, listing in notes["arrays"].items():
            path = listing["file"]
            groups[group] = _unpack(read(path), listing["names"])
        path = f"{STATE} or {NOTES}"
        algorithm = AlgorithmState(groups, notes["algorithm"], personal)
        state = _state_from_json(text, models)
        return Checkpoint(
            server_round, notes["settings"], state, layout, algorithm, notes["run"], checksum
        )
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{path} is not a checkpoint's: {error!r}") from error


def _state_to_json(state: ServerState) -> dict[str, Any]:
    """Return all of a state but its models' numbers."""
    return {
        "class-names": list(state.class_names),
        "sample-shape": list(state.sample_shape),
        "sample-details": state.sample_details,
        "sample-scale": [list(row) for row in state.sample_scale],
        "round": state.server_round,
        "clients": [asdict(client) for client in state.clients.values()],
        "assignments": state.assignments,
        "num-clusters": state.num_clusters,
        "teachers": [list(row) for row in state.teachers],
    }


def _state_from_json(text: Mapping[str, Any], models: list[Any]) -> ServerState:
    shape = text["sample-shape"]
    # A user's own model is called with it.
    if not all(type(side) is int and side > 0 for side in shape):
        raise ValueError(f"sample-shape = {shape!r}")
    return ServerState(
        class_names=tuple(text["class-names"]),
        sample_shape=tuple(shape),
        sample_scale=tuple(tuple(row) for row in text["sample-scale"]),
        sample_details=text["sample-details"],
        clients={fields["name"]: Client(**fields) for fields in text["clients"]},
        server_round=text["round"],
        assignments=dict(text["assignments"]),
        models=models,
        teachers=tuple(tuple(row) for row in text["teachers"]),
    )


def _pack(arrays: Arrays) -> bytes:
    """Write arrays of any shape, under any names."""
    for name, values in arrays.items():
        if values.dtype.kind not in "biuf":
            raise TypeError(f"array {name!r} is {values.dtype}: no booleans, integers or floats")
    contiguous = {_marked(name): np.asarray(array, order="C") for name, array in arrays.items()}
    return save(contiguous)


def _unpack(content: bytes, names: list[str]) -> dict[str, NDArray[Any]]:
    arrays = load(content)
    return {name: arrays[_marked(name)].copy() for name in names}


def _marked(name: str) -> str:
    return _MARK + name if name.startswith(("__", _MARK)) else name


def _cluster_file(cluster: int) -> str:
    return _file("models", f"cluster-{cluster:03d}")


def _file(folder: str, name: str) -> str:
    """Return a path for what has any name.

    The name itself where it is short and plain; else its start and a digest of it, so that two
    never share a file, on a file system without capitals either.
    """
    stem = quote(name, safe="")
    if stem != name.lower() or not 0 < len(stem) <= MAX_STEM:
        stem = f"{stem[:MAX_STEM]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return f"{folder}/{stem}.safetensors"


def _text(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()


def _check_json(value: object, where: str) -> None:
    """Refuse what JSON would give back as something else: tuples, keys that are no text, NumPy."""
    if isinstance(value, dict):
        for key, inner in cast(dict[object, object], value).items():
            if not isinstance(key, str):
                raise TypeError(f"{where}: key {key!r} is no text")
            _check_json(inner, f"{where}: {key}")
    elif isinstance(value, list):
        for inner in cast(list[object], value):
            _check_json(inner, where)
    elif not isinstance(value, _PLAIN):
        raise TypeError(f"{where}: {type(value).__name__} is no JSON")
