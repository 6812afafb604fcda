"""Between a PyTorch module and its flat `Weights`, the form in which weights travel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from feddag_flwr.aggregation import Weights
from feddag_flwr.layout import ModelLayout, TensorSpec
from feddag_flwr.models.dual_encoder import ClusterModel


def _named(module: nn.Module) -> dict[str, list[tuple[str, Tensor]]]:
    """Return parameters, float buffers and integer buffers with their names, in module order."""
    persistent = module.state_dict()
    buffers = [(name, buffer) for name, buffer in module.named_buffers() if name in persistent]
    return {
        "floats": [(name, parameter.data) for name, parameter in module.named_parameters()],
        "buffers": [each for each in buffers if each[1].is_floating_point()],
        "integers": [each for each in buffers if not each[1].is_floating_point()],
    }


def _tensors(module: nn.Module) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return parameters, float buffers and integer buffers, each in module order."""
    floats, buffers, integers = (
        [tensor for _, tensor in tensors] for tensors in _named(module).values()
    )
    return floats, buffers, integers


def layout_of(model: ClusterModel) -> ModelLayout:
    """Return which tensors, under which names, the flat vectors of a model's parts are made of."""
    return ModelLayout({part: _specs(module) for part, module in model.parts().items()})


def _specs(module: nn.Module) -> tuple[TensorSpec, ...]:
    kept = module.state_dict(keep_vars=True)  # with all names of a tensor that layers share
    return tuple(
        TensorSpec(
            name,
            kind,
            tuple(tensor.shape),
            _numpy_type(tensor.dtype),
            tuple(other for other in kept if other != name and kept[other] is kept[name]),
        )
        for kind, tensors in _named(module).items()
        for name, tensor in tensors
    )


def _numpy_type(dtype: torch.dtype) -> str:
    """Name a type as NumPy does; float32 for those that it does not have, such as bfloat16."""
    try:
        return torch.empty(0, dtype=dtype).numpy().dtype.name
    except TypeError:
        return "float32"


def variance_places(module: nn.Module) -> NDArray[np.intp]:
    """Where in `Weights.buffers` running variances are, which no training makes negative."""
    marks = [
        np.full(buffer.numel(), name.rpartition(".")[2] == "running_var")
        for name, buffer in _named(module)["buffers"]
    ]
    return np.flatnonzero(np.concatenate(marks)) if marks else np.zeros(0, dtype=np.intp)


def parameter_count(module: nn.Module) -> int:
    """Count the trainable coordinates, the length of `Weights.floats`."""
    return sum(parameter.numel() for parameter in module.parameters())


def get_weights(module: nn.Module) -> Weights:
    """Copy a module's parameters and buffers into flat vectors.

    Half and double precision become float32; booleans become 0 and 1.
    """
    floats, buffers, integers = _tensors(module)
    return Weights(
        _joined(floats, torch.float32),
        _joined(buffers, torch.float32),
        _joined(integers, torch.int64),
    )


def _joined(tensors: list[Tensor], dtype: torch.dtype) -> NDArray[Any]:
    """Copy tensors into one flat array on the CPU."""
    if not tensors:
        return torch.zeros(0, dtype=dtype).numpy()
    return torch.cat([tensor.reshape(-1).to(dtype) for tensor in tensors]).cpu().numpy().copy()


def get_parts(model: ClusterModel) -> dict[str, Weights]:
    """Copy a cluster model's parts, by name."""
    return {part: get_weights(module) for part, module in model.parts().items()}


def set_weights(module: nn.Module, weights: Weights) -> None:
    """Copy flat vectors into a module's parameters and buffers, in place.

    Raises
    ------
    ValueError
        The vectors are not as long as this architecture needs.
    """
    floats, buffers, integers = _tensors(module)
    _fill(floats, torch.from_numpy(np.array(weights.floats)), "floats")
    _fill(buffers, torch.from_numpy(np.array(weights.buffers)), "buffers")
    _fill(integers, torch.from_numpy(np.array(weights.integers)), "integers")


def _fill(tensors: list[Tensor], values: Tensor, kind: str) -> None:
    needed = sum(tensor.numel() for tensor in tensors)
    if tuple(values.shape) != (needed,):
        raise ValueError(f"weights have {kind} {tuple(values.shape)}, the model needs ({needed},)")
    start = 0
    with torch.no_grad():
        for tensor in tensors:
            piece = values[start : start + tensor.numel()]
            tensor.copy_(piece.reshape(tensor.shape))
            start += tensor.numel()
