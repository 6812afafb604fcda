"""PyTorch's SGD step, without what importing its optimizer classes costs."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from feddag_flwr.local_training import LocalTrainingConfig


class SGD:
    """SGD with momentum and weight decay: `torch.optim.SGD(fused=True)` to the bit.

    The step is PyTorch's own function. The class around it imports PyTorch's compiler when it is
    first used, 1.4 s of a processor and 120 MB; in a deployment each message starts a process, so
    each training would pay them.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], config: LocalTrainingConfig) -> None:
        self._parameters = list(parameters)
        self._config = config
        self._momenta: dict[nn.Parameter, Tensor | None] = {}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        moved = [parameter for parameter in self._parameters if parameter.grad is not None]
        if not moved:
            return
        momenta = [self._momenta.get(parameter) for parameter in moved]
        sgd(
            list(moved),
            [parameter.grad for parameter in moved if parameter.grad is not None],
            momenta,
            fused=True,
            lr=self._config.learning_rate,
            momentum=self._config.momentum,
            weight_decay=self._config.weight_decay,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        self._momenta.update(zip(moved, momenta, strict=True))
