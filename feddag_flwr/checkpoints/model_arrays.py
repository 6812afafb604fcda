"""A model as one group of arrays, as checkpoints keep those that are not a cluster's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights

KINDS: Final = ("floats", "buffers", "integers")


def arrays_of(model: Mapping[str, Weights]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a model, named ``primary.floats`` and the like."""
    return {
        f"{part}.{kind}": getattr(weights, kind)
        for part, weights in model.items()
        for kind in KINDS
    }


def model_of(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Weights]:
    """Return the model whose arrays these are."""
    vectors: dict[str, dict[str, NDArray[Any]]] = {}
    for name, values in arrays.items():
        part, _, kind = name.rpartition(".")
        vectors.setdefault(part, {})[kind] = values
    return {part: Weights(**its) for part, its in vectors.items()}
