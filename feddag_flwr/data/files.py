"""Images from a person's own files: an .npz archive or a tree of image files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from feddag_flwr.data.samples import DataError, LabelledSamples, Parts

MAX_CLASSES = 10_000
_GREY = frozenset({"L", "1"})
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def read_npz(path: Path) -> Parts:
    """Read an .npz archive; pickled content is refused.

    The archive holds ``images``, (n, height, width) or (n, height, width, channels), uint8 or
    floating in [0, 1], and ``labels``, (n,) integers from 0; optionally ``test_images`` and
    ``test_labels`` alike, and ``class_names``, a one-dimensional array of unicode strings.

    Parameters
    ----------
    path : Path
        The archive.

    Returns
    -------
    Parts
        Class names are "0" to the highest label where the archive names none.

    Raises
    ------
    DataError
        When the archive is missing, damaged, or not of this form; names path and array.
    """
    arrays = _npz_arrays(path)
    train = _npz_part(path, arrays, "images", "labels")
    if not len(train):
        raise DataError(f"{path}: no train images ('images' has length 0)")
    test = None
    if {"test_images", "test_labels"} & arrays.keys():
        test = _npz_part(path, arrays, "test_images", "test_labels")
        if not len(test):
            raise DataError(f"{path}: 'test_images' has length 0; leave it out or fill it")
        if (test.samples.shape[1:], test.samples.dtype) != (
            train.samples.shape[1:],
            train.samples.dtype,
        ):
            raise DataError(
                f"{path}: 'test_images' are {_looks(test)} but 'images' are {_looks(train)}; "
                "expected the same shape and type"
            )
    highest = max(int(part.labels.max()) for part in (train, test) if part is not None)
    return Parts(train, test, _npz_class_names(path, arrays, highest))


class NpzImages(NamedTuple):
    """Images of an archive, which need not say what they show.

    Attributes
    ----------
    images : ndarray, shape (n, channels, height, width)
        uint8, or float32 in [0, 1].
    key : str
        Array that they come from.
    labels : ndarray of int64, shape (n,), or None
        Indices into `class_names`.
    class_names : tuple of str
        Empty without labels.
    """

    images: NDArray[Any]
    key: str
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...]


def read_npz_images(path: Path) -> NpzImages:
    """Read the images of an archive as in `read_npz`, of the test part where it has one.

    Raises
    ------
    DataError
        When the archive is missing, damaged, or not of this form; names path and array.
    """
    arrays = _npz_arrays(path)
    key, labels_key = "images", "labels"
    if "test_images" in arrays:
        key, labels_key = "test_images", "test_labels"
    if key not in arrays:
        raise DataError(f"{path}: no array {key!r}; it has {sorted(arrays)}")
    if labels_key not in arrays:
        return NpzImages(_npz_images(f"{path}: {key!r}", arrays[key]), key, None, ())
    part = _npz_part(path, arrays, key, labels_key)
    highest = int(part.labels.max()) if len(part) else -1
    return NpzImages(part.samples, key, part.labels, _npz_class_names(path, arrays, highest))


# What NumPy and zipfile raise for files that are no archive, broken, pickled, or packed in a way
# that zipfile does not know (NotImplementedError) or with a password (RuntimeError).
_NPZ_FAULTS = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    AttributeError,
    TypeError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def _npz_arrays(path: Path) -> dict[str, NDArray[Any]]:
    known = {"images", "labels", "test_images", "test_labels", "class_names"}
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected an .npz archive")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if name in known}
    except _NPZ_FAULTS as error:
        raise DataError(_unreadable_npz(path, error)) from error


def _unreadable_npz(path: Path, error: Exception) -> str:
    return f"{path}: not a readable .npz archive of plain arrays without pickles ({error})"


def _npz_part(
    path: Path, arrays: dict[str, NDArray[Any]], images_key: str, labels_key: str
) -> LabelledSamples:
    for key in (images_key, labels_key):
        if key not in arrays:
            raise DataError(
                f"{path}: no array {key!r}; it has {sorted(arrays)}, expected "
                f"{images_key!r} and {labels_key!r}"
            )
    images = _npz_images(f"{path}: {images_key!r}", arrays[images_key])
    labels = arrays[labels_key]
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(
            f"{path}: {labels_key!r} is {labels.dtype} of shape {labels.shape}; "
            "expected integers of shape (n,)"
        )
    if len(labels) != len(images):
        raise DataError(f"{path}: {len(images)} {images_key!r} but {len(labels)} {labels_key!r}")
    if len(labels) and (labels.min() < 0 or labels.max() >= MAX_CLASSES):
        raise DataError(
            f"{path}: {labels_key!r} run from {labels.min()} to {labels.max()}; "
            f"expected 0 to {MAX_CLASSES - 1} at most"
        )
    return LabelledSamples(images, labels.astype(np.int64))


def _npz_images(where: str, images: NDArray[Any]) -> NDArray[Any]:
    """Check and bring images to (n, channels, height, width), uint8 or float32."""
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim != 4 or not 1 <= images.shape[3] <= 4 or 0 in images.shape[1:3]:
        raise DataError(
            f"{where} has shape {images.shape}; expected (n, height, width) or "
            "(n, height, width, channels) with 1 to 4 channels"
        )
    if images.dtype != np.uint8:
        if images.dtype.kind != "f":
            raise DataError(f"{where} is {images.dtype}; expected uint8 or floating in [0, 1]")
        broken = np.flatnonzero(~np.isfinite(images).all(axis=(1, 2, 3)))
        if broken.size:
            raise DataError(
                f"{where}: {broken.size} of {len(images)} have NaN or infinite pixels, "
                f"the first is number {broken[0]} (counted from 0)"
            )
        if images.size and not (images.min() >= 0 and images.max() <= 1):
            raise DataError(
                f"{where} runs from {images.min()} to {images.max()}; expected floating in [0, 1]"
            )
        images = images.astype(np.float32)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _npz_class_names(path: Path, arrays: dict[str, NDArray[Any]], highest: int) -> tuple[str, ...]:
    if "class_names" not in arrays:
        return tuple(str(label) for label in range(highest + 1))
    names = arrays["class_names"]
    if names.dtype.kind != "U" or names.ndim != 1:
        raise DataError(
            f"{path}: 'class_names' is {names.dtype} of shape {names.shape}; "
            "expected unicode strings of shape (classes,)"
        )
    if len(set(names.tolist())) < len(names):
        raise DataError(f"{path}: 'class_names' has duplicates; expected each name once")
    if highest >= len(names):
        raise DataError(
            f"{path}: label {highest} is out of range for {len(names)} 'class_names'; "
            f"expected 0 to {len(names) - 1}"
        )
    return tuple(str(name) for name in names)


def _looks(part: LabelledSamples) -> str:
    channels, height, width = part.samples.shape[1:]
    return f"{height} x {width} with {channels} channel(s), {part.samples.dtype}"


class Listing(NamedTuple):
    """The image files of one part of a tree, and their labels."""

    files: list[Path]
    labels: list[int]


def read_image_folder(root: Path) -> Parts:
    """Read ``root/train/CLASS/*`` and ``root/test/CLASS/*``, or ``root/CLASS/*`` alone.

    Files end in .png, .jpg or .jpeg; hidden and other files are passed over. Images stay grey
    (one channel) when all files of both parts are, otherwise all become RGB.

    Parameters
    ----------
    root : Path
        The tree.

    Returns
    -------
    Parts
        Class names are the names of the class folders, sorted; no test part without ``test``.

    Raises
    ------
    DataError
        When a folder is missing or empty, a file is damaged, or sizes differ; names the path.
    """
    train, test, class_names = list_image_folder(root)
    images = _read_images(train.files + (test.files if test else []))
    count = len(train.files)
    return Parts(
        LabelledSamples(images[:count], np.array(train.labels, dtype=np.int64)),
        LabelledSamples(images[count:], np.array(test.labels, dtype=np.int64)) if test else None,
        class_names,
    )


def list_image_folder(root: Path) -> tuple[Listing, Listing | None, tuple[str, ...]]:
    """List the files that `read_image_folder` reads, in its order, without opening them.

    Returns
    -------
    train, test : Listing
        None for the latter without ``test``.
    class_names : tuple of str

    Raises
    ------
    DataError
        When a folder is missing or empty.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected a folder of images")
    split = (root / "train").is_dir()
    train_root = root / "train" if split else root
    class_names = tuple(folder.name for folder in subfolders(train_root))
    if not class_names:
        raise DataError(
            f"{train_root}: no train images; expected one sub-folder a class with "
            f"{', '.join(IMAGE_SUFFIXES)} files"
        )
    train = _list_files(train_root, class_names)
    for label in sorted(set(range(len(class_names))) - set(train.labels)):
        raise DataError(
            f"{train_root / class_names[label]}: no train images; expected "
            f"{', '.join(IMAGE_SUFFIXES)} files in every class folder"
        )
    test = None
    if split and (root / "test").is_dir():
        test = _list_files(root / "test", class_names)
        if not test.files:
            raise DataError(f"{root / 'test'}: no test images; fill the folder or remove it")
    return train, test, class_names


def read_domain_folders(root: Path) -> Parts:
    """Read ``root/DOMAIN/CLASS/*`` (scenario domains); files as in `read_image_folder`.

    Parameters
    ----------
    root : Path
        The tree.

    Returns
    -------
    Parts
        Labels are domain * C + class, domains and classes sorted by name; a domain may lack a
        class. No test part.

    Raises
    ------
    DataError
        When a folder is missing or has no images, a file is damaged, or sizes differ.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected a folder of images")
    domains = subfolders(root)
    if not domains:
        raise DataError(f"{root}: no domains; expected folders DOMAIN/CLASS with images")
    class_names = sorted({folder.name for domain in domains for folder in subfolders(domain)})
    files: list[Path] = []
    labels: list[int] = []
    for index, domain in enumerate(domains):
        listing = _list_files(domain, class_names)
        if not listing.files:
            raise DataError(
                f"{domain}: no images; expected one sub-folder a class with "
                f"{', '.join(IMAGE_SUFFIXES)} files"
            )
        files.extend(listing.files)
        labels.extend(index * len(class_names) + label for label in listing.labels)
    if empty := set(range(len(class_names))) - {label % len(class_names) for label in labels}:
        raise DataError(f"{root}: class {class_names[min(empty)]!r} has no images in any domain")
    images = _read_images(files)
    return Parts(
        LabelledSamples(images, np.array(labels, dtype=np.int64)),
        None,
        tuple(class_names),
        tuple(domain.name for domain in domains),
    )


def subfolders(root: Path) -> list[Path]:
    """Return the sub-folders of `root` that are not hidden, sorted by name."""
    return sorted(
        (entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")),
        key=lambda entry: entry.name,
    )


def _list_files(root: Path, class_names: Sequence[str]) -> Listing:
    listing = Listing([], [])
    for folder in subfolders(root):
        if folder.name not in class_names:
            raise DataError(
                f"{folder}: class {folder.name!r} has no train images; "
                f"expected one of {', '.join(class_names)}"
            )
        files = sorted(
            entry
            for entry in folder.iterdir()
            if entry.suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".")
        )
        listing.files.extend(files)
        listing.labels.extend([class_names.index(folder.name)] * len(files))
    return listing


def _read_images(files: Sequence[Path]) -> NDArray[np.uint8]:
    """Decode all files into one array, after a first pass over their headers."""
    grey, size = True, (0, 0)
    for file in files:
        try:
            with Image.open(file) as image:
                mode, found = image.mode, image.size
        except UNREADABLE as error:
            raise DataError(f"{file}: not a readable image ({error})") from error
        if mode.startswith(("I", "F")):
            raise DataError(f"{file}: pixels of mode {mode!r}; expected 8 bits a channel")
        if file is files[0]:
            size = found
        if found != size:
            raise DataError(
                f"{file}: {found[0]} x {found[1]} pixels (width x height), but {files[0]} has "
                f"{size[0]} x {size[1]}; expected images of one size"
            )
        grey = grey and mode in _GREY
    width, height = size
    images = np.empty((len(files), 1 if grey else 3, height, width), dtype=np.uint8)
    for index, file in enumerate(files):
        try:
            with Image.open(file) as image:
                images[index] = _pixels(image, grey=grey)
        except UNREADABLE as error:
            raise DataError(f"{file}: not a readable image ({error})") from error
    return images


def _pixels(image: Image.Image, *, grey: bool) -> NDArray[np.uint8]:
    """Decode an opened image to (channels, height, width)."""
    pixels = np.asarray(image.convert("L" if grey else "RGB"))
    return pixels[np.newaxis] if grey else pixels.transpose(2, 0, 1)


def read_image(file: Path, image_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Read one image for a model that takes images of one shape.

    Parameters
    ----------
    file : Path
        A .png or .jpg file.
    image_shape : tuple of int
        (channels, height, width), 1 or 3 channels. A grey image will do for a model of three, as
        in training; a coloured one will not for a model of one.

    Raises
    ------
    DataError
        The file is no image, or of another size or kind; says what is expected.
    """
    channels, height, width = image_shape
    if channels not in {1, 3}:
        raise DataError(f"{file}: the model takes {channels} channels, which image files have not")
    wanted = f"expected {width} x {height}, {'grey' if channels == 1 else 'colour'}"
    try:
        with Image.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise DataError(f"{file}: pixels of mode {image.mode!r}; expected 8 bits a channel")
            if image.size != (width, height):
                raise DataError(
                    f"{file}: {image.size[0]} x {image.size[1]} pixels (width x height); {wanted}"
                )
            if channels == 1 and image.mode not in _GREY:
                raise DataError(f"{file}: pixels of mode {image.mode!r}; {wanted}")
            return _pixels(image, grey=channels == 1)
    except DataError:
        raise
    except UNREADABLE as error:
        raise DataError(f"{file}: not a readable image ({error})") from error
