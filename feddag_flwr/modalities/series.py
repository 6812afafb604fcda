"""Series of numbers over time, each of its own length."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from feddag_flwr.data.cells import number_in_words, unusable_numbers
from feddag_flwr.data.samples import DataError, LabelledSamples
from feddag_flwr.modalities.base import Rows, SampleSpec
from feddag_flwr.modalities.numbers import (
    mean_rows,
    scaled,
)
from feddag_flwr.modalities.scaled_numbers import ScaledNumbers
from feddag_flwr.models.series import SeriesEncoder
from feddag_flwr.training.device import Samples

# Stretches of equal time that phase 1 cuts a series into.
STRETCHES = 16


class Series(ScaledNumbers):
    """Series of shape (n, steps, channels), held as float32, NaN behind the end of each.

    Clients need not agree on the number of steps: the shape of a sample is its channels alone. A
    model's input is (n, steps, channels + 1), scaled, with 0 behind the end; the last channel is 1
    on a series' own steps and 0 behind them. Moments are mean and mean square of each channel over
    all steps that are there. The subspaces are of the means over 16 stretches of equal time.
    """

    array = "series"
    noun = "series"
    unit = "channels"

    def accept(self, samples: NDArray[Any], where: str) -> NDArray[Any]:
        """Take (n, steps) or (n, steps, channels), NaN behind the end of shorter series."""
        series = samples[..., np.newaxis] if samples.ndim == 2 else samples
        if series.ndim != 3 or series.dtype.kind not in "fiu" or 0 in series.shape[1:]:
            raise DataError(
                f"{where} is {samples.dtype} of shape {samples.shape}; expected numbers of shape "
                "(n, steps) or (n, steps, channels)"
            )
        _check_steps(series, where)
        return series.astype(np.float32)

    def spec(self, samples: NDArray[Any]) -> SampleSpec:
        """Return the number of channels."""
        return SampleSpec((samples.shape[2],))

    def in_words(self, spec: SampleSpec) -> str:
        """Write the number of channels."""
        return f"series with {spec.shape[0]} channel(s)"

    def moments(self, samples: NDArray[Any]) -> Rows:
        """Return each channel's mean and mean square."""
        return mean_rows(samples[~np.isnan(samples[:, :, 0])])

    def to_device(self, device: torch.device, data: LabelledSamples, scale: Rows) -> Samples:
        """Copy scaled series with their mask to `device`."""
        there = ~np.isnan(data.samples[:, :, :1])
        values = np.where(there, scaled(data.samples, scale), 0.0)
        inputs = np.concatenate([values, there], axis=2).astype(np.float32)
        labels = torch.from_numpy(data.labels).to(device)
        return Samples(torch.from_numpy(inputs).to(device), labels)

    def device_bytes(self, samples: NDArray[Any]) -> int:
        """Bytes of the series and their mask."""
        count, steps, channels = map(int, samples.shape)
        return 4 * count * steps * (channels + 1)

    def subspace_matrix(self, samples: NDArray[Any], scale: Rows) -> NDArray[np.float64]:
        """Return each series' means over stretches of equal time, scaled."""
        values = scaled(samples, scale)
        rows = [
            _stretched(series[:length])
            for series, length in zip(values, lengths_of(samples).tolist(), strict=True)
        ]
        return np.stack(rows)

    def subspace_features(self, spec: SampleSpec) -> int:
        """Return stretches times channels."""
        return STRETCHES * spec.shape[0]

    def default_encoder(self, spec: SampleSpec) -> nn.Module:
        """Make a small convolutional network."""
        return SeriesEncoder(spec.shape[0])

    def example(self, spec: SampleSpec, count: int) -> Tensor:
        """Return series of zeros of 16 steps, all there."""
        series = torch.zeros(count, STRETCHES, spec.shape[0] + 1)
        series[:, :, -1] = 1.0
        return series


def lengths_of(samples: NDArray[Any]) -> NDArray[np.int64]:
    """Count the steps of each series (n, steps, channels) before its padding."""
    lengths: NDArray[np.int64] = (~np.isnan(samples[:, :, 0])).sum(axis=1)
    return lengths


def _stretched(series: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return means over stretches that cover a series (steps, channels), as adaptive pooling."""
    edges = np.arange(STRETCHES + 1) * len(series) / STRETCHES
    starts, ends = np.floor(edges[:-1]).astype(int), np.ceil(edges[1:]).astype(int)
    means = [series[start:end].mean(axis=0) for start, end in zip(starts, ends, strict=True)]
    return np.concatenate(means)


def _check_steps(series: NDArray[Any], where: str) -> None:
    """Refuse infinite numbers, holes before the end, and series without a step."""
    if (wrong := np.argwhere(unusable_numbers(series))).size:
        number, step, channel = wrong[0]
        raise DataError(
            f"{where}: series {number}, step {step} (counted from 0) "
            f"{number_in_words(series[number, step, channel])}; mend it or leave the series out"
        )
    there = ~np.isnan(series).any(axis=2)
    lengths = there.sum(axis=1)
    if (empty := np.flatnonzero(lengths == 0)).size:
        raise DataError(
            f"{where}: series {empty[0]} has no step (counted from 0); leave it out, with its label"
        )
    padding = np.arange(series.shape[1]) >= lengths[:, np.newaxis]
    broken = np.argwhere((there == padding) | (np.isnan(series).all(axis=2) != padding))
    if broken.size:
        number, step = broken[0]
        raise DataError(
            f"{where} is NaN in series {number}, step {step} (counted from 0), before its end; "
            "fill the hole, or cut the series there"
        )
