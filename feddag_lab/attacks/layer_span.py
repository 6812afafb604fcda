"""The span of the update of an encoder's first linear layer, and what lies in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from feddag_flwr.data.samples import LabelledSamples
from feddag_flwr.modalities import load_modality
from feddag_flwr.models.flat import set_weights
from feddag_flwr.records import Model
from feddag_lab.attacks.victim import Victim


@dataclass(frozen=True, eq=False)
class LayerSpan:
    """What comes before the layer, and directions (r, d) of its inputs, orthonormal rows."""

    front: nn.Module
    directions: NDArray[np.float64]
    client: Victim

    def outside_of_span(self, samples: LabelledSamples) -> NDArray[np.float64]:
        """Return the share of the length of each sample's features that no direction has."""
        modality, device = load_modality("image"), torch.device("cpu")
        inputs = modality.to_device(device, samples, self.client.scale).inputs(slice(None))
        with torch.no_grad():
            features = self.front(inputs).flatten(1).double().numpy()
        inside = np.square(features @ self.directions.T).sum(axis=1)
        whole = np.maximum(np.square(features).sum(axis=1), np.finfo(np.float64).tiny)
        shares: NDArray[np.float64] = np.sqrt(np.maximum(1 - inside / whole, 0))
        return shares


def first_linear(encoder: nn.Module) -> int:
    """Return the place of an encoder's first linear layer among its modules."""
    return next(at for at, each in enumerate(encoder.children()) if isinstance(each, nn.Linear))


def spans_of(
    client: Victim, received: Model, moved: Mapping[str, NDArray[np.float32]], images: int
) -> list[LayerSpan]:
    """Take the spans from an update, of the primary encoder and of the secondary one.

    Each has as many directions as there are images, or as the layer has units if these are fewer.

    Parameters
    ----------
    received : dict of str to Weights
        The model that was trained.
    moved : mapping of str to ndarray
        How far training moved ``primary`` and, where there is a secondary encoder, ``transfer``:
        that of one client, or a sum of several.
    images : int
        On how many it was trained.
    """
    model = client.model()
    encoders = {"primary": (model.primary, "primary")}
    if model.secondary is not None:
        encoders["transfer"] = (model.secondary, "secondary")
    spans = []
    for part, (encoder, before) in encoders.items():
        set_weights(encoder, received[before])
        place, modules = first_linear(encoder), list(encoder.children())
        weight = _parameter(encoder, moved[part], f"{place}.weight")
        count = min(images, len(weight))
        directions = np.linalg.svd(weight, full_matrices=False)[2][:count]
        spans.append(LayerSpan(nn.Sequential(*modules[:place]), directions, client))
    return spans


def _parameter(encoder: nn.Module, update: NDArray[np.float32], wanted: str) -> NDArray[np.float64]:
    """Return how far one parameter of an encoder moved, from the flat update."""
    start = 0
    for name, parameter in encoder.named_parameters():
        if name == wanted:
            piece = update[start : start + parameter.numel()]
            return piece.reshape(parameter.shape).astype(np.float64)
        start += parameter.numel()
    raise KeyError(wanted)
