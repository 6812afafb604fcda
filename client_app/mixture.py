"""A client's part in a mixture of models: its responsibilities, and one round of training for each model."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client_app.session import ClientSession
from feddag_flwr.models.flat import get_weights
from feddag_flwr.records import (
    Model,
    RecordError,
    ResponsibilitiesRequest,
    TrainReply,
    TrainRequest,
)
from feddag_flwr.training.device import Samples
from feddag_flwr.training.local import train_primary
from feddag_flwr.training.mixture import class_sums, responsibilities

# A model that answers for less than this share of a client is not trained there: the client's
# gradient would be that much smaller than others', below the rounding of the weights.
LEAST_SHARE = 1e-6


def estimate_responsibilities(
    session: ClientSession, request: ResponsibilitiesRequest
) -> NDArray[np.float64]:
    """Count the samples of each class that each model answers for, shape (K, C)."""
    model = session.model(request.candidates[0])
    samples = session.train_samples(model)
    responsibilities = _responsibilities(session, samples, request.candidates, request.prior)
    return _sums(session, samples, responsibilities)


def train_mixture(session: ClientSession, request: TrainRequest) -> TrainReply:
    """Train every model with the share that it has in each sample as the sample's weight.

    The responsibilities are those under the models received, and stay for the whole round.
    """
    if request.prior is None:
        raise RecordError("the phase 'mixture' needs log weights")
    model = session.model(request.candidates[0])
    samples = session.train_samples(model)
    responsibilities = _responsibilities(session, samples, request.candidates, request.prior)
    choice = int(responsibilities.mean(dim=1).argmax())
    received = None
    if session.settings.evaluate_participants:
        chosen = request.candidates[choice]
        session.fill(model, chosen)
        received = session.evaluate_received(model, chosen)
    trained: Model = {}
    for index, candidate in enumerate(request.candidates):
        session.fill(model, candidate)
        if float(responsibilities[index].mean()) >= LEAST_SHARE:
            epochs, weights = session.settings.local_epochs, responsibilities[index].float()
            rng = session.rng("primary")
            train_primary(model, samples, session.settings, rng, epochs, weights=weights)
        trained[f"{index}/primary"] = get_weights(model.primary)
        trained[f"{index}/classifier"] = get_weights(model.classifier)
    numbers = {"responsibilities": _sums(session, samples, responsibilities)}
    return TrainReply(len(samples), trained, received, choice, numbers, drifted=session.drifted())


def _responsibilities(
    session: ClientSession,
    samples: Samples,
    candidates: tuple[Model, ...],
    prior: NDArray[np.float64],
) -> Tensor:
    model = session.model(candidates[0])
    losses = torch.stack(list(session.losses(model, samples, candidates)))
    return responsibilities(losses, samples.labels, torch.from_numpy(prior).to(losses.device))


def _sums(
    session: ClientSession, samples: Samples, responsibilities: Tensor
) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = (
        class_sums(responsibilities, samples.labels, len(session.header.class_names)).cpu().numpy()
    )
    return sums
