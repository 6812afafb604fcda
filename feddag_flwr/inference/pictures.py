"""Images that somebody wants classified: files, folders of files, archives."""

from __future__ import annotations

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
    """Some images.

    Attributes
    ----------
    names : list of str
        Path of each image; of one in an archive with its place, as in ``a.npz:images[3]``.
    truths : list of (str or None)
        Class that it is of, where its folder or archive says so.
    images : ndarray, shape (n, channels, height, width), float32
        In [0, 1].
    """

    names: list[str]
    truths: list[str | None]
    images: NDArray[np.float32]


def read_batches(
    paths: Sequence[Path], image_shape: tuple[int, int, int], class_names: Sequence[str]
) -> Iterator[Batch]:
    """Read image files, folders of them (with all below) and ``.npz`` archives, in this order.

    Parameters
    ----------
    paths : sequence of Path
        Hidden files and those of other kinds in folders are passed over.
    image_shape : tuple of int
        (channels, height, width) that the model takes.
    class_names : sequence of str
        Names of classes: an image is of the class that a folder above it is called by, as in
        training the outermost of those within a path that is given, or else that path itself.

    Raises
    ------
    DataError
        A path is missing or holds no image, or an image has another size or number of channels;
        says which and what is expected.
    """
    for path in paths:
        if path.is_dir():
            yield from _from_files(_below(path), image_shape, class_names, path)
        elif path.suffix.lower() == ".npz":
            yield from _from_archive(path, image_shape)
        elif path.is_file():
            yield from _from_files([path], image_shape, class_names, path.parent)
        else:
            raise DataError(f"{path}: no such file or folder")


def _below(folder: Path) -> list[Path]:
    found = images_below(folder)
    if not found:
        raise DataError(f"{folder}: no {', '.join(IMAGE_SUFFIXES)} files in it or below")
    return found


def _from_files(
    files: Sequence[Path],
    image_shape: tuple[int, int, int],
    class_names: Sequence[str],
    root: Path,
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
        (channels, height, width), its = image_shape, archive.images.shape[1:]
        raise DataError(
            f"{path}: {archive.key!r} are {its[1]} x {its[2]} with {its[0]} channel(s); "
            f"expected {height} x {width} (height x width) with {channels}"
        )
    for start in range(0, len(archive.images), BATCH):
        images = archive.images[start : start + BATCH]
        places = range(start, start + len(images))
        truths: list[str | None] = [None] * len(images)
        if archive.labels is not None:
            truths = [archive.class_names[int(archive.labels[place])] for place in places]
        names = [f"{path}:{archive.key}[{place}]" for place in places]
        yield Batch(names, truths, _unit(images))


def _unit(images: NDArray[Any]) -> NDArray[np.float32]:
    """Bring stored pixels to float32 in [0, 1]."""
    pixels = images.astype(np.float32)
    return pixels / np.float32(255) if images.dtype == np.uint8 else pixels
