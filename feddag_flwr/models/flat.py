"""Between a PyTorch module and its flat `Weights`, the form in which weights travel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from feddag_flwr.aggregation import Weights
from feddag_flwr.models.dual_encoder import ClusterModel


def _tensors(module: nn.Module) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return parameters, float buffers and integer buffers, each in module order."""
    persistent = module.state_dict()
    buffers = [buffer for name, buffer in module.named_buffers() if name in persistent]
    return (
        [parameter.data for parameter in module.parameters()],
        [buffer for buffer in buffers if buffer.is_floating_point()],
        [buffer for buffer in buffers if not buffer.is_floating_point()],
    )


def variance_places(module: nn.Module) -> NDArray[np.intp]:
    """Where in `Weights.buffers` running variances are, which no training makes negative."""
    persistent = module.state_dict()
    named = [
        (name, buffer)
        for name, buffer in module.named_buffers()
        if name in persistent and buffer.is_floating_point()
    ]
    marks = [
        np.full(buffer.numel(), name.rpartition(".")[2] == "running_var") for name, buffer in named
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
