"""Images that somebody wants classified: files, folders of files, archives."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.class_names import class_name
from feddag_flwr.data.files import read_npz_images
from feddag_flwr.data.folders import images_below
from feddag_flwr.data.images.decoding import IMAGE_SUFFIXES, decode
from feddag_flwr.data.images.fitting import fitted_arrays
from feddag_flwr.data.images.form import ImageForm
from feddag_flwr.data.images.progress import in_threads
from feddag_flwr.data.mapped import chunks_of
from feddag_flwr.data.samples import DataError

# Image files in memory at once.
BATCH = 256


class Batch(NamedTuple):
    """Some images: their paths, in an archive with the place, their classes, and pixels in [0, 1].

    A class is None where neither folder nor archive says it. ``errors`` says why an image cannot
    be read, else it is empty; ``images`` (n, channels, height, width) are those that can be.
    """

    names: list[str]
    truths: list[str | None]
    errors: list[str]
    images: NDArray[np.float32]


def broken(path: Path, error: DataError) -> Batch:
    """Return the batch of a path of which nothing can be read."""
    return Batch([str(path)], [None], [str(error)], np.zeros((0,), dtype=np.float32))


def read_batches(
    paths: Sequence[Path], form: ImageForm, class_names: Sequence[str]
) -> Iterator[Batch]:
    """Read image files, folders of them (with all below) and ``.npz`` archives, in this order.

    Images are brought to the `form` that the model takes, as in training. Hidden files and those
    of other kinds in folders are passed over. An image is of the class in `class_names` that a
    folder above it is called by, as in training the outermost of those within a path that is given,
    or else that path itself. `DataError` where a path is missing, holds no image, or is an archive
    of something else.
    """
    for path in paths:
        if path.is_dir():
            if not (files := images_below(path)):
                raise DataError(f"{path}: no {', '.join(IMAGE_SUFFIXES)} files in it or below")
            yield from _from_files(files, form, class_names, path)
        elif path.suffix.lower() == ".npz":
            yield from _from_archive(path, form)
        elif path.is_file():
            yield from _from_files([path], form, class_names, path.parent)
        else:
            raise DataError(f"{path}: no such file or folder")


def _from_files(
    files: Sequence[Path], form: ImageForm, class_names: Sequence[str], root: Path
) -> Iterator[Batch]:
    if form.channels not in {1, 3}:
        raise DataError(f"{root}: the model takes {form.channels} channels, which no files have")
    outcomes = in_threads(partial(decode, form=form), files, "reading")
    for chosen in (files[chunk] for chunk in chunks_of(len(files), BATCH)):
        errors: list[str] = []
        images: list[NDArray[np.uint8]] = []
        for outcome in islice(outcomes, len(chosen)):
            broken = isinstance(outcome, DataError)
            errors.append(str(outcome) if broken else "")
            images += [] if isinstance(outcome, DataError) else [outcome]
        yield Batch(
            [str(path) for path in chosen],
            [_class_of(path, class_names, root) for path in chosen],
            errors,
            _unit(np.array(images, np.uint8).reshape(len(images), *form.shape)),
        )


def _class_of(file: Path, class_names: Sequence[str], root: Path) -> str | None:
    folders = [*file.relative_to(root).parts[:-1], root.absolute().name]
    return next((name for name in map(class_name, folders) if name in class_names), None)


def _from_archive(path: Path, form: ImageForm) -> Iterator[Batch]:
    archive = read_npz_images(path)
    if not len(archive.images):
        raise DataError(f"{path}: {archive.key!r} holds no image")
    channels = archive.images.shape[1]
    if channels != form.channels and {channels, form.channels} != {1, 3}:
        raise DataError(
            f"{path}: {archive.key!r} have {channels} channel(s), which cannot become "
            f"{form.channels}"
        )
    truths: list[str | None] = [None] * len(archive.images)
    if archive.labels is not None:
        truths = [archive.class_names[label] for label in archive.labels.tolist()]
    names = [f"{path}:{archive.key}[{place}]" for place in range(len(truths))]
    for chosen in chunks_of(len(truths), BATCH):
        images = _unit(fitted_arrays(archive.images[chosen], form))
        yield Batch(names[chosen], truths[chosen], [""] * len(images), images)


def _unit(images: NDArray[Any]) -> NDArray[np.float32]:
    """Bring stored pixels to float32 in [0, 1]."""
    pixels = images.astype(np.float32)
    return pixels / np.float32(255) if images.dtype == np.uint8 else pixels
