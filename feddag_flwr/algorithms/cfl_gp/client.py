"""CFL-GP on the client."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from flwr.app import Context, RecordDict

from feddag_flwr.aggregation import Weights
from feddag_flwr.algorithms.cfl_gp.messages import GradientRequest
from feddag_flwr.client.action import Action
from feddag_flwr.client.session import ClientSession
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.objectives import Objective
from feddag_flwr.training.device import Samples
from feddag_flwr.training.local import chunks


def gradient(content: RecordDict, context: Context) -> RecordDict:
    """Reply with a model's gradient on all training data."""
    request = GradientRequest.decode(content)
    session = ClientSession.open(context, request.header)
    session.check_not_private("gradient")
    model = session.model(request.parts)
    samples, objective = session.train_samples(model), session.objective(request.objective)
    return request.header.reply(mean_gradient(model, samples, objective))


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


ACTIONS: Mapping[str, Action] = {"query.gradient": gradient}
