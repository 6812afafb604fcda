"""What local training minimises: one file each, and a line in `feddag_flwr.registries`."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Objective(Protocol):
    """A loss of single samples, minimised on average.

    An objective keeps nothing from one call to the next.
    """

    def sample_losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each sample, shape (n,), from logits (n, C), and of their type."""

    def loss(self, logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean over the batch of weight (n,), by default 1, times loss: a scalar."""
