"""From the settings to a run that is ready to start, or to go on."""

from __future__ import annotations

import torch

from feddag_flwr.algorithm_names import algorithm_class
from feddag_flwr.checkpoints import Checkpoint, check_continuation, newest_checkpoint
from feddag_flwr.engine.aggregator import make_aggregator
from feddag_flwr.engine.strategy import ClusteredStrategy
from feddag_flwr.engine.watchers import Watchers
from feddag_flwr.federation.context import FederationContext
from feddag_flwr.metrics import load_metrics, metric_names
from feddag_flwr.modalities import Modality, SampleSpec
from feddag_flwr.models.backbones import backbone_name
from feddag_flwr.models.freezing import freeze_encoder
from feddag_flwr.models.pretrained import matched, read_tensors, weights_file
from feddag_flwr.models.registry import build_encoder, imported_encoder
from feddag_flwr.models.sample_by_sample import check_sample_by_sample
from feddag_flwr.privacy.budget import check_installed
from feddag_flwr.registries import (
    AGGREGATORS,
    AUGMENTATIONS,
    MODALITIES,
    OBJECTIVES,
    OBSERVERS,
    OPTIMISERS,
    POSTPROCESSORS,
    TRAINERS,
)
from feddag_flwr.registry import RegistryError, name_list
from feddag_flwr.run_folder import RunFolder
from feddag_flwr.settings import Settings
from feddag_flwr.subspace_view import make_view, view_name

# Height and width of the images that torchvision's networks are pretrained on.
USUAL_SIDE = 224


def import_parts(settings: Settings) -> None:
    """Import what the settings name that only clients use, or that is used late.

    Raises
    ------
    RegistryError, ModelError, SettingsError
        Of the first that cannot be imported.
    """
    training = settings.training
    check_installed(settings.privacy)
    load_metrics(metric_names(settings.run.metrics))
    modality = MODALITIES.load_class(settings.data.modality)
    if training.augmentation != "none" and modality.augment is Modality.augment:
        raise RegistryError(
            f"setting augmentation = {training.augmentation!r}: must be 'none' with "
            f"modality = {settings.data.modality!r}"
        )
    AUGMENTATIONS.load(training.augmentation)
    OBJECTIVES.load(training.objective)
    OPTIMISERS.load(training.optimiser)
    TRAINERS.load(training.trainer)
    if backbone_name(training.model):
        _check_backbone(settings)
    elif training.model.count(":") == 1:
        imported_encoder(training.model)
    if settings.profile.view == "encoder":
        side = settings.data.image_size or USUAL_SIDE
        make_view(view_name(settings.profile), "image", SampleSpec((3, side, side)), 0)
    if training.encoder_weights and not backbone_name(training.model):
        read_tensors(weights_file(training.encoder_weights))


def check_parts(settings: Settings) -> None:
    """Import all parts that the settings name, as a run does, without starting one.

    Raises
    ------
    RegistryError, ModelError
        Of the first that cannot be used.
    """
    import_parts(settings)
    run = settings.run
    algorithm_class(run.algorithm)
    AGGREGATORS.load(run.aggregator)
    for registry, names in ((POSTPROCESSORS, run.postprocessors), (OBSERVERS, run.observers)):
        for name in name_list(names):
            registry.load(name)


def _check_backbone(settings: Settings) -> None:
    """Make a network of torchvision once, and look whether ``encoder-weights`` is of it.

    Of other encoders that is known once samples have a shape, before anybody trains.
    """
    training, side = settings.training, settings.data.image_size or USUAL_SIDE
    with torch.random.fork_rng(devices=[]):
        encoder = build_encoder(
            training.model, (3, side, side), normalisation=training.normalisation_layer
        )
    if settings.privacy.training_on:
        freeze_encoder(encoder, name_list(training.frozen_layers))
        check_sample_by_sample(training.model, encoder, torch.zeros(2, 3, side, side))
    if training.encoder_weights:
        path = weights_file(training.encoder_weights)
        matched(encoder, read_tensors(path), path)


def build_strategy(
    settings: Settings, folder: RunFolder, checkpoint: Checkpoint | None = None
) -> ClusteredStrategy:
    """Make the strategy that the settings name, perhaps to go on from a checkpoint."""
    import_parts(settings)
    context = FederationContext(settings, folder, make_aggregator(settings))
    algorithm = algorithm_class(settings.run.algorithm)(context)
    observers = Watchers(name_list(settings.run.observers))
    return ClusteredStrategy(context, algorithm, observers, checkpoint)


def open_run(settings: Settings) -> ClusteredStrategy:
    """Make the strategy of a new run, or of the stopped one that the setting ``resume`` names.

    Raises
    ------
    SettingsError
        ``resume`` names no run folder, or the stopped run had other settings.
    CheckpointError
        The stopped run has no checkpoint that can be used.
    RunFolderInUseError, FileExistsError
        The run to resume is not stopped; a run of that name has been there already.
    """
    if not settings.run.resume:
        return build_strategy(settings, RunFolder(settings))
    folder = RunFolder.of_stopped_run(settings)
    try:
        checkpoint = newest_checkpoint(folder.path)
        check_continuation(checkpoint.settings, settings.to_run_config(), checkpoint.server_round)
        strategy = build_strategy(settings, folder, checkpoint)
        folder.go_back(checkpoint.server_round)  # last: what is refused leaves the files alone
        return strategy
    except BaseException:
        folder.release()
        raise
