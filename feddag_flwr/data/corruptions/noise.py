"""Noise: each pixel of each channel changes by itself."""

import numpy as np

from feddag_flwr.data.corruptions.batch import FloatImages

_GAUSSIAN = (0.04, 0.06, 0.08, 0.09, 0.10)  # standard deviation
_SHOT = (500, 250, 100, 75, 50)  # photons of a white pixel
_IMPULSE = (0.01, 0.02, 0.03, 0.05, 0.07)  # share of pixels that turn black or white
_SPECKLE = (0.06, 0.1, 0.12, 0.16, 0.2)  # standard deviation, as a share of the pixel


def gaussian_noise(images: FloatImages, severity: int, rng: np.random.Generator) -> FloatImages:
    """Add normal noise."""
    noise = rng.standard_normal(images.shape, dtype=np.float32)
    return images + np.float32(_GAUSSIAN[severity - 1]) * noise


def shot_noise(images: FloatImages, severity: int, rng: np.random.Generator) -> FloatImages:
    """Count photons: Poisson noise, stronger where it is bright."""
    photons = _SHOT[severity - 1]
    return (rng.poisson(images * photons) / photons).astype(np.float32)


def impulse_noise(images: FloatImages, severity: int, rng: np.random.Generator) -> FloatImages:
    """Turn a share of the pixels black or white, half each."""
    share = _IMPULSE[severity - 1]
    draw = rng.random(images.shape, dtype=np.float32)
    black_or_white = (draw < share / 2).astype(np.float32)
    return np.where(draw < share, black_or_white, images)


def speckle_noise(images: FloatImages, severity: int, rng: np.random.Generator) -> FloatImages:
    """Add normal noise in proportion to the pixel."""
    noise = rng.standard_normal(images.shape, dtype=np.float32)
    return images + np.float32(_SPECKLE[severity - 1]) * images * noise
