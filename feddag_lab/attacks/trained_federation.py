"""A federation that has been trained by a real run in this process, and its clients."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from feddag_flwr.checkpoints import newest_checkpoint
from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.modalities import load_modality
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.flat import set_weights
from feddag_flwr.objectives.cross_entropy import CROSS_ENTROPY
from feddag_flwr.records import Model
from feddag_flwr.settings import Settings
from feddag_flwr.simulation import run_in_process
from feddag_flwr.state import ServerState
from feddag_flwr.training.local import chunks, sample_losses
from feddag_lab.attacks.victim import Victim

# What a run is spared: nothing of it is looked at but the models that it ends with.
QUIET: Mapping[str, Any] = {
    "observers": "checkpoints", "checkpoint-every": 1_000_000, "evaluate-every": 1_000_000,
    "evaluate-participants": False, "run-name": "run",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class TrainedFederation:
    """Settings of a run, and how things stood after its last round."""

    settings: Settings
    state: ServerState

    @property
    def clients(self) -> list[Victim]:
        """All clients, each as the server sees it."""
        count, scale = self.settings.run.num_clients, self.state.sample_scale
        return [Victim.of_partition(self.settings, each, scale) for each in range(count)]

    def cluster_of(self, client: Victim) -> int:
        """Return the number of a client's cluster."""
        return self.state.assignments[client.name]

    def model_of(self, client: Victim) -> Model:
        """Return the parts of the model of a client's cluster."""
        return self.state.models[self.cluster_of(client)]


@lru_cache(maxsize=1)
def _trained(config: tuple[tuple[str, Any], ...]) -> TrainedFederation:
    with tempfile.TemporaryDirectory(prefix="feddag-attack-") as folder, _silent():
        settings = Settings.from_run_config({**dict(config), **QUIET, "run-dir": folder})
        state = newest_checkpoint(run_in_process(settings)).state
    return TrainedFederation(settings, state)


def trained_federation(config: Mapping[str, Any]) -> TrainedFederation:
    """Run a federation to its end; the same one asked for again on end is not run again."""
    return _trained(tuple(sorted(config.items())))


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the log of the run to itself, but for errors."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@dataclass(frozen=True, eq=False)
class Judged:
    """What a model says of samples: loss of each, and whether the most likely class is right."""

    losses: Tensor
    right: Tensor


def judged(client: Victim, parts: Model, samples: LabelledSamples) -> Judged:
    """Put samples through the model that these parts make up."""
    model = _filled(client.model(), parts)
    on_device = load_modality("image").to_device(torch.device("cpu"), samples, client.scale)
    losses = sample_losses(model, on_device, CROSS_ENTROPY)
    with torch.no_grad():
        right = [model(inputs).argmax(dim=1) == labels for inputs, labels in chunks(on_device)]
    return Judged(losses, torch.cat(right))


def _filled(model: ClusterModel, parts: Model) -> ClusterModel:
    for name, module in model.parts().items():
        set_weights(module, parts[name])
    return model


def parts_after(before: Model, trained: Model) -> Model:
    """Return a whole model after a client's round: S' in the place of S, the rest as before."""
    after = {**before, **trained}
    if "transfer" in after:
        after["secondary"] = after.pop("transfer")
    return after
