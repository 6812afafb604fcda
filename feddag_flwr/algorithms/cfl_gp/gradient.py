"""The gradient of a model's mean loss on all of a client's training data."""

from __future__ import annotations

import torch

from feddag_flwr.aggregation import Weights
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.objectives import Objective
from feddag_flwr.training.device import Samples
from feddag_flwr.training.local import chunks


def mean_gradient(
    model: ClusterModel, samples: Samples, objective: Objective
) -> dict[str, Weights]:
    """Gradient of the objective's mean over the training data, by part; weights stay.

    The model is taken in evaluation mode: dropout would make the gradient random, and batch
    normalisation would make it depend on how the samples are cut into chunks.
    """
    model.eval()
    model.zero_grad()
    for inputs, labels in chunks(samples):
        loss = objective.sample_losses(model(inputs), labels).sum()
        (loss / len(samples)).backward()  # type: ignore[no-untyped-call]
    gradient = {}
    for part, module in model.parts().items():
        slopes = [
            (torch.zeros_like(values) if values.grad is None else values.grad).reshape(-1).float()
            for values in module.parameters()
        ]
        gradient[str(part)] = Weights(torch.cat(slopes).cpu().numpy())
    return gradient
