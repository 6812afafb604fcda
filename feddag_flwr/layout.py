"""Which named tensors flat `Weights` are made of, in pure NumPy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.aggregation import Weights

_Number = TypeVar("_Number", np.float32, np.int64)

# The vectors of `Weights`.
KINDS = ("floats", "buffers", "integers")


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a part of a model, as PyTorch names and NumPy types it.

    Attributes
    ----------
    name : str
        Within the part, for example ``0.weight``.
    kind : {"floats", "buffers", "integers"}
        The vector of `Weights` that holds its numbers.
    aliases : tuple of str
        Other names of the same tensor, where layers share it.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelLayout:
    """The tensors of each part of a model, in the order in which the flat vectors hold them."""

    parts: dict[str, tuple[TensorSpec, ...]]

    def named(self, model: Mapping[str, Weights]) -> dict[str, NDArray[Any]]:
        """Cut flat vectors into tensors, named as in the state dict of the whole model.

        A tensor has its module's type where that holds the numbers exactly; else it stays float32
        or int64, so that nothing is rounded: means over clients of half precision, for example. A
        `ValueError` says that a part is unknown, or its vectors have other lengths.
        """
        arrays: dict[str, NDArray[Any]] = {}
        for part, weights in model.items():
            if part not in self.parts:
                raise ValueError(f"the model has no part {part!r}; it has {', '.join(self.parts)}")
            start = dict.fromkeys(KINDS, 0)
            for spec in self.parts[part]:
                stop = start[spec.kind] + math.prod(spec.shape)
                values = getattr(weights, spec.kind)[start[spec.kind] : stop]
                start[spec.kind] = stop
                for name in (spec.name, *spec.aliases):
                    arrays[f"{part}.{name}"] = _typed(values, spec.dtype).reshape(spec.shape)
            if tuple(start.values()) != weights.sizes:
                raise ValueError(
                    f"part {part!r} has vectors of {weights.sizes} numbers, "
                    f"its tensors hold {tuple(start.values())}"
                )
        return arrays

    def flat(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Weights]:
        """Join named tensors to new flat vectors, for each part that has a tensor there.

        A `ValueError` names a tensor of such a part that is missing or of another shape.
        """
        model = {}
        for part, specs in self.parts.items():
            tensors = [arrays.get(f"{part}.{spec.name}") for spec in specs]
            if all(values is None for values in tensors):
                continue
            vectors: dict[str, list[NDArray[Any]]] = {kind: [] for kind in KINDS}
            for spec, values in zip(specs, tensors, strict=True):
                if values is None or values.shape != spec.shape:
                    raise ValueError(f"there is no {part}.{spec.name} of shape {spec.shape}")
                vectors[spec.kind].append(values.reshape(-1))
            model[part] = Weights(
                _joined(vectors["floats"], np.float32),
                _joined(vectors["buffers"], np.float32),
                _joined(vectors["integers"], np.int64),
            )
        return model

    def to_json(self) -> dict[str, Any]:
        """Write the layout as JSON."""
        return {part: [asdict(spec) for spec in specs] for part, specs in self.parts.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelLayout:
        """Read what `to_json` wrote."""
        return cls(
            {
                part: tuple(
                    TensorSpec(**spec | {key: tuple(spec[key]) for key in ("shape", "aliases")})
                    for spec in specs
                )
                for part, specs in values.items()
            }
        )


def _joined(vectors: list[NDArray[Any]], dtype: type[_Number]) -> NDArray[_Number]:
    return np.concatenate([np.zeros(0, dtype), *vectors], dtype=dtype)


def _typed(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return numbers in a type, if it holds all of them exactly; else as they are."""
    with np.errstate(over="ignore"):
        typed: NDArray[Any] = values.astype(dtype, copy=False)
    same = np.array_equal(typed.astype(values.dtype), values, equal_nan=values.dtype.kind == "f")
    return typed if same else values
