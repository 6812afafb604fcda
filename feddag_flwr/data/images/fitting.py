"""Images brought to one size: the shorter side first, then a centre crop."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from feddag_flwr.data.images.form import ImageForm

# Shares of red, green and blue in a grey level (ITU-R 601-2), as Pillow has them.
LUMA = (0.299, 0.587, 0.114)


class Covering(NamedTuple):
    """Size of an image that covers a window, one side exactly, and where the window begins."""

    height: int
    width: int
    top: int
    left: int


def covering(height: int, width: int, to_height: int, to_width: int) -> Covering:
    """Return how an image is resized to cover a window, which then is its middle.

    As torchvision's Resize and CenterCrop do for a square window.
    """
    if to_width * height >= to_height * width:
        new_height, new_width = to_width * height // width, to_width
    else:
        new_height, new_width = to_height, to_height * width // height
    top, left = round((new_height - to_height) / 2), round((new_width - to_width) / 2)
    return Covering(new_height, new_width, top, left)


def fitted(image: Image.Image, height: int, width: int) -> Image.Image:
    """Resize an image by its shorter side and crop its centre; bilinear, with antialiasing.

    Of the right size already, it is returned as it is.
    """
    if image.size == (width, height):
        return image
    own_width, own_height = image.size
    covered = covering(own_height, own_width, height, width)
    right, bottom = covered.left + width, covered.top + height
    across, down = own_width / covered.width, own_height / covered.height
    # Only the window is computed: a picture of 1 x 10,000 would cover it by very much.
    box = (covered.left * across, covered.top * down, right * across, bottom * down)
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box)


def fitted_arrays(images: NDArray[Any], form: ImageForm) -> NDArray[Any]:
    """Bring images (n, channels, height, width), uint8 or float32 in [0, 1], to a form.

    As files are: the same pixels as a file and in an array become the same.
    """
    if images.shape[1:] == form.shape:
        return images
    made = np.empty((len(images), *form.shape), images.dtype)
    for index, image in enumerate(images):
        for channel, plane in enumerate(_in_channels(image, form.channels)):
            resized = np.asarray(fitted(Image.fromarray(plane), form.height, form.width))
            made[index, channel] = resized if images.dtype == np.uint8 else resized.clip(0, 1)
    return made


def _in_channels(image: NDArray[Any], channels: int) -> NDArray[Any]:
    """Make colours grey or grey colours; other numbers of channels stay what they are."""
    if len(image) == channels:
        return np.ascontiguousarray(image)
    if len(image) == 1:
        return np.repeat(image, channels, axis=0)
    if image.dtype == np.uint8:
        colours = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
        return np.asarray(colours.convert("L"))[np.newaxis]
    grey: NDArray[Any] = np.einsum("c,chw->hw", np.array(LUMA, image.dtype), image)
    return grey[np.newaxis]
