"""How much a picture is like an image: PSNR, SSIM, cosine."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

Rows = NDArray[np.float64]

# Two pictures that are equal to the last bit have no PSNR; what is above this counts as this.
MOST_PSNR = 80.0


def psnr(picture: Rows, image: Rows) -> float:
    """Peak signal to noise ratio in dB, at most `MOST_PSNR`; pixels in [0, 1]."""
    pair = torch.from_numpy(picture), torch.from_numpy(image)
    return min(MOST_PSNR, float(peak_signal_noise_ratio(*pair, data_range=1.0)))


def ssim(picture: Rows, image: Rows, shape: tuple[int, ...]) -> float:
    """Structural similarity (Wang et al. 2004), Gaussian window of sigma 1.5; pixels in [0, 1].

    `shape` is (channels, height, width).
    """
    pair = torch.from_numpy(np.stack([picture, image])).reshape(2, 1, *shape)
    measured = structural_similarity_index_measure(pair[0], pair[1], data_range=1.0)
    assert isinstance(measured, torch.Tensor)
    return float(measured)


def cosines(pictures: Rows, images: Rows) -> Rows:
    """Cosines of the angles between rows, whatever the sign; shape (pictures, images)."""
    found: Rows = np.abs(_unit(pictures) @ _unit(images).T)
    return found


def fitted(vector: Rows, image: Rows) -> Rows:
    """Return a vector as a picture, at the brightness and contrast that suit an image best."""
    columns = np.stack([vector, np.ones_like(vector)], axis=1)
    picture: Rows = np.clip(columns @ np.linalg.lstsq(columns, image, rcond=None)[0], 0.0, 1.0)
    return picture


def matched(pictures: Rows, images: Rows) -> NDArray[np.intp]:
    """Say for each picture which image it is taken for: all different, least squares in all."""
    squares = ((pictures[:, None] - images[None]) ** 2).mean(axis=2)
    rows, columns = linear_sum_assignment(squares)
    partners = np.empty(len(pictures), dtype=np.intp)
    partners[rows] = columns
    return partners


def _unit(rows: Rows) -> Rows:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Rows = rows / np.maximum(lengths, np.finfo(np.float64).tiny)
    return unit
