"""Test images that are copies of training images: of another size, or encoded anew.

Both are made very small and grey, and compared by their correlation r. A copy made small again is
nearly the same; another image of the same thing is not.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from feddag_flwr.data.mapped import chunks_of
from feddag_flwr.data.pixels import unit_pixels
from feddag_flwr.data.samples import LabelledSamples

SIDE = 16
# An image is a copy where 1 - r is below the first value; or below the second, and the next image
# is so many times as far.
SURELY, PERHAPS, TIMES = 0.002, 0.01, 4.0
# Contrast, as a share of the scale, below which an image says too little.
LEAST_CONTRAST = 0.01


def find_copies(train: LabelledSamples, test: LabelledSamples) -> Iterator[tuple[int, int]]:
    """Yield each test image that is a copy of a training image: the number of each in its part."""
    known = _thumbnails(train.samples)
    for chunk in chunks_of(len(test)):
        wanted = _thumbnails(test.samples[chunk])
        distances = 1 - wanted @ known.T
        nearest = distances.argmin(axis=1)
        rows = np.arange(len(wanted))
        least = distances[rows, nearest]
        distances[rows, nearest] = np.inf
        alone = least * TIMES <= distances.min(axis=1)
        copies = wanted.any(axis=1) & ((least < SURELY) | ((least < PERHAPS) & alone))
        for row in np.flatnonzero(copies).tolist():
            yield int(nearest[row]), chunk.start + row


def _thumbnails(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Return small images of mean 0 and length 1, a row each; zeros for those without contrast."""
    made = np.empty((len(samples), SIDE * SIDE))
    for row, sample in enumerate(samples):
        plane: NDArray[np.float64] = unit_pixels(sample).mean(axis=0)
        grey = Image.fromarray(plane.astype(np.float32))
        made[row] = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX)).ravel()
    made -= made.mean(axis=1, keepdims=True)
    made[made.std(axis=1) < LEAST_CONTRAST] = 0
    lengths = np.linalg.norm(made, axis=1, keepdims=True)
    return (made / np.where(lengths > 0, lengths, 1)).astype(np.float32)
