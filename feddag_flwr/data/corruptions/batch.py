"""What the corruptions share: reading image batches at other places, and random textures."""

from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

FloatImages: TypeAlias = NDArray[np.float32]  # (n, channels, height, width), pixels in [0, 1]
IntArray: TypeAlias = NDArray[np.int64]

_LEAST_WEIGHT = 1e-4  # times white is far below one grey level of 255


def sample(images: FloatImages, rows: FloatImages, columns: FloatImages) -> FloatImages:
    """Read each image at places of its own, bilinearly; outside, the nearest edge pixel counts.

    `rows` and `columns` (n, height, width), in pixels, are the same for all channels.
    """
    count, channels, height, width = images.shape
    upper, lower, down = _neighbours(rows, height)
    left, right, across = _neighbours(columns, width)
    flat = images.reshape(count, channels, -1)

    def read(row: IntArray, column: IntArray) -> FloatImages:
        places = (row * width + column).reshape(count, 1, -1)
        return np.take_along_axis(flat, places, axis=2).reshape(images.shape)

    down, across = down[:, np.newaxis], across[:, np.newaxis]
    top, bottom = read(upper, left), read(lower, left)
    top += across * (read(upper, right) - top)
    bottom += across * (read(lower, right) - bottom)
    return top + down * (bottom - top)


def _neighbours(places: FloatImages, length: int) -> tuple[IntArray, IntArray, FloatImages]:
    """Return the pixels before and behind each place, and the weight of the latter."""
    inside = np.clip(places, 0, length - 1)
    before = np.floor(inside).astype(np.int64)
    return before, np.minimum(before + 1, length - 1), (inside - before).astype(np.float32)


def zoom(images: FloatImages, factor: float) -> FloatImages:
    """Magnify images about their centre, bilinearly; the size stays."""
    zoomed = images
    for axis in (2, 3):
        length = images.shape[axis]
        middle = (length - 1) / 2
        before, behind, weight = _neighbours(middle + (np.arange(length) - middle) / factor, length)
        weight = weight[:, np.newaxis] if axis == 2 else weight
        first = zoomed.take(before, axis)
        zoomed = first + weight * (zoomed.take(behind, axis) - first)
    return zoomed


def smear(
    images: FloatImages, radius: int, sigma: float, angles: NDArray[np.float64]
) -> FloatImages:
    """Smear each image in a direction of its own by one half of a Gaussian, in whole pixels.

    The kernel, of deviation `sigma` in pixels, reaches over 2 * `radius` + 1 of them; beyond an
    edge the nearest pixel counts. Of the `angles` (n,), in degrees, 0 is along the rows, 90
    downwards.
    """
    reach = 2 * radius
    padded = np.pad(images, ((0, 0), (0, 0), (reach, reach), (reach, reach)), mode="edge")
    windows = sliding_window_view(padded, images.shape[2:], axis=(2, 3))
    down, across = np.sin(np.deg2rad(angles)), np.cos(np.deg2rad(angles))
    weights = np.exp(-(np.arange(reach + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    smeared = np.zeros_like(images)
    every = np.arange(len(images))
    for step in np.flatnonzero(weights > _LEAST_WEIGHT).tolist():
        top = reach - np.rint(step * down).astype(np.int64)
        left = reach - np.rint(step * across).astype(np.int64)
        smeared += weights[step].astype(np.float32) * windows[every, :, top, left]
    return smeared


def plasma(
    count: int, height: int, width: int, decay: float, rng: np.random.Generator
) -> FloatImages:
    """Draw cloud-like textures (count, 1, height, width) by the diamond-square algorithm.

    They are cut from tori that run from 0 to 1, on the smallest square that holds the size and
    has a power of two as its side. `decay` divides the amplitude when the grid gets twice as fine:
    low is rough.
    """
    side = max(2, 1 << (max(height, width) - 1).bit_length())
    texture = np.zeros((count, side, side))
    step, amplitude = side, 1.0
    while step >= 2:
        half = step // 2
        corners = texture[:, ::step, ::step]
        across = corners + np.roll(corners, -1, axis=2)
        down = corners + np.roll(corners, -1, axis=1)
        middles = _waver((across + np.roll(across, -1, axis=1)) / 4, amplitude, rng)
        above_and_below = middles + np.roll(middles, 1, axis=1)
        left_and_right = middles + np.roll(middles, 1, axis=2)
        texture[:, half::step, half::step] = middles
        texture[:, ::step, half::step] = _waver((across + above_and_below) / 4, amplitude, rng)
        texture[:, half::step, ::step] = _waver((down + left_and_right) / 4, amplitude, rng)
        step, amplitude = half, amplitude / decay
    texture -= texture.min(axis=(1, 2), keepdims=True)
    texture /= texture.max(axis=(1, 2), keepdims=True)
    return texture[:, np.newaxis, :height, :width].astype(np.float32)


def _waver(
    means: NDArray[np.float64], amplitude: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    return means + rng.uniform(-amplitude, amplitude, means.shape)
