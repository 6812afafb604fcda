"""The ClientApp: each action reads a request, computes on local data, and writes the reply."""

from __future__ import annotations

import logging

import numpy as np
import torch
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from client_app.mixture import estimate_shares, train_mixture
from client_app.workplace import Workplace
from feddag_flwr.aggregation import Weights
from feddag_flwr.data.images import pixel_moments, unit_pixels
from feddag_flwr.data.newcomers import joining_round
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.flat import get_weights, set_weights
from feddag_flwr.profile import subspace_size
from feddag_flwr.records import (
    DescribeRequest,
    Description,
    EvaluateReply,
    EvaluateRequest,
    GradientRequest,
    Measurement,
    MeasureRequest,
    Model,
    Notice,
    ProfileRequest,
    Recipe,
    RecordError,
    SharesRequest,
    Task,
    TrainReply,
    TrainRequest,
    encode_gradient,
    encode_profile,
    encode_shares,
    encode_vectors,
)
from feddag_flwr.settings import Settings
from feddag_flwr.training.device import Samples
from feddag_flwr.training.gradient import mean_gradient
from feddag_flwr.training.local import Pull, train_meta, train_primary, train_secondary
from feddag_flwr.training.profile import leading_vectors, make_profile

logger = logging.getLogger("flwr")

app = ClientApp()


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """Introduce this client: name, classes, image shape, sizes."""
    settings = Settings.from_run_config(context.run_config)
    server_round = DescribeRequest.decode(message.content).server_round
    data = load_client_data(settings, context.node_config, server_round)
    channels, height, width = data.train.images.shape[1:]
    description = Description(
        data.name,
        data.class_names,
        (channels, height, width),
        len(data.train),
        len(data.test),
        pixel_moments(data.train),
        data.true_group,
        joining_round(settings, context.node_config),
    )
    return Message(description.encode(), reply_to=message)


@app.query("notice")
def notice(message: Message, context: Context) -> Message:
    """Tell this client's owner why the server leaves it out."""
    del context
    logger.error("the server leaves this client out: %s", Notice.decode(message.content).text)
    return Message(RecordDict(), reply_to=message)


@app.train("profile")
def profile(message: Message, context: Context) -> Message:
    """Phase 1: warm up, and reply with the sparse update, subspaces, counts and encoder."""
    request = ProfileRequest.decode(message.content)
    place = Workplace.open(context, request.task)
    model = place.model(request.start)
    made = make_profile(
        model,
        place.data.train,
        place.train_samples(model),
        place.settings,
        client=request.task.client,
        num_classes=len(request.task.class_names),
        coordinate_seed=request.coordinate_seed,
    )
    return Message(encode_profile(request.task, made, request.start["primary"]), reply_to=message)


@app.query("vectors")
def vectors(message: Message, context: Context) -> Message:
    """Reply with the leading singular vectors of all training data, whatever the class (PACFL)."""
    task = Task.decode(message.content)
    place = Workplace.open(context, task)
    pixels = unit_pixels(place.data.train.images).reshape(len(place.data.train), -1)
    size = subspace_size(place.settings.subspace_size, len(pixels))
    found = leading_vectors(pixels, size).astype(np.float32)
    return Message(encode_vectors(task, found), reply_to=message)


@app.query("measure")
def measure(message: Message, context: Context) -> Message:
    """Compare models by their losses on the training data."""
    request = MeasureRequest.decode(message.content)
    place = Workplace.open(context, request.task)
    model = place.model(request.candidates[0])
    found = torch.stack(list(place.losses(model, place.train_samples(model), request.candidates)))
    wins = torch.bincount(found.argmin(dim=0), minlength=len(found))
    reply = Measurement(found.mean(dim=1).cpu().numpy(), wins.cpu().numpy())
    return Message(reply.encode(request.task), reply_to=message)


@app.query("gradient")
def gradient(message: Message, context: Context) -> Message:
    """Reply with a model's gradient on all training data (CFL-GP)."""
    request = GradientRequest.decode(message.content)
    place = Workplace.open(context, request.task)
    model = place.model(request.parts)
    found = mean_gradient(model, place.train_samples(model))
    return Message(encode_gradient(request.task, found), reply_to=message)


@app.query("shares")
def shares(message: Message, context: Context) -> Message:
    """Reply with the shares that models of a mixture have in the training data (FedRC)."""
    request = SharesRequest.decode(message.content)
    place = Workplace.open(context, request.task)
    return Message(encode_shares(request.task, estimate_shares(place, request)), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Phase 5: evaluate the model received, then run the phases asked for.

    All phases start from the weights as received (the ruling on Eq. 19).
    """
    request = TrainRequest.decode(message.content)
    place = Workplace.open(context, request.task)
    if "mixture" in request.phases:
        return Message(train_mixture(place, request).encode(request), reply_to=message)
    parts, choice = _choose(place, request)
    model = place.model(parts)
    samples = place.train_samples(model)
    wanted = place.settings.evaluate_participants
    received = place.evaluate_received(model, parts) if wanted else None
    trained: Model = {}
    numbers = {}
    if "secondary" in request.phases:
        trained["shared"] = _secondary_phase(place, model, samples, request)
    if "primary" in request.phases:
        epochs = place.settings.local_epochs
        pull = _pull(request.recipe, model)
        rng, halves = place.rng("primary"), request.recipe.halves
        losses = train_primary(model, samples, place.settings, rng, epochs, pull, halves=halves)
        if request.recipe.losses:
            numbers["losses"] = losses
    if "meta" in request.phases:
        epochs, rate = place.settings.local_epochs, request.recipe.inner_rate
        train_meta(model, samples, place.settings, place.rng("primary"), epochs, rate)
    if {"primary", "meta"} & set(request.phases):
        trained["primary"] = get_weights(model.primary)
    if "primary" in trained or request.recipe.halves:
        trained["classifier"] = get_weights(model.classifier)
    drifted = place.drifted()
    reply = TrainReply(len(samples), trained, received, choice, numbers, drifted=drifted)
    return Message(reply.encode(request), reply_to=message)


def _choose(place: Workplace, request: TrainRequest) -> tuple[Model, int | None]:
    """Take the candidate of lowest mean loss on the training data, where there are candidates."""
    if not request.candidates:
        return request.parts, None
    model = place.model(request.candidates[0])
    losses = place.losses(model, place.train_samples(model), request.candidates)
    choice = int(torch.stack([each.mean() for each in losses]).argmin())
    return request.parts | request.candidates[choice], choice


def _secondary_phase(
    place: Workplace, model: ClusterModel, samples: Samples, request: TrainRequest
) -> Weights:
    """Train S' in the place of S, and put S back; the classifier's half on S stays trained."""
    if model.secondary is None:
        raise RecordError("the secondary phase needs the part 'secondary'")
    own = get_weights(model.secondary)
    set_weights(model.secondary, request.start_of("shared", None))
    rng = place.rng("secondary")
    epochs, halves = place.settings.local_epochs, request.recipe.halves
    train_secondary(model, samples, place.settings, rng, epochs, halves=halves)
    trained = get_weights(model.secondary)
    set_weights(model.secondary, own)
    return trained


def _pull(recipe: Recipe, model: ClusterModel) -> Pull | None:
    """Make the proximal term, towards the weights received."""
    return Pull.to_present(recipe.proximal, model) if recipe.proximal else None


@app.evaluate()
def evaluate_received(message: Message, context: Context) -> Message:
    """Evaluate the model received on this client's test data, and perhaps once more when tuned."""
    request = EvaluateRequest.decode(message.content)
    place = Workplace.open(context, request.task)
    model = place.model(request.parts)
    if request.adapt_epochs:
        _fit(place, model, request.adapt_epochs, "adapt")
        judged = place.evaluate(model)
    else:
        judged = place.evaluate_received(model, request.parts)
    tuned = None
    if request.tune_epochs:
        _fit(place, model, request.tune_epochs, "fine-tune")
        tuned = place.evaluate(model)
    reply = EvaluateReply(judged, tuned, place.drifted())
    return Message(reply.encode(request.task), reply_to=message)


def _fit(place: Workplace, model: ClusterModel, epochs: int, purpose: str) -> None:
    samples = place.train_samples(model)
    halves = model.secondary is not None and place.settings.classifier_training == "halves"
    train_primary(model, samples, place.settings, place.rng(purpose), epochs, halves=halves)
