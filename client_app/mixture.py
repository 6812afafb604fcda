"""A client's part in a mixture of models: its shares, and one round of training for each model."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from client_app.workplace import Workplace
from feddag_flwr.models.flat import get_weights
from feddag_flwr.records import Model, RecordError, SharesRequest, TrainReply, TrainRequest
from feddag_flwr.training.device import Samples
from feddag_flwr.training.local import train_primary
from feddag_flwr.training.mixture import class_sums, responsibilities

# A model that answers for less than this share of a client is not trained there: the client's
# gradient would be that much smaller than others', below the rounding of the weights.
LEAST_SHARE = 1e-6


def estimate_shares(place: Workplace, request: SharesRequest) -> NDArray[np.float64]:
    """Count the samples of each class that each model answers for, shape (K, C)."""
    model = place.model(request.candidates[0])
    samples = place.train_samples(model)
    shares = _responsibilities(place, samples, request.candidates, request.prior)
    return _sums(place, samples, shares)


def train_mixture(place: Workplace, request: TrainRequest) -> TrainReply:
    """Train every model with the share that it has in each sample as the sample's weight.

    The shares are those under the models received, and stay for the whole round.
    """
    if request.prior is None:
        raise RecordError("the phase 'mixture' needs log weights")
    model = place.model(request.candidates[0])
    samples = place.train_samples(model)
    shares = _responsibilities(place, samples, request.candidates, request.prior)
    choice = int(shares.mean(dim=1).argmax())
    received = None
    if place.settings.evaluate_participants:
        chosen = request.candidates[choice]
        place.fill(model, chosen)
        received = place.evaluate_received(model, chosen)
    trained: Model = {}
    for index, candidate in enumerate(request.candidates):
        place.fill(model, candidate)
        if float(shares[index].mean()) >= LEAST_SHARE:
            epochs, weights = place.settings.local_epochs, shares[index].float()
            rng = place.rng("primary")
            train_primary(model, samples, place.settings, rng, epochs, weights=weights)
        trained[f"{index}/primary"] = get_weights(model.primary)
        trained[f"{index}/classifier"] = get_weights(model.classifier)
    numbers = {"shares": _sums(place, samples, shares)}
    return TrainReply(len(samples), trained, received, choice, numbers, drifted=place.drifted())


def _responsibilities(
    place: Workplace,
    samples: Samples,
    candidates: tuple[Model, ...],
    prior: NDArray[np.float64],
) -> Tensor:
    model = place.model(candidates[0])
    losses = torch.stack(list(place.losses(model, samples, candidates)))
    return responsibilities(losses, samples.labels, torch.from_numpy(prior).to(losses.device))


def _sums(place: Workplace, samples: Samples, shares: Tensor) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = (
        class_sums(shares, samples.labels, len(place.task.class_names)).cpu().numpy()
    )
    return sums
