"""One image file: what its head says, and its pixels, upright, in one mode and size.

Whatever Pillow raises while a file is read becomes a `DataError` that names the file.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from feddag_flwr.data.images.fitting import covering, fitted
from feddag_flwr.data.images.form import ImageForm
from feddag_flwr.data.samples import DataError, in_one_line

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
GREY_MODES = frozenset({"L", "1", "LA", "La", "I", "F"})
# Most pixels of a picture as it is decoded: three copies of 4 bytes each are 0.8 GB.
MOST_PIXELS = 2**26
# Pictures of more pixels are decoded one at a time.
LARGE = 2**24
# Values of EXIF's orientation that swap height and width.
_LYING = frozenset({5, 6, 7, 8})
_ORIENTATION = 0x0112
# Formats whose EXIF data is read without the pixels.
_EXIF_FIRST = frozenset({"JPEG", "MPO", "WEBP"})
_WHITE = 255
_one_large = threading.Lock()


class Head(NamedTuple):
    """What is known of a file before it is decoded.

    Attributes
    ----------
    height, width : int
        Once it is upright.
    highest : float
        Largest value where there are more than 8 bits a channel, else 0.
    """

    height: int
    width: int
    grey: bool
    highest: float = 0.0


@contextmanager
def opened_image(file: Path) -> Iterator[Image.Image]:
    """Open an image file."""
    try:
        with Image.open(file) as image:
            yield image
    except DataError:
        raise
    except Exception as error:  # Pillow lets through what its readers stumble over
        raise DataError(f"{file}: not a readable image ({in_one_line(error)})") from error


def read_head(file: Path) -> Head:
    """Read the head of a file; of one with more than 8 bits a channel, all of it."""
    with opened_image(file) as image:
        width, height = image.size
        if _is_lying(image):
            width, height = height, width
        grey = _is_deep(image) or image.mode in GREY_MODES
        return Head(height, width, grey, highest_value(image, str(file)))


def highest_value(image: Image.Image, where: str) -> float:
    """Return the largest value of an image with more than 8 bits a channel, else 0.

    A `DataError`, which begins with `where`, says that values are such as no image has.
    """
    if not _is_deep(image):
        return 0.0
    highest = float(_deep_values(where, image).max())
    return 0.0 if image.mode == "F" else highest


def decode(file: Path, form: ImageForm) -> NDArray[np.uint8]:
    """Decode a file to shape (channels, height, width).

    It is turned upright as its EXIF data says, what is transparent lies on white, values of more
    than 8 bits are scaled by the form's range, colours become grey or grey colours, and `fitted`
    resizes it. A JPEG much larger than that is reduced while it is read.
    """
    with opened_image(file) as image:
        _reduce(image, form)
        return pixels_of(image, form, str(file))


def pixels_of(image: Image.Image, form: ImageForm, where: str) -> NDArray[np.uint8]:
    """Return what `decode` does of an open image, which it changes; `where` is for messages."""
    pixels = image.width * image.height
    if pixels > MOST_PIXELS:
        raise DataError(
            f"{where}: {image.width:,} x {image.height:,} pixels (width x height), "
            f"{MOST_PIXELS:,} at most are decoded"
        )
    with _one_large if pixels > LARGE else nullcontext():
        ImageOps.exif_transpose(image, in_place=True)
        picture = fitted(_in_mode(where, image, form), form.height, form.width)
        decoded = np.asarray(picture)
    return decoded[np.newaxis] if form.channels == 1 else decoded.transpose(2, 0, 1)


def _is_lying(image: Image.Image) -> bool:
    if image.format not in _EXIF_FIRST and "exif" not in image.info:
        return False
    return image.getexif().get(_ORIENTATION) in _LYING


def _reduce(image: Image.Image, form: ImageForm) -> None:
    """Let a JPEG's decoder drop detail that no image of twice the form's size has."""
    height, width = (form.width, form.height) if _is_lying(image) else (form.height, form.width)
    covered = covering(image.height, image.width, height, width)
    image.draft(image.mode, (2 * covered.width, 2 * covered.height))


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith(("I", "F"))


def _deep_values(file: str, image: Image.Image) -> NDArray[Any]:
    values = np.asarray(image)
    floating = image.mode == "F"
    most = 1 if floating else 2**16 - 1
    if not (values.min() >= 0 and values.max() <= most):
        raise DataError(
            f"{file}: values from {values.min():g} to {values.max():g}; expected "
            f"{'floating in [0, 1]' if floating else f'0 to {most}'}"
        )
    return values


def _in_mode(file: str, image: Image.Image, form: ImageForm) -> Image.Image:
    """Return an image of 8 bits, grey or of three colours, and nothing transparent."""
    if _is_deep(image):
        if image.mode != "F" and not form.bits:
            raise DataError(
                f"{file}: has more than 8 bits a channel, which no image of the federation has; "
                "bring it to 8 bits"
            )
        most = 1.0 if image.mode == "F" else 2.0**form.bits - 1
        scaled = np.minimum(_deep_values(file, image), most) * (255 / most)
        image = Image.fromarray(np.rint(scaled).astype(np.uint8))
    elif image.mode in {"RGBA", "LA", "RGBa", "La", "PA"} or (
        image.mode == "P" and "transparency" in image.info
    ):
        image = _on_white(image)
    return image.convert("L" if form.channels == 1 else "RGB")


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    ground = Image.new("RGBA", image.size, (_WHITE,) * 4)
    return Image.alpha_composite(ground, image)
