"""How a client introduces itself: name, classes, samples, sizes."""

from __future__ import annotations

from feddag_flwr.data.client import ClientData
from feddag_flwr.data.outline import Outline
from feddag_flwr.data.settings import class_list
from feddag_flwr.modalities import load_modality
from feddag_flwr.records import Description
from feddag_flwr.settings import Settings


def introduce(data: ClientData, settings: Settings, joins_in: int = 0) -> Description:
    """Describe a client by its data; `joins_in` is the round from which it takes part.

    Where profiles are private, no sample has a say in it.
    """
    modality = load_modality(settings.data.modality)
    spec = data.spec_by(modality)
    told = Description(
        data.name,
        data.class_names,
        spec.shape,
        len(data.train),
        len(data.test),
        modality.moments(data.train.samples),
        data.true_group,
        joins_in,
        settings.data.modality,
        spec.details,
        data.files_left_out,
    )
    return told.without_samples() if settings.privacy.on else told


def introduce_outline(outline: Outline, settings: Settings, joins_in: int = 0) -> Description:
    """Describe a client whose images are not decoded yet, so without their moments."""
    told = Description(
        outline.name,
        class_list(settings.data.class_names) or outline.class_names,
        outline.spec.shape,
        outline.train,
        outline.test,
        (),
        None,
        joins_in,
        settings.data.modality,
        outline.spec.details,
        outline.files_left_out,
    )
    return told.without_samples() if settings.privacy.on else told
