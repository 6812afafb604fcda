"""Layers of encoders that are not trained."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from torch import nn

from feddag_flwr.models.dual_encoder import ClusterModel


def freeze(model: ClusterModel, beginnings: Collection[str]) -> None:
    """Freeze the parameters of all encoders whose names begin so, as does a layer's."""
    if beginnings:
        for encoder in _encoders(model):
            for name, parameter in encoder.named_parameters():
                parameter.requires_grad_(not is_frozen(name, beginnings))


def is_frozen(name: str, beginnings: Iterable[str]) -> bool:
    """Tell whether a parameter, ``0.weight`` for instance, is of one of these layers."""
    return any(name == layer or name.startswith(f"{layer}.") for layer in beginnings)


def unknown_layers(model: ClusterModel, beginnings: Iterable[str]) -> list[str]:
    """Return the beginnings with which no parameter's name of the primary encoder begins."""
    names = [name for name, _ in model.primary.named_parameters()]
    return [layer for layer in beginnings if not any(is_frozen(name, [layer]) for name in names)]


def _encoders(model: ClusterModel) -> list[nn.Module]:
    both = (model.primary, model.secondary)
    return [encoder for encoder in both if encoder is not None]
