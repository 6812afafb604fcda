"""FedDAG on the client: the profile (phase 1), both phases of training, and fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flwr.app import Context, RecordDict
from numpy.typing import NDArray

from feddag_flwr.algorithms.feddag.local_training import PrimaryPhase, SecondaryPhase
from feddag_flwr.algorithms.feddag.messages import (
    DirectionsRequest,
    DualEvaluateRequest,
    DualTrainRequest,
    FullProfileRequest,
    PrivateProfileRequest,
    ProfileRequest,
    encode_directions,
    encode_profile,
    private_arrays,
)
from feddag_flwr.client.action import Action, Training
from feddag_flwr.client.actions import judge
from feddag_flwr.client.privacy import said_once
from feddag_flwr.client.session import ClientSession
from feddag_flwr.models.flat import get_parts, get_weights, set_weights
from feddag_flwr.records import Model, RecordError, TrainReply
from feddag_flwr.seeds import generator
from feddag_flwr.trainers.whole_model import WholeModel
from feddag_flwr.training.private_profile import private_profile
from feddag_flwr.training.profile import leading_directions, make_profile


def profile(content: RecordDict, context: Context) -> Training:
    """Phase 1: warm up, and reply with the sparse update, subspaces, counts and encoder."""
    return (yield from _profile(ProfileRequest.decode(content), context))


def full_profile(content: RecordDict, context: Context) -> Training:
    """Phase 1 with more of the data: its leading directions, or how its classes look."""
    return (yield from _profile(FullProfileRequest.decode(content), context))


def directions(content: RecordDict, context: Context) -> RecordDict:
    """Reply with the leading directions of all samples, which need no labels."""
    request = DirectionsRequest.decode(content)
    session = ClientSession.open(context, request.header)
    session.check_not_private("principal vector without noise")
    found = leading_directions(
        session.data.train.samples,
        session.settings,
        request.header.client,
        request.header.sample_scale,
        request.header.spec,
    )
    return encode_directions(request.header, found)


def private(content: RecordDict, context: Context) -> RecordDict:
    """Reply with noisy counts and subspaces; asked again in the same run, with the same ones."""
    request = PrivateProfileRequest.decode(content)
    header, session = request.header, ClientSession.open(context, request.header)
    own = session.settings.privacy
    if not own.profile_on or own.profile_dimensions != request.dimensions:
        raise RecordError(
            f"the request has profile-dimensions = {request.dimensions}, this client has "
            f"{own.profile_dimensions} with profile-epsilon = {own.profile_epsilon:g}"
        )

    def made() -> dict[str, NDArray[Any]]:
        return private_arrays(
            private_profile(
                session.data.train,
                session.settings,
                len(header.class_names),
                header.sample_scale,
                header.spec,
            )
        )

    asked = repr((header.class_names, header.sample_scale, header.spec))
    return header.reply(arrays=said_once(context, session.data.train, asked, made))


def _profile(request: ProfileRequest, context: Context) -> Training:
    session = ClientSession.open(context, request.header)
    session.check_not_private("profile without noise")
    model, settings = session.model(request.start), session.settings
    before, samples = get_parts(model), session.train_samples(model)
    for warmup_round in range(request.warmup_rounds):
        rng = generator(
            settings.run.seed, "warm-up", server_round=warmup_round, client=request.header.client
        )
        yield session.job(model, samples, request.config, WholeModel(), rng)
    made = make_profile(
        before,
        get_parts(model),
        session.data.train,
        settings,
        client=request.header.client,
        num_classes=len(request.header.class_names),
        coordinate_seed=request.coordinate_seed,
        gradient_fraction=request.gradient_fraction,
        scale=request.header.sample_scale,
        spec=request.header.spec,
        directions=isinstance(request, FullProfileRequest) and request.directions,
        looks=isinstance(request, FullProfileRequest) and request.looks,
    )
    return encode_profile(request.header, made, request.start["primary"])


def train(content: RecordDict, context: Context) -> Training:
    """Phase 5: evaluate the model received, then run the phases asked for.

    All phases start from the weights as received (the ruling on Eq. 19): S' is trained in the place
    of S, which is put back; the classifier's half on S stays trained.
    """
    request = DualTrainRequest.decode(content)
    session = ClientSession.open(context, request.header)
    model = session.model(request.parts)
    samples = session.train_samples(model)
    received = session.judge_received(model, request.parts)
    trained: Model = {}
    losses = None
    if "secondary" in request.phases:
        if model.secondary is None:
            raise RecordError("the secondary phase needs the part 'secondary'")
        own = get_weights(model.secondary)
        set_weights(model.secondary, request.transfer_start())
        method = SecondaryPhase(request.separate_heads)
        yield session.job(model, samples, request.config, method, session.rng("secondary"))
        trained["transfer"] = get_weights(model.secondary)
        set_weights(model.secondary, own)
    if "primary" in request.phases:
        phase = PrimaryPhase(request.separate_heads, request.diversity)
        result = yield session.job(model, samples, request.config, phase, session.rng("primary"))
        losses = result.losses if request.config.report_losses else None
        trained["primary"] = get_weights(model.primary)
    starts = request.starts()
    if "classifier" in starts:
        trained["classifier"] = get_weights(model.classifier)
    told = session.samples_told(samples, request.config)
    reply = TrainReply(told, trained, starts, received, losses, session.drifted())
    return session.encode(reply)


def evaluate(content: RecordDict, context: Context) -> Training:
    """Evaluate a dual-encoder model, and once more when its P and K are fine-tuned."""
    request = DualEvaluateRequest.decode(content)
    session = ClientSession.open(context, request.header)
    method = PrimaryPhase(request.separate_heads, request.diversity)
    return (yield from judge(request, session, method))


ACTIONS: Mapping[str, Action] = {
    "train.profile": profile,
    "train.full_profile": full_profile,
    "query.directions": directions,
    "query.private_profile": private,
    "train.dual": train,
    "evaluate.dual": evaluate,
}
