"""The ClientApp: each action reads a request, computes on local data, and writes the reply."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from feddag_flwr.aggregation import Weights
from feddag_flwr.data.classes import in_classes
from feddag_flwr.data.images import pixel_moments
from feddag_flwr.data.scenarios import ClientData, load_client_data
from feddag_flwr.metrics import Evaluation
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.flat import get_weights, set_weights
from feddag_flwr.models.registry import build_model
from feddag_flwr.records import (
    Description,
    EvaluateReply,
    EvaluateRequest,
    ProfileRequest,
    RecordError,
    Task,
    TrainReply,
    TrainRequest,
    encode_profile,
)
from feddag_flwr.seeds import derived_seed, generator
from feddag_flwr.settings import Settings
from feddag_flwr.training.device import Samples, check_memory, prepare_device
from feddag_flwr.training.evaluation import evaluate
from feddag_flwr.training.local import train_primary, train_secondary
from feddag_flwr.training.memo import EvaluationMemo
from feddag_flwr.training.profile import make_profile

app = ClientApp()
evaluations = EvaluationMemo()


@dataclass(frozen=True)
class Workplace:
    """What an action needs: settings, this client's data in the federation's classes, a device."""

    settings: Settings
    data: ClientData
    device: torch.device

    @classmethod
    def open(cls, context: Context, task: Task) -> Workplace:
        """Load this client's data for a task.

        Raises
        ------
        RecordError
            The task is meant for another client, or for other images.
        """
        settings = Settings.from_run_config(context.run_config)
        data = load_client_data(settings, context.node_config)
        if data.name != task.client:
            raise RecordError(f"the task is for {task.client!r}, this is {data.name!r}")
        if data.train.images.shape[1:] != task.image_shape:
            raise RecordError(
                f"the task is for images {task.image_shape}, "
                f"client {data.name!r} has {data.train.images.shape[1:]}"
            )
        # A user's own network may draw from PyTorch's global generator (dropout).
        torch.manual_seed(
            derived_seed(settings.seed, "torch", server_round=task.server_round, client=data.name)
        )
        return cls(settings, in_classes(data, task.class_names), prepare_device(settings))

    def model(self, parts: dict[str, Weights], task: Task) -> ClusterModel:
        """Make the cluster model and fill it with the parts received."""
        model = build_model(
            self.settings.model,
            task.image_shape,
            len(task.class_names),
            dual="secondary" in parts,
            seed=self.settings.seed,
        )
        for name, module in model.parts().items():
            if name not in parts:
                raise RecordError(f"the request lacks the part {name!r}")
            set_weights(module, parts[name])
        return model.to(self.device)

    def train_samples(self, model: ClusterModel, task: Task) -> Samples:
        """Copy the training data to the device, if the cap on memory lets it."""
        check_memory(self.settings, self.data.train, model)
        return Samples.on(self.device, self.data.train, task.pixel_scale)

    def evaluate(self, model: ClusterModel, parts: dict[str, Weights], task: Task) -> Evaluation:
        """Evaluate a model, filled with the parts received, on the test data."""
        data = self.data.test
        check_memory(self.settings, data, model)

        def anew() -> Evaluation:
            samples = Samples.on(self.device, data, task.pixel_scale)
            return evaluate(model, samples, len(task.class_names))

        received: dict[str, Weights] = {name: parts[name] for name in model.parts()}
        return evaluations.recall(received, data, task.pixel_scale, anew)

    def rng(self, purpose: str, task: Task) -> np.random.Generator:
        """Return the generator of one draw of this client in this round."""
        return generator(
            self.settings.seed, purpose, server_round=task.server_round, client=task.client
        )


@app.query("describe")
def describe(message: Message, context: Context) -> Message:
    """Introduce this client: name, classes, image shape, sizes."""
    settings = Settings.from_run_config(context.run_config)
    data = load_client_data(settings, context.node_config)
    channels, height, width = data.train.images.shape[1:]
    description = Description(
        data.name,
        data.class_names,
        (channels, height, width),
        len(data.train),
        len(data.test),
        pixel_moments(data.train),
    )
    return Message(description.encode(), reply_to=message)


@app.train("profile")
def profile(message: Message, context: Context) -> Message:
    """Phase 1: warm up, and reply with the sparse update, subspaces, counts and encoder."""
    request = ProfileRequest.decode(message.content)
    place = Workplace.open(context, request.task)
    model = place.model(request.start, request.task)
    made = make_profile(
        model,
        place.data.train,
        place.train_samples(model, request.task),
        place.settings,
        client=request.task.client,
        num_classes=len(request.task.class_names),
        coordinate_seed=request.coordinate_seed,
    )
    return Message(encode_profile(request.task, made), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Phase 5: evaluate the model received, then run the phases asked for.

    Both phases start from the weights as received (the ruling on Eq. 19).
    """
    request = TrainRequest.decode(message.content)
    place = Workplace.open(context, request.task)
    model = place.model(request.parts, request.task)
    samples = place.train_samples(model, request.task)
    received = place.evaluate(model, request.parts, request.task)
    parts: dict[str, Weights] = {}
    epochs = place.settings.local_epochs
    if "secondary" in request.phases:
        if model.secondary is None or "shared" not in request.parts:
            raise RecordError("the secondary phase needs the parts 'secondary' and 'shared'")
        own = get_weights(model.secondary)
        set_weights(model.secondary, request.parts["shared"])
        rng = place.rng("secondary", request.task)
        train_secondary(model, samples, place.settings, rng, epochs)
        parts["shared"] = get_weights(model.secondary)
        set_weights(model.secondary, own)
    if "primary" in request.phases:
        rng = place.rng("primary", request.task)
        train_primary(model, samples, place.settings, rng, epochs)
        parts["primary"] = get_weights(model.primary)
        parts["classifier"] = get_weights(model.classifier)
    reply = TrainReply(len(samples), parts, received)
    return Message(reply.encode(request.task), reply_to=message)


@app.evaluate()
def evaluate_received(message: Message, context: Context) -> Message:
    """Evaluate the model received on this client's test data."""
    request = EvaluateRequest.decode(message.content)
    place = Workplace.open(context, request.task)
    model = place.model(request.parts, request.task)
    reply = EvaluateReply(place.evaluate(model, request.parts, request.task), place.data.true_group)
    return Message(reply.encode(request.task), reply_to=message)
