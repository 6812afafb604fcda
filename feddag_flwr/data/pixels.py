"""Pixels as numbers in [0, 1]."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Values that are looked at at once: of more, a copy in double precision would take 0.5 GB.
AT_ONCE = 2**26
# The same for a histogram, whose counting takes 8 bytes a value.
BYTES_AT_ONCE = 2**22


def unit_pixels(images: NDArray[Any]) -> NDArray[np.float64]:
    """Return pixels in [0, 1] and double precision."""
    pixels: NDArray[np.float64] = images.astype(np.float64)
    if images.dtype == np.uint8:
        pixels /= 255
    return pixels


def pixel_moments(images: NDArray[Any]) -> tuple[tuple[float, float], ...]:
    """Return each channel's mean and mean square of the pixels, on the scale [0, 1]."""
    moments = _moments_of_bytes if images.dtype == np.uint8 else _moments_of_floats
    return tuple(moments(images[:, channel]) for channel in range(images.shape[1]))


def _moments_of_bytes(pixels: NDArray[Any]) -> tuple[float, float]:
    """By the histogram: exact, and without a copy in floating point."""
    counts = np.zeros(256, np.int64)
    for part in _parts(pixels, BYTES_AT_ONCE):
        counts += np.bincount(part.ravel(), minlength=256)
    weights = counts / pixels.size
    values = np.arange(256) / 255
    return float(weights @ values), float(weights @ values**2)


def _moments_of_floats(pixels: NDArray[Any]) -> tuple[float, float]:
    found = [
        (part.mean(dtype=np.float64), np.square(part, dtype=np.float64).mean(), part.size)
        for part in map(np.ravel, _parts(pixels))
    ]
    if len(found) == 1:
        return float(found[0][0]), float(found[0][1])
    means, squares, sizes = np.array(found).T
    return float(np.average(means, weights=sizes)), float(np.average(squares, weights=sizes))


def _parts(images: NDArray[Any], values: int = AT_ONCE) -> Iterator[NDArray[Any]]:
    """Yield images in pieces of so many values."""
    size = max(1, values // max(1, images[:1].size))
    for start in range(0, len(images), size):
        yield images[start : start + size]
