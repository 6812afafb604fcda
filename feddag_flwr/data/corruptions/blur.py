"""Blur: out of focus, through glass, moved, zoomed.

Lengths are in pixels, as in CIFAR-10-C for 32 pixels; on images with longer sides they grow in
proportion, on smaller ones they stay, for a blur far below one pixel changes nothing.

Adapted so that the error grows with severity: CIFAR-10-C's glass blur swaps all pixels at every
severity and blurs more, which undoes the swaps (on Fashion-MNIST its severity 3 is milder than 1);
here more and more pixels are swapped. Its motion blur of severities 3 and 4 differs only in a
kernel length that the Gaussian does not reach; here the deviation grows.
"""

import numpy as np
from scipy import ndimage

from feddag_flwr.data.corruptions.batch import FloatImages, smear, zoom

_REFERENCE_SIDE = 32
_GAUSSIAN = (0.4, 0.6, 0.7, 0.8, 1.0)  # standard deviation in pixels
_DEFOCUS = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))  # radius, softness
_GLASS = (0.2, 0.4, 0.6, 0.8, 1.0)  # share of pixels swapped, in each of two passes
_GLASS_SIGMA = 0.4  # standard deviation before and after the swaps
_GLASS_PASSES = 2
_MOTION = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.25), (9, 2.5))  # radius, standard deviation
_ZOOM = (0.05, 0.10, 0.15, 0.20, 0.25)  # largest magnification beyond 1, in steps of 0.01


def _growth(images: FloatImages) -> float:
    """Return how much longer than the reference the shorter side is, at least 1."""
    side: int = min(images.shape[2:])
    return max(1.0, side / _REFERENCE_SIDE)


def soften(images: FloatImages, sigma: float) -> FloatImages:
    """Blur each channel with a Gaussian of standard deviation `sigma` in pixels."""
    return ndimage.gaussian_filter(images, (0, 0, sigma, sigma), mode="nearest")


def gaussian_blur(images: FloatImages, severity: int, rng: np.random.Generator) -> FloatImages:
    """Blur with a Gaussian."""
    return soften(images, _GAUSSIAN[severity - 1] * _growth(images))


def defocus_blur(images: FloatImages, severity: int, rng: np.random.Generator) -> FloatImages:
    """Blur with a disk whose edge is soft."""
    radius, softness = (length * _growth(images) for length in _DEFOCUS[severity - 1])
    reach = int(np.ceil(radius + 4 * softness))
    offsets = np.arange(-reach, reach + 1)
    disk = (offsets**2 + offsets[:, np.newaxis] ** 2 <= radius**2).astype(np.float32)
    kernel = ndimage.gaussian_filter(disk, softness, mode="constant")
    kernel /= kernel.sum()
    return ndimage.correlate(images, kernel[np.newaxis, np.newaxis], mode="mirror")


def glass_blur(images: FloatImages, severity: int, rng: np.random.Generator) -> FloatImages:
    """Swap pixels with a neighbour, between two slight Gaussian blurs."""
    share, sigma = _GLASS[severity - 1], _GLASS_SIGMA * _growth(images)
    shuffled = soften(images, sigma)
    count, _, height, width = images.shape
    every = np.arange(count)
    for _ in range(_GLASS_PASSES):
        steps = rng.integers(-1, 2, size=(2, height, width, count))
        steps *= rng.random((height, width, count)) < share
        for row, column in np.ndindex(max(height - 2, 0), max(width - 2, 0)):
            here = (every, slice(None), row + 1, column + 1)
            down, across = steps[:, row + 1, column + 1]
            there = (every, slice(None), row + 1 + down, column + 1 + across)
            shuffled[here], shuffled[there] = shuffled[there], shuffled[here]
    return soften(shuffled, sigma)


def motion_blur(images: FloatImages, severity: int, rng: np.random.Generator) -> FloatImages:
    """Smear each image along a direction within 45 degrees of its rows."""
    radius, sigma = _MOTION[severity - 1]
    growth = _growth(images)
    return smear(images, round(radius * growth), sigma * growth, rng.uniform(-45, 45, len(images)))


def zoom_blur(images: FloatImages, severity: int, rng: np.random.Generator) -> FloatImages:
    """Average the image with itself magnified step by step."""
    factors = np.arange(1, 1 + _ZOOM[severity - 1] + 0.005, 0.01)
    total = images.copy()
    for factor in factors.tolist():
        total += zoom(images, factor)
    return total / np.float32(len(factors) + 1)
