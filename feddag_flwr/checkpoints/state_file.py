"""The server's state as JSON, and its models as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.state import Client, ServerState

KINDS = ("floats", "buffers", "integers")


def state_to_json(state: ServerState) -> dict[str, Any]:
    """Return all of a state but its models' numbers."""
    return {
        "class-names": list(state.class_names),
        "sample-shape": list(state.sample_shape),
        "sample-scale": [list(pair) for pair in state.sample_scale],
        "round": state.server_round,
        "clients": [asdict(client) for client in state.clients.values()],
        "assignments": state.assignments,
        "clusters": [list(parts) for parts in state.models],
        "teachers": [list(row) for row in state.teachers],
    }


def state_from_json(text: Mapping[str, Any], models: Sequence[dict[str, Weights]]) -> ServerState:
    """Return the state that `state_to_json` wrote, with its models."""
    channels, height, width = text["sample-shape"]
    return ServerState(
        class_names=tuple(text["class-names"]),
        sample_shape=(channels, height, width),
        sample_scale=tuple((mean, deviation) for mean, deviation in text["sample-scale"]),
        clients={each["name"]: Client(**each) for each in text["clients"]},
        server_round=text["round"],
        assignments=dict(text["assignments"]),
        models=list(models),
        sources=tuple(tuple(row) for row in text["teachers"]),
    )


def model_to_arrays(model: Mapping[str, Weights]) -> dict[str, NDArray[Any]]:
    """Name the arrays of a model: part and kind, as in ``primary.floats``."""
    return {
        f"{part}.{kind}": getattr(weights, kind)
        for part, weights in model.items()
        for kind in KINDS
    }


def model_from_arrays(
    arrays: Mapping[str, NDArray[Any]], parts: Sequence[str]
) -> dict[str, Weights]:
    """Return the model that `model_to_arrays` named, its parts in their order."""
    return {part: Weights(*(arrays[f"{part}.{kind}"] for kind in KINDS)) for part in parts}
