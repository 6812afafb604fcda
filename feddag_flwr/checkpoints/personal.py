"""Models of single clients in an algorithm's memory, where those who use models find them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights
from feddag_flwr.checkpoints.checkpoint import AlgorithmState
from feddag_flwr.checkpoints.state_file import model_from_arrays, model_to_arrays

# What the name of a group begins with that holds a client's own model.
PERSONAL = "personal-"


def personal_groups(
    models: Mapping[str, Mapping[str, Weights]],
) -> dict[str, dict[str, NDArray[Any]]]:
    """Return the groups of memory that hold each client's own model."""
    return {f"{PERSONAL}{name}": model_to_arrays(model) for name, model in models.items()}


def personal_models(memory: AlgorithmState) -> dict[str, dict[str, Weights]]:
    """Return the models that `personal_groups` put into memory, by client."""
    return {
        group.removeprefix(PERSONAL): model_from_arrays(
            arrays, list(dict.fromkeys(name.rpartition(".")[0] for name in arrays))
        )
        for group, arrays in memory.arrays.items()
        if group.startswith(PERSONAL)
    }
