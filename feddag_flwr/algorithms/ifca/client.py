"""IFCA on the client: choose a model, and train it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from flwr.app import Context, RecordDict

from feddag_flwr.algorithms.ifca.messages import ChoiceReply, ChoiceTrainRequest
from feddag_flwr.client.action import Action, Training
from feddag_flwr.client.session import ClientSession
from feddag_flwr.models.flat import get_weights
from feddag_flwr.trainers.whole_model import WholeModel


def train(content: RecordDict, context: Context) -> Training:
    """Take the candidate of lowest mean loss on the training data, evaluate it, and train it."""
    request = ChoiceTrainRequest.decode(content)
    session = ClientSession.open(context, request.header)
    model = session.model(request.candidates[0])
    samples, objective = session.train_samples(model), session.objective(request.config.objective)
    losses = session.losses(model, samples, request.candidates, objective)
    choice = int(torch.stack([of_samples.mean() for of_samples in losses]).argmin())
    chosen = request.candidates[choice]
    session.fill(model, chosen)
    received = session.judge_received(model, chosen)
    result = yield session.job(model, samples, request.config, WholeModel(), session.rng("primary"))
    trained = {str(name): get_weights(part) for name, part in model.parts().items()}
    reply = ChoiceReply(
        len(samples),
        trained,
        request.starts(choice),
        received,
        result.losses if request.config.report_losses else None,
        session.drifted(),
        choice=choice,
    )
    return session.encode(reply)


ACTIONS: Mapping[str, Action] = {"train.choice": train}
