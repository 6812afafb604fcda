"""CFL-GP on the client."""

from __future__ import annotations

from collections.abc import Mapping

from flwr.app import Context, RecordDict

from feddag_flwr.algorithms.cfl_gp.gradient import mean_gradient
from feddag_flwr.algorithms.cfl_gp.messages import GradientRequest
from feddag_flwr.client.action import Action
from feddag_flwr.client.session import ClientSession


def gradient(content: RecordDict, context: Context) -> RecordDict:
    """Reply with a model's gradient on all training data."""
    request = GradientRequest.decode(content)
    session = ClientSession.open(context, request.header)
    model = session.model(request.parts)
    samples, objective = session.train_samples(model), session.objective(request.objective)
    return request.header.reply(mean_gradient(model, samples, objective))


ACTIONS: Mapping[str, Action] = {"query.gradient": gradient}
