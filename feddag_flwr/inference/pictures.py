"""Images that somebody wants classified: files, folders of files, archives."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.class_names import class_name
from feddag_flwr.data.files import IMAGE_SUFFIXES, images_below, read_image, read_npz_images
from feddag_flwr.data.samples import DataError

# Image files in memory at once.
BATCH = 256


class Batch(NamedTuple):
    """Some images: their paths, in an archive with the place, their classes, and pixels in [0, 1].

    A class is None where neither folder nor archive says it; ``images`` is (n, channels, height,
    width).
    """

    names: list[str]
    truths: list[str | None]
    images: NDArray[np.float32]


def read_batches(
    paths: Sequence[Path], image_shape: tuple[int, int, int], class_names: Sequence[str]
) -> Iterator[Batch]:
    """Read image files, folders of them (with all below) and ``.npz`` archives, in this order.

    Hidden files and those of other kinds in folders are passed over. An image is of the class in
    `class_names` that a folder above it is called by, as in training the outermost of those within
    a path that is given, or else that path itself. `DataError` where a path is missing or holds no
    image, or one is not of the `image_shape` (channels, height, width) that the model takes.
    """
    for path in paths:
        if path.is_dir():
            if not (files := images_below(path)):
                raise DataError(f"{path}: no {', '.join(IMAGE_SUFFIXES)} files in it or below")
            yield from _from_files(files, image_shape, class_names, path)
        elif path.suffix.lower() == ".npz":
            yield from _from_archive(path, image_shape)
        elif path.is_file():
            yield from _from_files([path], image_shape, class_names, path.parent)
        else:
            raise DataError(f"{path}: no such file or folder")


def _from_files(
    files: Sequence[Path], image_shape: tuple[int, int, int], class_names: Sequence[str], root: Path
) -> Iterator[Batch]:
    for start in range(0, len(files), BATCH):
        chosen = files[start : start + BATCH]
        yield Batch(
            [str(path) for path in chosen],
            [_class_of(path, class_names, root) for path in chosen],
            _unit(np.stack([read_image(path, image_shape) for path in chosen])),
        )


def _class_of(file: Path, class_names: Sequence[str], root: Path) -> str | None:
    folders = [*file.relative_to(root).parts[:-1], root.absolute().name]
    return next((name for name in map(class_name, folders) if name in class_names), None)


def _from_archive(path: Path, image_shape: tuple[int, int, int]) -> Iterator[Batch]:
    archive = read_npz_images(path)
    if not len(archive.images):
        raise DataError(f"{path}: {archive.key!r} holds no image")
    if archive.images.shape[1:] != image_shape:
        (channels, height, width), own = image_shape, archive.images.shape[1:]
        raise DataError(
            f"{path}: {archive.key!r} are {own[1]} x {own[2]} with {own[0]} channel(s); "
            f"expected {height} x {width} (height x width) with {channels}"
        )
    truths: list[str | None] = [None] * len(archive.images)
    if archive.labels is not None:
        truths = [archive.class_names[label] for label in archive.labels.tolist()]
    names = [f"{path}:{archive.key}[{place}]" for place in range(len(truths))]
    for start in range(0, len(truths), BATCH):
        chosen = slice(start, start + BATCH)
        yield Batch(names[chosen], truths[chosen], _unit(archive.images[chosen]))


def _unit(images: NDArray[Any]) -> NDArray[np.float32]:
    """Bring stored pixels to float32 in [0, 1]."""
    pixels = images.astype(np.float32)
    return pixels / np.float32(255) if images.dtype == np.uint8 else pixels
