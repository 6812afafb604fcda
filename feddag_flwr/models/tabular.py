"""Encoders of vectors: rows of tables, embeddings, and whatever is flattened to one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Widest embedding of a category.
WIDEST = 8
HIDDEN = 64


class LinearEncoder(nn.Sequential):
    """Linear features, 64 at most: with the classifier behind it the model is linear."""

    def __init__(self, sample_shape: Sequence[int]) -> None:
        size = math.prod(sample_shape)
        self.feature_size = min(size, HIDDEN)
        super().__init__(nn.Flatten(), nn.Linear(size, self.feature_size))


class MlpEncoder(nn.Sequential):
    """One hidden layer of 64, and 64 features."""

    feature_size = HIDDEN

    def __init__(self, sample_shape: Sequence[int]) -> None:
        super().__init__(
            nn.Flatten(),
            nn.Linear(math.prod(sample_shape), HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, self.feature_size),
            nn.ReLU(),
        )


class TabularEncoder(nn.Module):
    """A perceptron on numbers and on an embedding for each category.

    Parameters
    ----------
    numbers : int
        Numbers that a row begins with.
    level_counts : sequence of int
        Widths of the one-hot blocks that follow, one a category. A block times its matrix is a row
        of it: an embedding, as wide as half the levels, from 1 to 8.
    """

    feature_size = HIDDEN

    def __init__(self, numbers: int, level_counts: Sequence[int]) -> None:
        super().__init__()
        self.blocks = (numbers, *level_counts)
        widths = [min(WIDEST, max(1, count // 2)) for count in level_counts]
        self.embeddings = nn.ModuleList(
            nn.Linear(count, width, bias=False)
            for count, width in zip(level_counts, widths, strict=True)
        )
        self.layers = MlpEncoder((numbers + sum(widths),))

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows (n, numbers and levels) to features (n, 64)."""
        ends = list(itertools.accumulate(self.blocks))
        parts = [rows[:, : ends[0]]]
        for embedding, (start, end) in zip(self.embeddings, itertools.pairwise(ends), strict=True):
            parts.append(embedding(rows[:, start:end]))
        features: Tensor = self.layers(torch.cat(parts, dim=1))
        return features
