"""A client as the server sees it: its own code answers real messages, which the server reads."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from flwr.app import Message

from feddag_flwr.algorithms.feddag.messages import (
    PHASES,
    DualTrainRequest,
    PrivateProfileRequest,
    ProfileRequest,
)
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.data.scenarios import load_client_data
from feddag_flwr.local_training import LocalTrainingConfig
from feddag_flwr.metrics import metric_names
from feddag_flwr.modalities import Rows, load_modality
from feddag_flwr.models.flat import get_parts
from feddag_flwr.models.registry import build_model
from feddag_flwr.records import Limits, Model, Request, RequestHeader, TrainReply
from feddag_flwr.settings import Settings
from feddag_flwr.simulation import InProcessGrid, load_client_app
from feddag_flwr.simulation.grid import FIRST_NODE, NodeConfig, partitions
from feddag_flwr.subspace_view import view_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from feddag_flwr.models.dual_encoder import ClusterModel
    from feddag_flwr.profile import Profile

ROUND = 1

Reply = TypeVar("Reply")


class NoReplyError(RuntimeError):
    """A client refused a request that an attack rests on."""


@dataclass(frozen=True)
class Training:
    """One round of a client, as the server has it.

    Attributes
    ----------
    received : dict of str to Weights
        The model as the client got it: rounded, where it travels in half precision.
    reply : TrainReply
        What came back, as the server reads it.
    """

    received: Model
    reply: TrainReply


@dataclass(frozen=True)
class Victim:
    """One client of a federation, asked through the app's own messages.

    Attributes
    ----------
    settings : Settings
        Those of the run: client and server have the same.
    grid : InProcessGrid
        Writes and reads messages as on the wire.
    partition : int
        Which of the grid's nodes it is.
    scale : Rows
        How pixels become inputs, by the federation's moments; all its members know it.
    """

    settings: Settings
    grid: InProcessGrid
    partition: int
    name: str
    class_names: tuple[str, ...]
    shape: tuple[int, ...]
    scale: Rows
    train_part: LabelledSamples
    test_part: LabelledSamples

    @classmethod
    def of_partition(cls, settings: Settings, partition: int, scale: Rows) -> Victim:
        """Take one of the clients to whom a scenario deals a data set out."""
        configs = partitions(settings, settings.run.num_clients)
        return cls._of(settings, configs, partition, scale)

    @classmethod
    def _of(
        cls, settings: Settings, configs: Sequence[NodeConfig], partition: int, scale: Rows
    ) -> Victim:
        data = load_client_data(settings, configs[partition])
        grid = InProcessGrid(load_client_app(), settings, configs)
        return cls(
            settings, grid, partition, data.name, data.class_names,
            tuple(data.train.samples.shape[1:]), scale, data.train, data.test,
        )  # fmt: skip

    @property
    def separate_heads(self) -> bool:
        """Whether each encoder is trained with its own half of the classifier."""
        sharing = self.settings.sharing
        return sharing.dual and sharing.classifier_training == "separate"

    def header(self, server_round: int = ROUND) -> RequestHeader:
        """Return the common part of a request."""
        return RequestHeader(
            self.name,
            server_round,
            self.class_names,
            self.shape,
            self.scale,
            self.settings.run.transport,
            metrics=metric_names(self.settings.run.metrics),
        )

    def model(self) -> ClusterModel:
        """Make the run's model with the start that all share."""
        return self._model(dual=self.settings.sharing.dual)

    def single_model(self) -> ClusterModel:
        """Make the model that profiles start from: one encoder."""
        return self._model(dual=False)

    def _model(self, *, dual: bool) -> ClusterModel:
        training = self.settings.training
        return build_model(
            training.model, self.shape, len(self.class_names), dual=dual,
            seed=self.settings.run.seed,
        )  # fmt: skip

    def train(self, parts: Model, server_round: int = ROUND) -> Training:
        """Have the client train a model for a round, both phases of it."""
        sharing = self.settings.sharing
        request = DualTrainRequest(
            self.header(server_round),
            parts,
            PHASES if sharing.dual else PHASES[:1],
            LocalTrainingConfig.of(self.settings.training),
            self.separate_heads,
            self.settings.training.diversity,
        )
        received = DualTrainRequest.decode(request.encode()).parts
        return Training(received, self._ask(request))

    def profile(self) -> Profile:
        """Have the client make its profile, a private one where the settings say so."""
        settings = self.settings
        if settings.privacy.on:
            private = PrivateProfileRequest(self.header(0), settings.privacy.profile_dimensions)
            return self._ask(private)
        return self._ask(
            ProfileRequest(
                self.header(0),
                get_parts(self.single_model()),
                settings.run.seed,
                settings.profile.gradient_fraction,
                settings.profile.warmup_rounds,
                LocalTrainingConfig.of(settings.training).with_epochs(
                    settings.profile.warmup_epochs
                ),
            )
        )

    def _ask(self, request: Request[Reply]) -> Reply:
        message = Message(request.encode(), FIRST_NODE + self.partition, request.action)
        (message_id,) = self.grid.push_messages([message])
        for reply in self.grid.pull_messages([message_id]):
            if reply.has_error():
                raise NoReplyError(f"client {self.name!r}: {reply.error.reason}")
            return request.read_reply(reply.content, self._limits())
        raise NoReplyError(f"client {self.name!r} did not reply to {request.action}")

    def _limits(self) -> Limits:
        settings = self.settings
        return Limits(
            settings.deployment.max_client_samples,
            settings.run.evaluate_participants,
            settings.profile.subspace_size,
            settings.data.modality,
            view_name(settings.profile),
        )


@contextmanager
def client_with(
    images: LabelledSamples,
    class_names: Sequence[str],
    scale: Rows,
    config: Mapping[str, Any],
    test: LabelledSamples | None = None,
) -> Iterator[Victim]:
    """Make a client that holds these images of a common data set, for as long as the block lasts.

    They lie in an archive as an owner would have them (scenario own). `config` has the settings of
    the run beside that.
    """
    with tempfile.TemporaryDirectory(prefix="feddag-attack-") as folder:
        arrays: dict[str, Any] = {}
        for part, samples in (("train", images), ("test", images if test is None else test)):
            arrays[f"{part}_images"] = np.ascontiguousarray(samples.samples.transpose(0, 2, 3, 1))
            arrays[f"{part}_labels"] = samples.labels
        for name in ("victim", "witness"):  # a federation has two clients at least
            np.savez(Path(folder) / f"{name}.npz", class_names=np.array(class_names), **arrays)
        own: dict[str, Any] = {
            "scenario": "own", "dataset": "npz", "data-dir": folder, "num-clients": 2,
            "class-names": ", ".join(class_names),
        }  # fmt: skip
        settings = Settings.from_run_config({**config, **own})
        yield Victim._of(settings, partitions(settings, 2), 0, scale)


def scale_of(samples: LabelledSamples) -> Rows:
    """Return the scale of a federation that holds these images."""
    modality = load_modality("image")
    spec = modality.spec(samples.samples)
    return modality.scale(spec, [modality.moments(samples.samples)], np.ones(1))
