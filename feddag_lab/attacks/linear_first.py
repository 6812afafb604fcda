"""The encoder of the README's example of an own model: its first layer is linear in the pixels."""

from __future__ import annotations

from math import prod

from torch import nn

FEATURES = 32


def build(shape: tuple[int, ...]) -> nn.Module:
    """Make the encoder for samples of a shape."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), FEATURES), nn.ReLU())
    encoder.feature_size = FEATURES  # type: ignore[assignment]
    return encoder
