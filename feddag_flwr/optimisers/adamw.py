"""PyTorch's AdamW step, without what importing its optimizer classes costs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from feddag_flwr.local_training import LocalTrainingConfig

# What Loshchilov and Hutter (2019) and PyTorch have.
BETAS: Final = (0.9, 0.999)
EPSILON: Final = 1e-8


@dataclass(frozen=True)
class _Moments:
    """Running means of a parameter's gradient and of its square, and steps taken."""

    mean: Tensor
    square: Tensor
    steps: Tensor


class AdamW:
    """AdamW: `torch.optim.AdamW(foreach=False)` to the bit; the momentum setting is SGD's.

    Moments start anew with each local training, as momenta do: they do not travel. The step is
    PyTorch's own function, see `feddag_flwr.optimisers.sgd`.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], config: LocalTrainingConfig) -> None:
        self._parameters = list(parameters)
        self._config = config
        self._moments: dict[nn.Parameter, _Moments] = {}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        moved = [parameter for parameter in self._parameters if parameter.grad is not None]
        moments = [self._moments_of(parameter) for parameter in moved]
        adamw(
            list(moved),
            [parameter.grad for parameter in moved if parameter.grad is not None],
            [each.mean for each in moments],
            [each.square for each in moments],
            [],
            [each.steps for each in moments],
            foreach=False,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=self._config.learning_rate,
            weight_decay=self._config.weight_decay,
            eps=EPSILON,
            maximize=False,
        )

    def _moments_of(self, parameter: nn.Parameter) -> _Moments:
        if parameter not in self._moments:
            none = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            self._moments[parameter] = _Moments(none, none.clone(), torch.tensor(0.0))
        return self._moments[parameter]
