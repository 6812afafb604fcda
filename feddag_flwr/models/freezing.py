"""Layers of encoders that are not trained."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from torch import nn

from feddag_flwr.models.dual_encoder import ClusterModel


def freeze(model: ClusterModel, beginnings: Collection[str]) -> None:
    """Freeze the parameters of all encoders whose names begin so, as does a layer's."""
    for encoder in _encoders(model):
        freeze_encoder(encoder, beginnings)


def freeze_encoder(encoder: nn.Module, beginnings: Collection[str]) -> None:
    """Do the same in one encoder."""
    if beginnings:
        for name, parameter in encoder.named_parameters():
            parameter.requires_grad_(not is_frozen(name, beginnings))


def is_frozen(name: str, beginnings: Iterable[str]) -> bool:
    """Tell whether a parameter, ``0.weight`` for instance, is of one of these layers."""
    return any(name == layer or name.startswith(f"{layer}.") for layer in beginnings)


def unknown_layers(model: ClusterModel, beginnings: Iterable[str]) -> list[str]:
    """Return the beginnings with which no parameter's name of the primary encoder begins."""
    names = [name for name, _ in model.primary.named_parameters()]
    return [layer for layer in beginnings if not any(is_frozen(name, [layer]) for name in names)]


def train_mode(trained: nn.Module) -> None:
    """Put modules into training mode, but those all of whose own parameters are frozen.

    Batch normalisation that is not trained keeps its running means as well.
    """
    trained.train()
    for module in trained.modules():
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def _encoders(model: ClusterModel) -> list[nn.Module]:
    both = (model.primary, model.secondary)
    return [encoder for encoder in both if encoder is not None]
