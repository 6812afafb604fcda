"""Digital: brightness, contrast, elastic deformation, pixelation, JPEG compression.

Adapted: CIFAR-10-C's elastic deformation lowers the jitter of the affine part while it raises the
displacement, so that its error falls from severity 1 to 5; here both grow.
"""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from feddag_flwr.data.corruptions.batch import FloatImages, sample

_BRIGHTNESS = (0.05, 0.1, 0.15, 0.2, 0.3)  # added to the brightest channel
_CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)  # share of the contrast that stays
# Displacement of the pixels and jitter of the corners, as shares of the shorter side.
_ELASTIC = ((0.05, 0.02), (0.07, 0.03), (0.09, 0.04), (0.11, 0.05), (0.13, 0.06))
_ELASTIC_SMOOTHNESS = 0.04  # of the field of displacements, as a share of the shorter side
_PIXELATE = (0.95, 0.9, 0.85, 0.75, 0.65)  # side of the smaller image
_JPEG = (80, 65, 58, 50, 40)  # quality


def brightness(images: FloatImages, severity: int, rng: np.random.Generator) -> FloatImages:
    """Raise the value (V of HSV); hue and saturation stay."""
    value = images.max(axis=1, keepdims=True)
    raised = np.minimum(value + np.float32(_BRIGHTNESS[severity - 1]), 1)
    scaled = images * (raised / np.where(value > 0, value, 1))
    brighter: FloatImages = np.where(value > 0, scaled, raised)  # black turns grey
    return brighter


def contrast(images: FloatImages, severity: int, rng: np.random.Generator) -> FloatImages:
    """Draw each channel of an image to its mean."""
    means = images.mean(axis=(2, 3), keepdims=True)
    flattened: FloatImages = means + np.float32(_CONTRAST[severity - 1]) * (images - means)
    return flattened


def elastic_transform(images: FloatImages, severity: int, rng: np.random.Generator) -> FloatImages:
    """Move, shear and stretch the image at random and displace its pixels by a smooth field."""
    height, width = images.shape[2:]
    side = min(height, width)
    displacement, jitter = (share * side for share in _ELASTIC[severity - 1])
    smoothness = _ELASTIC_SMOOTHNESS * side
    rows, columns = np.indices((height, width))
    # An affine map is given by how it moves three corners of the middle two thirds.
    away = (rows - (height - 1) / 2) / (side / 3), (columns - (width - 1) / 2) / (side / 3)
    places = []
    for pixels in (rows, columns):
        one, two, three = rng.uniform(-jitter, jitter, (3, len(images), 1, 1))
        moved = (one + three + away[0] * (one - two) + away[1] * (two - three)) / 2
        field = rng.uniform(-displacement, displacement, (len(images), height, width))
        field = ndimage.gaussian_filter(field, (0, smoothness, smoothness), truncate=3)
        places.append((pixels + moved + field).astype(np.float32))
    return sample(images, *places)


def pixelate(images: FloatImages, severity: int, rng: np.random.Generator) -> FloatImages:
    """Shrink the image and blow it up again, by averaging boxes."""
    height, width = images.shape[2:]
    share = _PIXELATE[severity - 1]
    small = (max(1, int(width * share)), max(1, int(height * share)))
    pixelated = np.empty_like(images)
    for place in np.ndindex(images.shape[:2]):
        shrunk = Image.fromarray(images[place]).resize(small, Image.Resampling.BOX)
        pixelated[place] = np.asarray(shrunk.resize((width, height), Image.Resampling.BOX))
    return pixelated


def jpeg_compression(images: FloatImages, severity: int, rng: np.random.Generator) -> FloatImages:
    """Encode as JPEG and decode: colour images as such, others a channel at a time."""
    quality = _JPEG[severity - 1]
    pixels = np.round(images * 255).astype(np.uint8)
    decoded = np.empty_like(pixels)
    if images.shape[1] == 3:
        for index, image in enumerate(pixels):
            decoded[index] = _through_jpeg(image.transpose(1, 2, 0), quality).transpose(2, 0, 1)
    else:
        for place in np.ndindex(images.shape[:2]):
            decoded[place] = _through_jpeg(pixels[place], quality)
    return decoded.astype(np.float32) / np.float32(255)


def _through_jpeg(picture: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))
