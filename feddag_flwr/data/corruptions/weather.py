"""Weather: snow, frost, fog.

Adapted: CIFAR-10-C pastes photographs of frost; here a texture is drawn, so that none need be
shipped, and its weight grows with every severity. Flakes are more at severities 3 and 5 and
magnified less at 3 and 4 than there, so that the error grows with severity.
"""

import numpy as np

from feddag_flwr.data.corruptions.batch import FloatImages, plasma, smear, zoom

# Mean and deviation of the flakes, their magnification, threshold, radius and deviation of the
# smear, and how much of the image stays unbleached.
_SNOW = (
    (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
    (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
    (0.2, 0.3, 1.25, 0.55, 10, 4.0, 0.9),
    (0.25, 0.3, 1.25, 0.6, 12, 6.0, 0.85),
    (0.3, 0.3, 1.25, 0.6, 14, 12.0, 0.8),
)
_FROST = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.45), (0.75, 0.55))  # weights: image, frost
_FOG = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))  # thickness, decay


def snow(images: FloatImages, severity: int, rng: np.random.Generator) -> FloatImages:
    """Let flakes fall, smeared along their way, over an image that is slightly bleached."""
    mean, deviation, size, threshold, radius, sigma, kept = _SNOW[severity - 1]
    count, _, height, width = images.shape
    noise = rng.standard_normal((count, 1, height, width), dtype=np.float32)
    flakes = zoom(np.float32(mean) + np.float32(deviation) * noise, size)
    flakes = np.where(flakes < threshold, 0, np.clip(flakes, 0, 1)).astype(np.float32)
    flakes = smear(flakes, radius, sigma, rng.uniform(45, 135, (count,)))
    grey = images.mean(axis=1, keepdims=True)
    bleached = np.maximum(images, 1.5 * grey + 0.5)
    turned = flakes[:, :, ::-1, ::-1]
    snowed: FloatImages = kept * images + (1 - kept) * bleached + flakes + turned
    return snowed


def frost(images: FloatImages, severity: int, rng: np.random.Generator) -> FloatImages:
    """Cover the image with crystals: the ridges of a rough cloud texture."""
    kept, covered = _FROST[severity - 1]
    count, _, height, width = images.shape
    ridges = 1 - np.abs(2 * plasma(count, height, width, 1.6, rng) - 1)
    return (kept * images + covered * ridges).astype(np.float32)


def fog(images: FloatImages, severity: int, rng: np.random.Generator) -> FloatImages:
    """Lay clouds over the image and bring its range back to what it was."""
    thickness, decay = _FOG[severity - 1]
    count, _, height, width = images.shape
    brightest = images.max(axis=(1, 2, 3), keepdims=True)
    clouded = images + thickness * plasma(count, height, width, decay, rng)
    fogged: FloatImages = clouded * brightest / (brightest + thickness)
    return fogged
