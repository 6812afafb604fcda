"""Image corruptions after CIFAR-10-C (scenario IV).

The kinds and the numbers of their five severities are those of Hendrycks and Dietterich,
"Benchmarking Neural Network Robustness to Common Corruptions and Perturbations" (ICLR 2019), in
their CIFAR-10-C; each module says what is adapted. Two of its 19 kinds are left out: saturate does
nothing to grey images and is not ordered by severity, and spatter changes from water to mud at
severity 4, which hardly shows on a dark background. Everything works on images of any size with 1
to 4 channels; a draw that concerns a place in an image is common to its channels, except for noise.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.corruptions import blur, digital, noise, weather
from feddag_flwr.data.corruptions.batch import FloatImages
from feddag_flwr.data.pixels import unit_pixels

Corruption = Callable[[FloatImages, int, np.random.Generator], FloatImages]

_AT_ONCE = 512  # images; bounds the memory that copies in floating point take

CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        function.__name__.replace("_", "-"): function
        for function in (
            noise.gaussian_noise,
            noise.shot_noise,
            noise.impulse_noise,
            noise.speckle_noise,
            blur.defocus_blur,
            blur.gaussian_blur,
            blur.glass_blur,
            blur.motion_blur,
            blur.zoom_blur,
            weather.snow,
            weather.frost,
            weather.fog,
            digital.brightness,
            digital.contrast,
            digital.elastic_transform,
            digital.pixelate,
            digital.jpeg_compression,
        )
    }
)


def corrupt(
    images: NDArray[Any], kind: str, severity: int, rng: np.random.Generator
) -> NDArray[Any]:
    """Corrupt every image (n, channels, height, width), each with draws of its own.

    Images are uint8, or floating in [0, 1]; new ones are of the same type, uint8 rounded to the
    nearest. `kind` is a key of `CORRUPTIONS`, `severity` from 1 (mild) to 5. Equal generators and
    images give equal results.
    """
    corrupted = np.empty_like(images)
    for start in range(0, len(images), _AT_ONCE):
        chosen = slice(start, start + _AT_ONCE)
        pixels = unit_pixels(images[chosen]).astype(np.float32)
        changed = np.clip(CORRUPTIONS[kind](pixels, severity, rng), 0, 1)
        corrupted[chosen] = np.rint(changed * 255) if images.dtype == np.uint8 else changed
    return corrupted
