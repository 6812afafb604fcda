"""What is done to training samples at random: one file each, and a line in `registries`."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor


class Augmentation(Protocol):
    """Changes samples at random, each by itself, into others of the same class."""

    def __call__(self, samples: Tensor, rng: np.random.Generator, /) -> Tensor:
        """Return changed copies of a batch, of the same shape.

        Images come as (n, channels, height, width), float32 in [0, 1]; `rng` is what chance comes
        from.
        """


def unchanged(samples: Tensor, rng: np.random.Generator, /) -> Tensor:
    """Return the samples as they are."""
    del rng
    return samples


NONE: Augmentation = unchanged
