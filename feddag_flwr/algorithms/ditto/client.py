"""Ditto on the client: its own model, pulled to the global one, and then the global one."""

from __future__ import annotations

from collections.abc import Mapping

from flwr.app import Context, RecordDict

from feddag_flwr.algorithms.ditto.local_training import PulledTraining
from feddag_flwr.algorithms.ditto.messages import PERSONAL, DittoTrainRequest, personal_parts
from feddag_flwr.client.action import Action, Training
from feddag_flwr.client.session import ClientSession
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.flat import get_parts
from feddag_flwr.records import Model, TrainReply
from feddag_flwr.records.train import TRAINED
from feddag_flwr.trainers.whole_model import WholeModel


def train(content: RecordDict, context: Context) -> Training:
    """Judge the personal model received, train it, then train the global model for all.

    Both see the same batches, as in the authors' code.
    """
    request = DittoTrainRequest.decode(content)
    session = ClientSession.open(context, request.header)
    common = {part: request.parts[part] for part in TRAINED}
    own, config = personal_parts(request.parts), request.config
    model = session.model(common)
    samples, pulled = session.train_samples(model), PulledTraining.to_present(request.pull, model)
    session.fill(model, own)
    received = session.judge_received(model, own)
    yield session.job(model, samples, config, pulled, session.rng("primary"))
    trained = _named(model, PERSONAL)
    session.fill(model, common)
    result = yield session.job(model, samples, config, WholeModel(), session.rng("primary"))
    trained |= _named(model)
    losses = result.losses if config.report_losses else None
    starts = request.starts()
    reply = TrainReply(len(samples), trained, starts, received, losses, session.drifted())
    return session.encode(reply)


def _named(model: ClusterModel, prefix: str = "") -> Model:
    return {prefix + part: weights for part, weights in get_parts(model).items()}


ACTIONS: Mapping[str, Action] = {"train.ditto": train}
