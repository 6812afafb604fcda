"""Gradient descent on one client's data: what most training methods are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from feddag_flwr.trainers import TrainJob
from feddag_flwr.training.local import batches

# From the indices of a batch to its loss, a scalar.
BatchLoss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ProximalTerm:
    """The proximal term mu/2 |w - anchor|^2 of FedProx and FedSoft, mu being `weight`."""

    weight: float
    anchor: list[Tensor]

    @classmethod
    def to_present(cls, weight: float, parameters: list[nn.Parameter]) -> ProximalTerm:
        """Make the term towards the values that the parameters have now."""
        return cls(weight, [parameter.detach().clone() for parameter in parameters])

    def add_gradient(self, parameters: list[nn.Parameter]) -> None:
        """Add mu (w - anchor) to the gradients."""
        for parameter, anchor in zip(parameters, self.anchor, strict=True):
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - anchor, alpha=self.weight)


def descend(job: TrainJob, trained: nn.Module, loss: BatchLoss) -> NDArray[np.float64]:
    """Train the parameters of `trained` in place, as the job's config says.

    `loss` goes from the indices of a batch, on the model's device, to a scalar; the proximal term
    pulls to the weights at the start. Returns the mean loss a sample of each epoch, shape
    (epochs,), while it was being trained, without the proximal term.
    """
    parameters, count = list(trained.parameters()), len(job.samples)
    optimiser = job.optimiser(parameters)
    mu = job.config.proximal
    proximal = ProximalTerm.to_present(mu, parameters) if mu else None
    trained.train()
    device = parameters[0].device
    losses = []
    for _ in range(job.config.epochs):
        total = torch.zeros((), device=device)
        for index in batches(count, job.config.batch_size, job.rng):
            optimiser.zero_grad()
            value = loss(index.to(device))
            value.backward()  # type: ignore[no-untyped-call]
            if proximal is not None:
                proximal.add_gradient(parameters)
            optimiser.step()
            total += value.detach() * len(index)
        losses.append(total)  # read after the last epoch: a GPU is not made to wait
    return np.array([float(total) / count for total in losses], dtype=np.float64)
