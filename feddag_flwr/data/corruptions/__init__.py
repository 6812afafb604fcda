"""Image corruptions after CIFAR-10-C (scenario IV).

The kinds and the numbers of their five severities are those of Hendrycks and Dietterich,
"Benchmarking Neural Network Robustness to Common Corruptions and Perturbations" (ICLR 2019), in
their CIFAR-10-C; each module says what is adapted. Two of its 19 kinds are left out: saturate does
nothing to grey images and is not ordered by severity, and spatter changes from water to mud at
severity 4, which hardly shows on a dark background. Everything works on images of any size with 1
to 4 channels; a draw that concerns a place in an image is common to its channels, except for noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.corruptions.batch import FloatImages
from feddag_flwr.data.corruptions.blur import (
    defocus_blur,
    gaussian_blur,
    glass_blur,
    motion_blur,
    zoom_blur,
)
from feddag_flwr.data.corruptions.digital import (
    brightness,
    contrast,
    elastic_transform,
    jpeg_compression,
    pixelate,
)
from feddag_flwr.data.corruptions.noise import (
    gaussian_noise,
    impulse_noise,
    shot_noise,
    speckle_noise,
)
from feddag_flwr.data.corruptions.weather import fog, frost, snow
from feddag_flwr.data.samples import unit_pixels

Corruption = Callable[[FloatImages, int, np.random.Generator], FloatImages]

_AT_ONCE = 512  # images; bounds the memory that copies in floating point take

CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        function.__name__.replace("_", "-"): function
        for function in (
            gaussian_noise,
            shot_noise,
            impulse_noise,
            speckle_noise,
            defocus_blur,
            gaussian_blur,
            glass_blur,
            motion_blur,
            zoom_blur,
            snow,
            frost,
            fog,
            brightness,
            contrast,
            elastic_transform,
            pixelate,
            jpeg_compression,
        )
    }
)


def corrupt(
    images: NDArray[Any], kind: str, severity: int, rng: np.random.Generator
) -> NDArray[Any]:
    """Corrupt every image, each with draws of its own.

    Parameters
    ----------
    images : ndarray of shape (n, channels, height, width)
        uint8, or floating in [0, 1].
    kind : str
        A key of `CORRUPTIONS`.
    severity : int
        From 1 (mild) to 5.
    rng : Generator
        Source of randomness; equal generators and images give equal results.

    Returns
    -------
    ndarray
        New images of the same shape and type; uint8 is rounded to the nearest level.
    """
    corrupted = np.empty_like(images)
    for start in range(0, len(images), _AT_ONCE):
        chosen = slice(start, start + _AT_ONCE)
        pixels = unit_pixels(images[chosen]).astype(np.float32)
        changed = np.clip(CORRUPTIONS[kind](pixels, severity, rng), 0, 1)
        corrupted[chosen] = np.rint(changed * 255) if images.dtype == np.uint8 else changed
    return corrupted
