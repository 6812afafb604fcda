"""Models of samples that are no images, which scale their inputs themselves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from feddag_flwr.modalities import Rows
from feddag_flwr.models.dual_encoder import ClusterModel


class RowClassifier(nn.Module):
    """A model of rows of tables, or of embeddings.

    It takes float32 rows (n, d) that are not scaled yet, NaN where a number is missing, and gives
    logits (n, classes).
    """

    means: Tensor
    deviations: Tensor

    def __init__(self, model: ClusterModel, sample_scale: Rows) -> None:
        super().__init__()
        self.model = model
        scale = torch.tensor(sample_scale, dtype=torch.float64).float()
        self.register_buffer("means", scale[:, 0].contiguous())
        self.register_buffer("deviations", scale[:, 1].contiguous())

    def forward(self, rows: Tensor) -> Tensor:
        """Scale rows, fill their holes, and classify them."""
        logits: Tensor = self.model(
            torch.nan_to_num((rows - self.means) / self.deviations, nan=0.0)
        )
        return logits


class SeriesClassifier(RowClassifier):
    """A model of series, which takes float32 (n, steps, channels + 1).

    The last channel is 1 on a series' own steps and 0 behind its end, where all else is 0.
    """

    def forward(self, series: Tensor) -> Tensor:
        """Scale series, and classify them."""
        mask = series[:, :, -1:]
        steps = (series[:, :, :-1] - self.means) / self.deviations * mask
        logits: Tensor = self.model(torch.cat([steps, mask], dim=2))
        return logits
