"""Pixels as numbers in [0, 1]."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def unit_pixels(images: NDArray[Any]) -> NDArray[np.float64]:
    """Return pixels in [0, 1] and double precision."""
    pixels: NDArray[np.float64] = images.astype(np.float64)
    return pixels / 255 if images.dtype == np.uint8 else pixels


def pixel_moments(images: NDArray[Any]) -> tuple[tuple[float, float], ...]:
    """Return each channel's mean and mean square of the pixels, on the scale [0, 1]."""
    return tuple(_moments(channel.ravel()) for channel in images.swapaxes(0, 1))


def _moments(pixels: NDArray[Any]) -> tuple[float, float]:
    if pixels.dtype == np.uint8:  # by the histogram: exact, and without a copy in floating point
        weights = np.bincount(pixels, minlength=256) / pixels.size
        values = np.arange(256) / 255
        return float(weights @ values), float(weights @ values**2)
    return float(pixels.mean(dtype=np.float64)), float(np.square(pixels, dtype=np.float64).mean())
