"""The actions that every algorithm may ask for."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from flwr.app import Context, Error, RecordDict

from feddag_flwr.client.action import Action, Training
from feddag_flwr.client.introduction import introduce, introduce_outline
from feddag_flwr.client.session import ClientSession
from feddag_flwr.data.newcomers import joining_round
from feddag_flwr.data.own import outline_own_data
from feddag_flwr.data.samples import DataError
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.flower.private import ErrorCode
from feddag_flwr.modalities import load_modality
from feddag_flwr.models.errors import ModelError
from feddag_flwr.models.flat import get_weights
from feddag_flwr.models.frozen import FrozenEncoder
from feddag_flwr.privacy.budget import check_installed
from feddag_flwr.records import (
    CandidateLosses,
    CandidateLossesRequest,
    Description,
    EvaluateReply,
    EvaluateRequest,
    PrepareRequest,
    RecordError,
    Rejection,
    TrainReply,
    TrainRequest,
    ValidationLosses,
    ValidationLossesRequest,
    describe_request_of,
)
from feddag_flwr.settings import Settings, SettingsError
from feddag_flwr.trainers import TrainingMethod
from feddag_flwr.trainers.whole_model import WholeModel

logger = logging.getLogger("flwr")


def describe(content: RecordDict, context: Context) -> RecordDict | Error:
    """Introduce this client.

    Where many images have to be decoded for their moments, this is left to a `PrepareRequest`,
    which says what they are to become.
    """
    settings = Settings.from_run_config(context.run_config)
    try:
        return _introduction(content, settings, context).encode()
    # Told, not raised: Flower would print a traceback for each client.
    except (DataError, ModelError, SettingsError) as error:
        # Made-up clients fail alike, and the server says it once.
        if settings.data.scenario == "own":
            logger.error("this client cannot take part: %s", error)
        told = error.told if isinstance(error, DataError) else error
        reason = f"{type(error).__name__}: {told}"
        return Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason)


def _introduction(content: RecordDict, settings: Settings, context: Context) -> Description:
    request, node_config = describe_request_of(content), context.node_config
    joins_in = joining_round(settings, node_config)
    _check_frozen_encoder(settings)
    check_installed(settings.privacy)
    if not isinstance(request, PrepareRequest):
        if outline := outline_own_data(settings, node_config):
            return introduce_outline(outline, settings, joins_in)
        spec = None
    else:
        spec = request.spec
        load_modality(settings.data.modality).check(spec)
    data = load_client_data(settings, node_config, request.server_round, spec)
    if settings.privacy.on:
        data.check_parts_given(settings.privacy.wanted_by)
    return introduce(data, settings, joins_in)


def _check_frozen_encoder(settings: Settings) -> None:
    """Refuse weights of the subspace view's network that are missing or others than agreed."""
    own = settings.profile
    if own.view == "encoder":
        FrozenEncoder(own.view_model, own.view_digest, own.view_weights).check()


def rejection(content: RecordDict, context: Context) -> RecordDict:
    """Tell this client's owner why the server leaves it out."""
    del context
    logger.error("the server leaves this client out: %s", Rejection.decode(content).text)
    return RecordDict()


def candidate_losses(content: RecordDict, context: Context) -> RecordDict:
    """Compare models by their losses on the training data."""
    request = CandidateLossesRequest.decode(content)
    session = ClientSession.open(context, request.header)
    model = session.model(request.candidates[0])
    samples, objective = session.train_samples(model), session.objective(request.objective)
    losses = torch.stack(list(session.losses(model, samples, request.candidates, objective)))
    lowest = torch.bincount(losses.argmin(dim=0), minlength=len(losses))
    reply = CandidateLosses(losses.mean(dim=1).cpu().numpy(), lowest.cpu().numpy())
    return reply.encode(request.header)


def validation_losses(content: RecordDict, context: Context) -> RecordDict:
    """Compare models by losses on what is held back from training, or on what is not, if asked."""
    request = ValidationLossesRequest.decode(content)
    session, models = ClientSession.open(context, request.header), request.models()
    model = session.model(models[0])
    held_back = session.validation_samples(model)
    if (samples := session.train_samples(model) if request.trained_on else held_back) is None:
        return ValidationLosses.nothing(len(models)).encode(request.header)
    losses = session.losses(model, samples, models, session.objective(request.objective))
    table, labels = torch.stack(list(losses)).cpu().numpy(), samples.labels.cpu().numpy()
    return ValidationLosses.of(table, labels).encode(request.header)


def train(content: RecordDict, context: Context) -> Training:
    """Evaluate the model received, then train it as a whole."""
    request = TrainRequest.decode(content)
    return (yield from train_whole(request, ClientSession.open(context, request.header)))


def train_whole(
    request: TrainRequest, session: ClientSession, method: TrainingMethod | None = None
) -> Training:
    """Evaluate the model received, then train it as a whole, perhaps by another method."""
    model = session.model(request.parts)
    samples = session.train_samples(model)
    received = session.judge_received(model, request.parts)
    result = yield session.job(
        model, samples, request.config, method or WholeModel(), session.rng("primary")
    )
    starts = request.starts()
    trained = {str(name): get_weights(part) for name, part in model.parts().items()}
    losses = result.losses if request.config.report_losses else None
    told = session.samples_told(samples, request.config)
    reply = TrainReply(told, trained, starts, received, losses, session.drifted())
    return session.encode(reply)


def evaluate(content: RecordDict, context: Context) -> Training:
    """Evaluate the model received on this client's test data, and perhaps once more fine-tuned."""
    request = EvaluateRequest.decode(content)
    session = ClientSession.open(context, request.header)
    return (yield from judge(request, session, WholeModel()))


def judge(request: EvaluateRequest, session: ClientSession, method: TrainingMethod) -> Training:
    """Evaluate the model received; `method` trains it first, or once it is evaluated, if asked."""
    if session.account is not None and (request.adapt_epochs or request.personalisation_epochs):
        raise RecordError("training before an evaluation is not covered by training-epsilon")
    model = session.model(request.parts)
    if request.adapt_epochs:
        config, rng = request.config.with_epochs(request.adapt_epochs), session.rng("adapt")
        yield session.job(model, session.train_samples(model), config, method, rng)
    if request.held_back:
        judged = session.evaluate_held_back(model)
    elif request.adapt_epochs:
        judged = session.evaluate(model)
    else:
        judged = session.evaluate_received(model, request.parts)
    personalised = None
    if request.personalisation_epochs:
        config = request.config.with_epochs(request.personalisation_epochs)
        rng = session.rng("fine-tune")
        yield session.job(model, session.train_samples(model), config, method, rng)
        personalised = session.evaluate(model)
    return EvaluateReply(judged, personalised, session.drifted()).encode(request.header)


ACTIONS: Mapping[str, Action] = {
    "query.describe": describe,
    "query.rejection": rejection,
    "query.candidate_losses": candidate_losses,
    "query.validation_losses": validation_losses,
    "train": train,
    "evaluate": evaluate,
}
