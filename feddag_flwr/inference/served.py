"""A model out of a checkpoint, ready to be given images."""

import difflib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from feddag_flwr.aggregation import Weights
from feddag_flwr.checkpoints import Checkpoint, Choice, chosen_checkpoint
from feddag_flwr.class_names import class_name
from feddag_flwr.data.images.form import ImageForm
from feddag_flwr.data.tables import TableOptions
from feddag_flwr.inference.prepared import RowClassifier, SeriesClassifier
from feddag_flwr.modalities import Rows, SampleSpec
from feddag_flwr.models.dual_encoder import ClusterModel
from feddag_flwr.models.registry import build_model
from feddag_flwr.settings import Settings, SettingsError
from feddag_flwr.state import ServerState

logger = logging.getLogger("flwr")

# How models of each modality take their inputs; those of users' own are not known here.
_CLASSIFIERS: dict[str, Callable[[ClusterModel, Rows], nn.Module]] = {
    "tabular": RowClassifier,
    "embedding": RowClassifier,
    "series": SeriesClassifier,
}
# Names that a message lists at most.
MOST_NAMES = 10


class ChoiceError(ValueError):
    """The run has no such cluster or client, or no model for it."""


class ServedClassifier(nn.Module):
    """A cluster model that standardises its inputs itself, by each channel's mean and deviation."""

    factor: Tensor
    offset: Tensor

    def __init__(self, model: ClusterModel, sample_scale: Rows) -> None:
        super().__init__()
        self.model = model
        scale = torch.tensor(sample_scale, dtype=torch.float64)
        self.register_buffer("factor", (1 / scale[:, 1]).float().reshape(-1, 1, 1))
        self.register_buffer("offset", (-scale[:, 0] / scale[:, 1]).float().reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, channels, height, width), float32 in [0, 1], to logits (n, classes)."""
        logits: Tensor = self.model(torch.addcmul(self.offset, images, self.factor))
        return logits


@dataclass(frozen=True, eq=False)
class Served:
    """A model and what its users must know of it.

    Attributes
    ----------
    classifier : Module
        In evaluation mode, on the CPU; scales its inputs itself.
    class_names : tuple of str
        Label of each logit.
    sample_shape : tuple of int
        Of images (channels, height, width).
    algorithm : str
        That trained it.
    cluster : int
    client : str or None
        Whose model it is, where it was chosen by client.
    personal : bool
        Whether it is this client's alone, not its cluster's.
    server_round : int
        Rounds that it was trained for.
    checkpoint : str
        Checksum of the checkpoint that it comes from.
    modality, sample_details : str
        Kind of the samples, and what else it says of them (`SampleSpec`).
    options : TableOptions
        How tables are read.
    sample_scale : tuple of rows
        By which the classifier scales its inputs.
    """

    classifier: nn.Module
    class_names: tuple[str, ...]
    sample_shape: tuple[int, ...]
    algorithm: str
    cluster: int
    client: str | None
    personal: bool
    server_round: int
    checkpoint: str
    modality: str = "image"
    sample_details: str = ""
    options: TableOptions = field(default_factory=TableOptions)
    sample_scale: Rows = ()

    @property
    def spec(self) -> SampleSpec:
        """What all samples have in common."""
        return SampleSpec(self.sample_shape, self.sample_details)

    @property
    def form(self) -> ImageForm:
        """Channels, height and width of the images that it takes, and bits of deep files."""
        return ImageForm.of(self.spec)


def load_served(
    run_folder: Path,
    *,
    cluster: int | None = None,
    client: str | None = None,
    server_round: Choice = None,
) -> Served:
    """Load a model from a checkpoint of a run, by default the newest that is whole.

    Parameters
    ----------
    run_folder : Path
    cluster, client : optional
        Exactly one of the two: whose model.
    server_round : int or "best", optional
        Which round's, see `chosen_checkpoint`.

    Raises
    ------
    CheckpointError
        The run has no checkpoint that can be used, or none of that round.
    ChoiceError
        There is no such cluster or client, or no model for it.
    ModelError, SettingsError
        The model's architecture cannot be made here.
    """
    if (cluster is None) == (client is None):
        raise ChoiceError("name either a cluster or a client")
    checkpoint = chosen_checkpoint(run_folder, server_round)
    state = checkpoint.state
    own: Mapping[str, Weights] | None = None
    if client is not None:
        cluster = cluster_of(state, client, _placed_apart(checkpoint.notes))
        own = checkpoint.algorithm.models.get(client)
    number = cast(int, cluster)
    if not 0 <= number < state.num_clusters:
        raise ChoiceError(
            f"there is no cluster {number}: the run has {state.num_clusters}, numbered from 0"
        )
    settings = _settings(checkpoint)
    algorithm = settings.run.algorithm
    if algorithm == "per-fedavg":
        logger.warning(
            "per-fedavg: this is the common start, which is meant to be trained a little on a "
            "client's own data first"
        )
    return Served(
        _classifier(checkpoint, settings, state.models[number] if own is None else own),
        tuple(map(class_name, state.class_names)),
        state.sample_shape,
        algorithm,
        number,
        client,
        own is not None,
        checkpoint.server_round,
        checkpoint.checksum,
        settings.data.modality,
        state.sample_details,
        TableOptions.of(settings.data),
        state.sample_scale,
    )


def _placed_apart(notes: Mapping[str, Any]) -> dict[str, int]:
    """Return the clusters of clients that take no part: held out, or without labels."""
    unlabelled = {name: int(each["cluster"]) for name, each in notes.get("unlabelled", {}).items()}
    return {**notes.get("placements", {}), **unlabelled}


def cluster_of(state: ServerState, client: str, placements: Mapping[str, int]) -> int:
    """Return a client's cluster; `placements` has those of clients that training has not seen.

    `ChoiceError` where the client is unknown, with names like it, or has no cluster.
    """
    if client in state.assignments:
        return state.assignments[client]
    if client in placements:
        return placements[client]
    if client in state.clients:
        raise ChoiceError(f"client {client!r} has no cluster: nothing came to place it by")
    names = sorted(state.assignments.keys() | placements.keys())
    near = difflib.get_close_matches(client, names, n=3, cutoff=0.6)
    if near:
        hint = "did you mean " + " or ".join(map(repr, near)) + "?"
    else:
        more = f", .. ({len(names)} in all)" if len(names) > MOST_NAMES else ""
        hint = f"there are {', '.join(map(repr, names[:MOST_NAMES]))}{more}"
    raise ChoiceError(f"there is no client {client!r}; {hint}")


def _settings(checkpoint: Checkpoint) -> Settings:
    try:
        return Settings.from_run_config(checkpoint.settings)
    except SettingsError as error:
        raise SettingsError(f"settings of the checkpoint: {error}") from None


def _classifier(
    checkpoint: Checkpoint, settings: Settings, weights: Mapping[str, Weights]
) -> nn.Module:
    state, modality = checkpoint.state, settings.data.modality
    if modality != "image" and modality not in _CLASSIFIERS:
        raise ChoiceError(
            f"the run's modality is {modality}: only models of image, "
            f"{', '.join(_CLASSIFIERS)} are put to use so"
        )
    model = build_model(
        settings.training.model,
        state.sample_shape,
        len(state.class_names),
        dual="secondary" in weights,
        seed=settings.run.seed,
        modality=modality,
        details=state.sample_details,
        normalisation=settings.training.normalisation_layer,
    )
    tensors = checkpoint.layout.named(weights)
    try:
        model.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
    except RuntimeError as error:
        raise ChoiceError(
            f"setting model = {settings.training.model!r} makes another network than "
            f"the run's: {error}"
        ) from error
    return _CLASSIFIERS.get(modality, ServedClassifier)(model, state.sample_scale).eval()
