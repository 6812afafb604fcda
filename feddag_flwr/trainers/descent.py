"""Gradient descent on one client's data: what most training methods are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, count, islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from feddag_flwr.models.freezing import train_mode
from feddag_flwr.optimisers import Optimiser
from feddag_flwr.trainers import TrainJob
from feddag_flwr.trainers.private_descent import PrivateGradient, SampleGradients
from feddag_flwr.trainers.training_time import TrainingTime
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


def descend(
    job: TrainJob, trained: nn.Module, loss: BatchLoss, pull: ProximalTerm | None = None
) -> NDArray[np.float64]:
    """Train the parameters of `trained` in place, as the job's config says.

    `loss` goes from the indices of a batch, on the model's device, to a scalar; the proximal term
    pulls to the weights at the start, or is the `pull` given. Returns the mean loss a sample of
    each epoch, shape (epochs,), or of all steps, shape (1,), while it was being trained, without
    the proximal term; none, shape (0,), where training is private: losses tell of samples.

    Raises
    ------
    ValueError
        All of `trained` is frozen.
    """
    parameters, config = list(trained.parameters()), job.config
    if not any(parameter.requires_grad for parameter in parameters):
        raise ValueError("setting frozen-layers leaves nothing to train")
    optimiser = job.optimiser(parameters)
    proximal = pull
    if proximal is None and config.proximal:
        proximal = ProximalTerm.to_present(config.proximal, parameters)
    train_mode(trained)
    if job.private is not None:
        _descend_privately(job, trained, loss, optimiser, proximal)
        return np.zeros(0)
    device, losses, time_left = parameters[0].device, [], TrainingTime(job)
    for epoch in _passes(job):
        total, seen = torch.zeros((), device=device), 0
        for index in epoch:
            optimiser.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=config.mixed_precision):
                value = loss(index.to(device))
            value.backward()  # type: ignore[no-untyped-call]
            if proximal is not None:
                proximal.add_gradient(parameters)
            if config.gradient_clipping:
                nn.utils.clip_grad_norm_(parameters, config.gradient_clipping)
            optimiser.step()
            total += value.detach() * len(index)
            seen += len(index)
            time_left.batch_done()
        losses.append((total, seen))  # read after the last epoch: a GPU is not made to wait
    return np.array([float(total) / seen for total, seen in losses], dtype=np.float64)


def _descend_privately(
    job: TrainJob,
    trained: nn.Module,
    loss: BatchLoss,
    optimiser: Optimiser,
    proximal: ProximalTerm | None,
) -> None:
    """Take the steps of private training, see `private_descent`.

    What is done with a noisy gradient (proximal term, momentum, weight decay, another optimiser)
    looks at no sample, and costs nothing.
    """
    private = job.private
    assert private is not None
    gradient = PrivateGradient(
        SampleGradients(trained, loss),
        private.plan,
        count=len(job.samples),
        told=private.told,
        at_once=job.config.batch_size,
        noise=private.noise,
    )
    parameters, time_left = list(trained.parameters()), TrainingTime(job)
    for _ in range(private.plan.steps):
        optimiser.zero_grad()
        gradient.place()
        if proximal is not None:
            proximal.add_gradient(parameters)
        optimiser.step()
        time_left.batch_done()


def _passes(job: TrainJob) -> Iterator[Iterator[Tensor]]:
    """Yield the batches of each epoch, or of all steps as one pass."""
    config = job.config
    epochs = range(config.epochs) if not config.steps else count()
    passes = (batches(len(job.samples), config.batch_size, job.rng) for _ in epochs)
    if not config.steps:
        return passes
    return iter([islice(chain.from_iterable(passes), config.steps)])
