"""FedRC on the client: its responsibilities, and one round of training for each model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import Context, RecordDict
from numpy.typing import NDArray
from torch import Tensor

from feddag_flwr.algorithms.fedrc.messages import (
    RESPONSIBILITIES,
    MixtureReply,
    MixtureRequest,
    MixtureTrainRequest,
    ResponsibilitiesRequest,
)
from feddag_flwr.algorithms.fedrc.mixture import class_sums, responsibilities
from feddag_flwr.client.action import Action, Training
from feddag_flwr.client.session import ClientSession
from feddag_flwr.models.flat import get_weights
from feddag_flwr.records import Model
from feddag_flwr.trainers.whole_model import WholeModel
from feddag_flwr.training.device import Samples

# A model that answers for less than this share of a client is not trained there: the client's
# gradient would be that much smaller than others', below the rounding of the weights.
LEAST_SHARE = 1e-6


def estimate(content: RecordDict, context: Context) -> RecordDict:
    """Count the samples of each class that each model answers for."""
    request = ResponsibilitiesRequest.decode(content)
    session = ClientSession.open(context, request.header)
    samples = session.train_samples(session.model(request.candidates[0]))
    answered = _responsibilities(session, samples, request, request.objective)
    return request.header.reply(arrays={RESPONSIBILITIES: _sums(session, samples, answered)})


def train(content: RecordDict, context: Context) -> Training:
    """Train every model with the share that it has in each sample as the sample's weight.

    The responsibilities are those under the models received, and stay for the whole round. Judged
    is the model that answers for most of the client.
    """
    request = MixtureTrainRequest.decode(content)
    session = ClientSession.open(context, request.header)
    model = session.model(request.candidates[0])
    samples = session.train_samples(model)
    answered = _responsibilities(session, samples, request, request.config.objective)
    chosen = request.candidates[int(answered.mean(dim=1).argmax())]
    session.fill(model, chosen)
    received = session.judge_received(model, chosen)
    trained: Model = {}
    for index, candidate in enumerate(request.candidates):
        session.fill(model, candidate)
        if float(answered[index].mean()) >= LEAST_SHARE:
            weights, rng = answered[index].float(), session.rng("primary")
            yield session.job(model, samples, request.config, WholeModel(), rng, weights)
        trained[f"{index}/primary"] = get_weights(model.primary)
        trained[f"{index}/classifier"] = get_weights(model.classifier)
    reply = MixtureReply(
        len(samples),
        trained,
        request.starts(),
        received,
        drifted=session.drifted(),
        responsibilities=_sums(session, samples, answered),
    )
    return session.encode(reply)


def _responsibilities(
    session: ClientSession, samples: Samples, request: MixtureRequest[Any], objective: str
) -> Tensor:
    model, candidates = session.model(request.candidates[0]), request.candidates
    losses = torch.stack(
        list(session.losses(model, samples, candidates, session.objective(objective)))
    )
    prior = torch.from_numpy(request.prior).to(losses.device)
    return responsibilities(losses, samples.labels, prior)


def _sums(session: ClientSession, samples: Samples, answered: Tensor) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = (
        class_sums(answered, samples.labels, len(session.header.class_names)).cpu().numpy()
    )
    return sums


ACTIONS: Mapping[str, Action] = {"train.mixture": train, "query.responsibilities": estimate}
