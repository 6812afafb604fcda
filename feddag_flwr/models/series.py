"""The encoder of series of their own lengths."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH = 32
KERNEL = 5


class SeriesEncoder(nn.Module):
    """Two one-dimensional convolutions, then mean and maximum over the steps that are there.

    A series is (steps, channels + 1): the last channel is 1 on its own steps and 0 behind its end.
    What stands behind the end has no say: the features of a padded series are those of the series.
    """

    feature_size = 64

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(channels, WIDTH, KERNEL, padding=KERNEL // 2)
        self.second = nn.Conv1d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2)
        self.features = nn.Linear(2 * WIDTH, self.feature_size)

    def forward(self, series: Tensor) -> Tensor:
        """Map series (n, steps, channels + 1) to features (n, 64)."""
        mask = series[:, :, -1:].transpose(1, 2)
        steps = series[:, :, :-1].transpose(1, 2) * mask
        # Zeros behind the end are what a convolution sees beyond the end of a series by itself.
        steps = torch.relu(self.first(steps)) * mask
        steps = torch.relu(self.second(steps)) * mask
        mean = steps.sum(dim=2) / mask.sum(dim=2).clamp(min=1.0)
        features: Tensor = torch.relu(self.features(torch.cat([mean, steps.amax(dim=2)], dim=1)))
        return features
