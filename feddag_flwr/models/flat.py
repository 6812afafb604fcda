"""Between a PyTorch module and its flat `Weights`, the form in which weights travel."""

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
        "buffers": [(name, buffer) for name, buffer in buffers if buffer.is_floating_point()],
        "integers": [(name, buffer) for name, buffer in buffers if not buffer.is_floating_point()],
    }


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
    named = _named(module)
    return Weights(
        _joined(named["floats"], torch.float32),
        _joined(named["buffers"], torch.float32),
        _joined(named["integers"], torch.int64),
    )


def _joined(named: list[tuple[str, Tensor]], dtype: torch.dtype) -> NDArray[Any]:
    """Copy tensors into one flat array on the CPU."""
    if not named:
        return torch.zeros(0, dtype=dtype).numpy()
    return torch.cat([tensor.reshape(-1).to(dtype) for _, tensor in named]).cpu().numpy().copy()


def get_parts(model: ClusterModel) -> dict[str, Weights]:
    """Copy a cluster model's parts, by name."""
    return {part: get_weights(module) for part, module in model.parts().items()}


def set_weights(module: nn.Module, weights: Weights) -> None:
    """Copy flat vectors, of the lengths that the architecture needs, into a module, in place."""
    for kind, named in _named(module).items():
        values = torch.from_numpy(np.array(getattr(weights, kind)))
        sizes = [tensor.numel() for _, tensor in named]
        if tuple(values.shape) != (sum(sizes),):
            raise ValueError(
                f"weights have {kind} {tuple(values.shape)}, the model needs ({sum(sizes)},)"
            )
        with torch.no_grad():
            for (_, tensor), piece in zip(named, torch.split(values, sizes), strict=True):
                tensor.copy_(piece.reshape(tensor.shape))
