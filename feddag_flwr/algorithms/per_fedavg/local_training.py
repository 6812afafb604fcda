"""First-order MAML on one client."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from feddag_flwr.trainers import TrainJob
from feddag_flwr.trainers.whole_model import single_encoder
from feddag_flwr.training.local import batches


@dataclass(frozen=True)
class FirstOrderMAML:
    """Train a model so that one more step fits it to the client; `ValueError` if it has an S.

    Batches come in pairs. With the first, w' = w - alpha grad f(w), alpha being `inner_rate`; with
    the second, w takes a step of the optimiser along grad f(w'), second derivatives left out.
    Source: Fallah et al. 2020, "Personalized Federated Learning with Theoretical Guarantees",
    Algorithm 1 with the approximation of its Section 5 (Per-FedAvg (FO)). As many gradients are
    computed as in ordinary training of the same epochs.
    """

    inner_rate: float

    def __call__(self, job: TrainJob, /) -> NDArray[np.float64]:
        """Train the job's model; no losses are returned: those at w and at w' are of two kinds."""
        trained, samples = single_encoder(job.model), job.samples
        parameters = list(trained.parameters())
        optimiser = job.optimiser(parameters)
        trained.train()
        device = parameters[0].device

        def compute_gradients(index: Tensor) -> None:
            optimiser.zero_grad()
            chosen = index.to(device)
            logits = job.model(samples.inputs(chosen))
            value = job.objective.loss(logits, samples.labels[chosen])
            value.backward()  # type: ignore[no-untyped-call]

        epochs, size = range(job.config.epochs), job.config.batch_size
        drawn = [b for _ in epochs for b in batches(len(samples), size, job.rng)]
        drawn = drawn if len(drawn) > 1 else drawn * 2
        for first, second in zip(drawn[0::2], drawn[1::2], strict=False):  # an odd one is left out
            compute_gradients(first)
            start = [parameter.detach().clone() for parameter in parameters]
            with torch.no_grad():
                for parameter in parameters:
                    if parameter.grad is not None:
                        parameter.sub_(parameter.grad, alpha=self.inner_rate)
            compute_gradients(second)
            with torch.no_grad():
                for parameter, before in zip(parameters, start, strict=True):
                    parameter.copy_(before)
            optimiser.step()
        return np.zeros(0)
