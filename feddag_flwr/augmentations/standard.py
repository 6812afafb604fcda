"""Random shifts and mirror images, as photographs are commonly trained on."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from feddag_flwr.augmentations import Augmentation

# An image is shifted by up to this share of its side (4 of 32 pixels; He et al. 2016, Sec. 4.2).
SHIFT: Final = 1 / 8


def shift_and_mirror(samples: Tensor, rng: np.random.Generator, /) -> Tensor:
    """Shift each image in both directions, black coming in, and mirror every second one.

    The same as a random crop of the padded image, with a random horizontal flip after it.
    """
    count, _, height, width = samples.shape
    down, right = round(SHIFT * height), round(SHIFT * width)
    padded = functional.pad(samples, (right, right, down, down))
    rows = _windows(rng.integers(0, 2 * down + 1, count), height)
    columns = _windows(rng.integers(0, 2 * right + 1, count), width)
    mirrored = rng.random(count) < 0.5
    columns[mirrored] = columns[mirrored, ::-1]
    image = torch.arange(count)[:, None, None]
    chosen = padded[
        image, :, torch.from_numpy(rows)[:, :, None], torch.from_numpy(columns)[:, None]
    ]
    return chosen.permute(0, 3, 1, 2).contiguous()


def _windows(starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    return starts[:, None] + np.arange(length)


STANDARD: Augmentation = shift_and_mirror
