"""The ClientApp: each action reads a request, computes on local data, and writes the reply."""

from __future__ import annotations

import logging

import numpy as np
import torch
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from client_app.mixture import estimate_responsibilities, train_mixture
from client_app.session import ClientSession
from feddag_flwr.aggregation import Weights
from feddag_flwr.data.newcomers import joining_round
from feddag_flwr.data.samples import DataError, sample_moments, unit_pixels
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.flat import get_weights, set_weights
from feddag_flwr.profile import subspace_size
from feddag_flwr.records import (
    CandidateLosses,
    CandidateLossesRequest,
    DescribeRequest,
    Description,
    EvaluateReply,
    EvaluateRequest,
    GradientRequest,
    LocalTrainingConfig,
    Model,
    ProfileRequest,
    RecordError,
    Rejection,
    RequestHeader,
    ResponsibilitiesRequest,
    TrainReply,
    TrainRequest,
    encode_gradient,
    encode_profile,
    encode_responsibilities,
    encode_vectors,
)
from feddag_flwr.settings import Settings
from feddag_flwr.training.device import Samples
from feddag_flwr.training.gradient import mean_gradient
from feddag_flwr.training.local import ProximalTerm, train_fomaml, train_primary, train_secondary
from feddag_flwr.training.profile import leading_vectors, make_profile

logger = logging.getLogger("flwr")

app = ClientApp()


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """Introduce this client: name, classes, image shape, sizes."""
    settings = Settings.from_run_config(context.run_config)
    server_round = DescribeRequest.decode(message.content).server_round
    try:
        data = load_client_data(settings, context.node_config, server_round)
    except DataError as error:  # told, not raised: Flower would print a traceback for each client
        if settings.scenario == "own":  # else all clients fail alike, and the server says it once
            logger.error("this client cannot take part: %s", error)
        reason = f"{type(error).__name__}: {error}"
        return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)
    channels, height, width = data.train.samples.shape[1:]
    description = Description(
        data.name,
        data.class_names,
        (channels, height, width),
        len(data.train),
        len(data.test),
        sample_moments(data.train),
        data.true_group,
        joining_round(settings, context.node_config),
    )
    return Message(description.encode(), reply_to=message)


@app.query("rejection")
def rejection(message: Message, context: Context) -> Message:
    """Tell this client's owner why the server leaves it out."""
    del context
    logger.error("the server leaves this client out: %s", Rejection.decode(message.content).text)
    return Message(RecordDict(), reply_to=message)


@app.train("profile")
def profile(message: Message, context: Context) -> Message:
    """Phase 1: warm up, and reply with the sparse update, subspaces, counts and encoder."""
    request = ProfileRequest.decode(message.content)
    session = ClientSession.open(context, request.header)
    model = session.model(request.start)
    made = make_profile(
        model,
        session.data.train,
        session.train_samples(model),
        session.settings,
        client=request.header.client,
        num_classes=len(request.header.class_names),
        coordinate_seed=request.coordinate_seed,
    )
    return Message(encode_profile(request.header, made, request.start["primary"]), reply_to=message)


@app.query("vectors")
def vectors(message: Message, context: Context) -> Message:
    """Reply with the leading singular vectors of all training data, whatever the class (PACFL)."""
    header = RequestHeader.decode(message.content)
    session = ClientSession.open(context, header)
    pixels = unit_pixels(session.data.train.samples).reshape(len(session.data.train), -1)
    size = subspace_size(session.settings.subspace_size, len(pixels))
    found = leading_vectors(pixels, size).astype(np.float32)
    return Message(encode_vectors(header, found), reply_to=message)


@app.query("candidate-losses")
def candidate_losses(message: Message, context: Context) -> Message:
    """Compare models by their losses on the training data."""
    request = CandidateLossesRequest.decode(message.content)
    session = ClientSession.open(context, request.header)
    model = session.model(request.candidates[0])
    found = torch.stack(
        list(session.losses(model, session.train_samples(model), request.candidates))
    )
    lowest = torch.bincount(found.argmin(dim=0), minlength=len(found))
    reply = CandidateLosses(found.mean(dim=1).cpu().numpy(), lowest.cpu().numpy())
    return Message(reply.encode(request.header), reply_to=message)


@app.query("gradient")
def gradient(message: Message, context: Context) -> Message:
    """Reply with a model's gradient on all training data (CFL-GP)."""
    request = GradientRequest.decode(message.content)
    session = ClientSession.open(context, request.header)
    model = session.model(request.parts)
    found = mean_gradient(model, session.train_samples(model))
    return Message(encode_gradient(request.header, found), reply_to=message)


@app.query("shares")
def shares(message: Message, context: Context) -> Message:
    """Reply with the shares that models of a mixture have in the training data (FedRC)."""
    request = ResponsibilitiesRequest.decode(message.content)
    session = ClientSession.open(context, request.header)
    return Message(
        encode_responsibilities(request.header, estimate_responsibilities(session, request)),
        reply_to=message,
    )


@app.train()
def train(message: Message, context: Context) -> Message:
    """Phase 5: evaluate the model received, then run the phases asked for.

    All phases start from the weights as received (the ruling on Eq. 19).
    """
    request = TrainRequest.decode(message.content)
    session = ClientSession.open(context, request.header)
    if "mixture" in request.phases:
        return Message(train_mixture(session, request).encode(request), reply_to=message)
    parts, choice = _choose(session, request)
    model = session.model(parts)
    samples = session.train_samples(model)
    wanted = session.settings.evaluate_participants
    received = session.evaluate_received(model, parts) if wanted else None
    trained: Model = {}
    numbers = {}
    if "secondary" in request.phases:
        trained["transfer"] = _secondary_phase(session, model, samples, request)
    if "primary" in request.phases:
        epochs = session.settings.local_epochs
        proximal = _proximal_term(request.config, model)
        rng, separate_heads = session.rng("primary"), request.config.separate_heads
        losses = train_primary(
            model, samples, session.settings, rng, epochs, proximal, separate_heads=separate_heads
        )
        if request.config.losses:
            numbers["losses"] = losses
    if "fomaml" in request.phases:
        epochs, rate = session.settings.local_epochs, request.config.inner_rate
        train_fomaml(model, samples, session.settings, session.rng("primary"), epochs, rate)
    if {"primary", "fomaml"} & set(request.phases):
        trained["primary"] = get_weights(model.primary)
    if "primary" in trained or request.config.separate_heads:
        trained["classifier"] = get_weights(model.classifier)
    drifted = session.drifted()
    reply = TrainReply(len(samples), trained, received, choice, numbers, drifted=drifted)
    return Message(reply.encode(request), reply_to=message)


def _choose(session: ClientSession, request: TrainRequest) -> tuple[Model, int | None]:
    """Take the candidate of lowest mean loss on the training data, where there are candidates."""
    if not request.candidates:
        return request.parts, None
    model = session.model(request.candidates[0])
    losses = session.losses(model, session.train_samples(model), request.candidates)
    choice = int(torch.stack([each.mean() for each in losses]).argmin())
    return request.parts | request.candidates[choice], choice


def _secondary_phase(
    session: ClientSession, model: ClusterModel, samples: Samples, request: TrainRequest
) -> Weights:
    """Train S' in the session of S, and put S back; the classifier's half on S stays trained."""
    if model.secondary is None:
        raise RecordError("the secondary phase needs the part 'secondary'")
    own = get_weights(model.secondary)
    set_weights(model.secondary, request.start_of("transfer", None))
    rng = session.rng("secondary")
    epochs, separate_heads = session.settings.local_epochs, request.config.separate_heads
    train_secondary(model, samples, session.settings, rng, epochs, separate_heads=separate_heads)
    trained = get_weights(model.secondary)
    set_weights(model.secondary, own)
    return trained


def _proximal_term(config: LocalTrainingConfig, model: ClusterModel) -> ProximalTerm | None:
    """Make the proximal term, towards the weights received."""
    return ProximalTerm.to_present(config.proximal, model) if config.proximal else None


@app.evaluate()
def evaluate_received(message: Message, context: Context) -> Message:
    """Evaluate the model received on this client's test data, and perhaps once more when personalised."""
    request = EvaluateRequest.decode(message.content)
    session = ClientSession.open(context, request.header)
    model = session.model(request.parts)
    if request.adapt_epochs:
        _fit(session, model, request.adapt_epochs, "adapt")
        judged = session.evaluate(model)
    else:
        judged = session.evaluate_received(model, request.parts)
    personalised = None
    if request.personalisation_epochs:
        _fit(session, model, request.personalisation_epochs, "fine-tune")
        personalised = session.evaluate(model)
    reply = EvaluateReply(judged, personalised, session.drifted())
    return Message(reply.encode(request.header), reply_to=message)


def _fit(session: ClientSession, model: ClusterModel, epochs: int, purpose: str) -> None:
    samples = session.train_samples(model)
    separate_heads = (
        model.secondary is not None and session.settings.classifier_training == "halves"
    )
    train_primary(
        model,
        samples,
        session.settings,
        session.rng(purpose),
        epochs,
        separate_heads=separate_heads,
    )
