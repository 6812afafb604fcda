"""Group norm in the place of batch norm."""

from __future__ import annotations

import torch
from torch import nn

# Numbers of groups, of which the first that fits is taken (Wu and He, 2018: 32).
GROUPS = (32, 16, 8, 4, 2)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def with_group_norm(module: nn.Module) -> int:
    """Put group norm in the place of all batch norm inside a module; return how many there were.

    A group has two channels at least: of one alone nothing would be left where a map is one pixel.
    Weights and biases of the layers stay, and what they were called.
    """
    found = [(path, layer) for path, layer in module.named_modules() if _is_batch_norm(layer)]
    for path, layer in found:
        parent, _, attribute = path.rpartition(".")
        setattr(module.get_submodule(parent), attribute, _group_norm(layer))
    return len(found)


def _is_batch_norm(layer: nn.Module) -> bool:
    return isinstance(layer, BATCH_NORMS)


def _group_norm(layer: nn.Module) -> nn.GroupNorm:
    assert isinstance(layer, BATCH_NORMS)
    made = nn.GroupNorm(
        groups_of(layer.num_features), layer.num_features, layer.eps, affine=layer.affine
    )
    if layer.affine:
        with torch.no_grad():
            made.weight.copy_(layer.weight)
            made.bias.copy_(layer.bias)
    return made


def groups_of(channels: int) -> int:
    """Return the number of groups of so many channels: 32, or what of its halves fits.

    >>> groups_of(64), groups_of(24), groups_of(5)
    (32, 8, 1)
    """
    return next((g for g in GROUPS if channels % g == 0 and channels >= 2 * g), 1)
