"""Vectors that another model has made: of texts, sounds, images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from feddag_flwr.data.cells import unusable_numbers
from feddag_flwr.data.samples import DataError, LabelledSamples
from feddag_flwr.modalities.base import Rows, SampleSpec
from feddag_flwr.modalities.numbers import (
    mean_rows,
    scaled,
)
from feddag_flwr.modalities.scaled_numbers import ScaledNumbers
from feddag_flwr.models.tabular import MlpEncoder
from feddag_flwr.training.device import Samples


class Embedding(ScaledNumbers):
    """Embeddings (n, d), held as float32, scaled by mean and deviation of each of the d numbers.

    Moments are mean and mean square of each. The subspaces are of the scaled numbers.
    """

    array = "embeddings"
    noun = "embedding"
    unit = "numbers"

    def accept(self, samples: NDArray[Any], where: str) -> NDArray[Any]:
        """Take finite numbers of shape (n, d)."""
        if samples.ndim != 2 or samples.dtype.kind not in "fiu" or not samples.shape[1]:
            raise DataError(
                f"{where} is {samples.dtype} of shape {samples.shape}; expected numbers of shape "
                "(n, d)"
            )
        broken = np.flatnonzero((unusable_numbers(samples) | np.isnan(samples)).any(axis=1))
        if broken.size:
            raise DataError(
                f"{where}: {broken.size} of {len(samples)} have NaN, infinite or too large "
                f"numbers, the first is number {broken[0]} (counted from 0); compute it anew or "
                "leave it out"
            )
        return samples.astype(np.float32)

    def in_words(self, spec: SampleSpec) -> str:
        """Write the length."""
        return f"{spec.shape[0]} numbers"

    def moments(self, samples: NDArray[Any]) -> Rows:
        """Return mean and mean square of each number."""
        return mean_rows(samples)

    def to_device(self, device: torch.device, data: LabelledSamples, scale: Rows) -> Samples:
        """Copy scaled embeddings to `device`."""
        rows = torch.from_numpy(scaled(data.samples, scale).astype(np.float32))
        return Samples(rows.to(device), torch.from_numpy(data.labels).to(device))

    def subspace_matrix(self, samples: NDArray[Any], scale: Rows) -> NDArray[np.float64]:
        """Return the scaled embeddings."""
        return scaled(samples, scale)

    def subspace_features(self, spec: SampleSpec) -> int:
        """Return their length."""
        return spec.shape[0]

    def default_encoder(self, spec: SampleSpec) -> nn.Module:
        """Make ``mlp``; the setting ``model`` also takes ``linear``."""
        return MlpEncoder(spec.shape)
