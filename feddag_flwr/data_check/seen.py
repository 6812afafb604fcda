"""A client's data as its models and the server see it, as if nobody else were in the federation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from feddag_flwr.data.classes import in_spec
from feddag_flwr.data.client import ClientData
from feddag_flwr.modalities import Modality, Rows, SampleSpec, load_modality
from feddag_flwr.settings import Settings


class SeenData(NamedTuple):
    """Data in the form that a model gets, but for the scale, which it has beside it."""

    data: ClientData
    modality: Modality
    spec: SampleSpec
    scale: Rows


def seen_spec(data: ClientData, settings: Settings) -> SampleSpec:
    """Return the federation's spec, as if nobody else were in it."""
    modality = load_modality(settings.data.modality)
    return modality.agreed([data.spec_by(modality)], np.ones(1))


def as_seen(data: ClientData, settings: Settings) -> SeenData:
    """Bring a client's data, as it was read, to the form that a model gets."""
    modality = load_modality(settings.data.modality)
    own, spec = data.spec_by(modality), seen_spec(data, settings)
    if settings.data.standardise:
        moments = modality.moments_in(spec, own, modality.moments(data.train.samples))
        scale = modality.scale(spec, [moments], np.ones(1))
    else:
        scale = modality.plain_scale(spec)
    return SeenData(in_spec(data, spec, modality), modality, spec, scale)
