"""Images of a user's own dataset, prepared once: in memory, or in a file mapped into it."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from feddag_flwr.data.by_code.items import Items, LabelError, as_image
from feddag_flwr.data.images.decoding import GREY_MODES, highest_value, pixels_of
from feddag_flwr.data.images.fitting import fitted_arrays
from feddag_flwr.data.images.form import ImageForm, depth_of
from feddag_flwr.data.images.preparation import IN_MEMORY, VERSION, Reading
from feddag_flwr.data.images.progress import PERIOD
from feddag_flwr.data.images.words import listed
from feddag_flwr.data.mapped import Notes, cache_folder, clear_unused, mapped_rows, usable_folder
from feddag_flwr.data.samples import DataError

logger = logging.getLogger("flwr")

# Items of a part, spread over it, that are looked at before all are read.
LOOKED_AT = 32


class PreparedItems(NamedTuple):
    """Images in one form, the texts of their labels, and what was passed over."""

    pixels: NDArray[np.uint8]
    labels: list[str]
    bad: dict[int, str]


class ImageItems:
    """All parts of one client's images.

    Parameters
    ----------
    parts : mapping of str to Items
    reading : Reading
    name : tuple
        Reference, state of its file, and whose data it is: what is kept is kept under it.
    """

    def __init__(
        self, parts: Mapping[str, Items], reading: Reading, name: tuple[object, ...]
    ) -> None:
        self.parts = parts
        self.reading = reading
        self._name = name

    @cached_property
    def own_form(self) -> ImageForm:
        """The form of most of the training images that are looked at; grey where all are.

        Those of more than 8 bits a channel have the range of their largest value.
        """
        looked = [image for image, _ in self._looked["train"]]
        sizes = Counter(_size(image) for image in looked)
        height, width = min(sizes, key=lambda size: (-sizes[size], size))
        channels = max(map(_channels, looked))
        side = self.reading.side
        highest = max(map(_highest, looked))
        bits = depth_of(highest) if highest else 0
        return ImageForm(channels, side or height, side or width, bits)

    def is_large(self, form: ImageForm) -> bool:
        """Tell whether images are kept in a file."""
        return sum(map(len, self.parts.values())) * math.prod(form.shape) > IN_MEMORY

    def looked_labels(self) -> list[str]:
        """Labels of the training images that are looked at."""
        return [label for _, label in self._looked["train"]]

    def prepare(self, form: ImageForm, part: str) -> PreparedItems:
        """Bring the images of a part to a form; those that cannot be read are left out."""
        if self.is_large(form):
            return self._mapped(form, part)
        bad: dict[int, str] = {}
        rows = list(self._fitted(form, part, bad))
        pixels = (
            np.stack([row for row, _ in rows]) if rows else np.zeros((0, *form.shape), np.uint8)
        )
        return self._told(part, PreparedItems(pixels, [label for _, label in rows], bad))

    def _mapped(self, form: ImageForm, part: str) -> PreparedItems:
        def make(file: BinaryIO) -> Notes:
            items = self.parts[part]
            logger.info("preparing %d images as %s of %s", len(items), form.shape, items.where)
            bad: dict[int, str] = {}
            labels = []
            for pixels, label in self._fitted(form, part, bad):
                file.write(pixels.tobytes())
                labels.append(label)
            return {"rows": len(labels), "labels": labels, "bad": bad}

        path, most = self._entry / "-".join(map(str, (part, *form))), len(self.parts[part])
        try:
            pixels, notes = mapped_rows(path, form.shape, make, most)
        except OSError as error:
            raise DataError(
                f"{self.parts[part].where}: prepared images cannot be kept ({error}); node config "
                "cache-path names another folder"
            ) from error
        bad = {int(index): str(reason) for index, reason in notes["bad"].items()}
        return self._told(part, PreparedItems(pixels, list(notes["labels"]), bad))

    def _told(self, part: str, prepared: PreparedItems) -> PreparedItems:
        where, bad = self.parts[part].where, prepared.bad
        if bad:
            named = listed([bad[index] for index in sorted(bad)])
            logger.warning("%d items cannot be read and are passed over: %s", len(bad), named)
        if not prepared.labels:
            raise DataError(f"{where}: no item can be read, the first: {bad[min(bad)]}")
        return prepared

    def _fitted(
        self, form: ImageForm, part: str, bad: dict[int, str]
    ) -> Iterator[tuple[NDArray[np.uint8], str]]:
        """Yield pixels and label of each item in order; what cannot be read goes into `bad`."""
        items, said = self.parts[part], time.monotonic()
        for index in range(len(items)):
            try:
                sample, label = items[index]
                row = _in_form(as_image(sample, items.place(index)), form, items.place(index))
            except LabelError:
                raise
            except DataError as error:
                if not self.reading.skip:
                    raise
                bad[index] = str(error)
                continue
            yield row, label
            if (now := time.monotonic()) - said > PERIOD:
                said = now
                logger.info("preparing images of %s: %d of %d", items.where, index + 1, len(items))

    @cached_property
    def _looked(self) -> dict[str, list[tuple[Image.Image | NDArray[Any], str]]]:
        """Read some items of each part; a `DataError` where none can be, or one changes."""
        return {
            name: _looked_at(items, skip=self.reading.skip) for name, items in self.parts.items()
        }

    @cached_property
    def _entry(self) -> Path:
        """Return the folder for what is kept of these images, as far as these items tell."""
        state = hashlib.blake2b(repr((VERSION, self._name)).encode(), digest_size=12)
        for name, items in self.parts.items():
            state.update(repr((name, len(items))).encode())
            for image, label in self._looked[name]:
                state.update(_digested(image) + label.encode())
        data = hashlib.blake2b(repr(self._name[:2]).encode(), digest_size=12).hexdigest()
        kept = usable_folder(cache_folder(self.reading.cache)) / "by-code"
        entry = kept / data / state.hexdigest()
        if not entry.is_dir():
            entry.mkdir(parents=True, exist_ok=True, mode=0o700)
            clear_unused(kept, entry)
        return entry


def _looked_at(items: Items, *, skip: bool) -> list[tuple[Image.Image | NDArray[Any], str]]:
    looked: list[tuple[Image.Image | NDArray[Any], str]] = []
    bad = []
    for index in np.unique(np.linspace(0, len(items) - 1, LOOKED_AT).round().astype(int)).tolist():
        try:
            sample, label = items[index]
            image = as_image(sample, items.place(index))
            if not looked:
                _check_same(items, index, image)
        except (LabelError, UnsteadyError):
            raise
        except DataError as error:
            if not skip:
                raise
            bad.append(error)
            continue
        looked.append((image, label))
    if not looked:
        raise bad[0]
    return looked


def _check_same(items: Items, index: int, image: Image.Image | NDArray[Any]) -> None:
    """Refuse a dataset whose items change from one look to the next."""
    again = as_image(items[index][0], items.place(index))
    if _digested(again) != _digested(image):
        raise UnsteadyError(
            f"{items.place(index)} is another image when it is read again; return the images as "
            "they are: the setting augmentation changes them at random"
        )


class UnsteadyError(DataError):
    """Items of a dataset change at random."""


def _digested(image: Image.Image | NDArray[Any]) -> bytes:
    form = (
        (image.mode, image.size)
        if isinstance(image, Image.Image)
        else (str(image.dtype), image.shape)
    )
    return hashlib.blake2b(repr(form).encode() + image.tobytes(), digest_size=16).digest()


def _size(image: Image.Image | NDArray[Any]) -> tuple[int, int]:
    if isinstance(image, Image.Image):
        return image.height, image.width
    return int(image.shape[1]), int(image.shape[2])


def _channels(image: Image.Image | NDArray[Any]) -> int:
    if isinstance(image, Image.Image):
        return 1 if image.mode.startswith("I;") or image.mode in GREY_MODES else 3
    return len(image)


def _highest(image: Image.Image | NDArray[Any]) -> float:
    return highest_value(image, "a training image") if isinstance(image, Image.Image) else 0.0


def _in_form(image: Image.Image | NDArray[Any], form: ImageForm, where: str) -> NDArray[np.uint8]:
    if isinstance(image, Image.Image):
        return pixels_of(image.copy(), form, where)
    if len(image) != form.channels and {len(image), form.channels} != {1, 3}:
        raise DataError(
            f"{where} has {len(image)} channels, others have {form.channels}; convert it"
        )
    fitted = fitted_arrays(image[np.newaxis], form)[0]
    if fitted.dtype != np.uint8:
        fitted = np.rint(fitted * 255).astype(np.uint8)
    return cast("NDArray[np.uint8]", fitted)
