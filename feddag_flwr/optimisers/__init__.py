"""What takes the steps of local training: one file each, and a line in `feddag_flwr.registries`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import nn

from feddag_flwr.local_training import LocalTrainingConfig


class Optimiser(Protocol):
    """Moves parameters along their gradients; made anew for each local training."""

    def zero_grad(self) -> None:
        """Forget the gradients."""

    def step(self) -> object:
        """Move every parameter that has a gradient."""


class MakeOptimiser(Protocol):
    """Makes an optimiser: a class, or a function."""

    def __call__(
        self, parameters: Sequence[nn.Parameter], config: LocalTrainingConfig, /
    ) -> Optimiser:
        """Make an optimiser of parameters; hyper-parameters are the request's."""
