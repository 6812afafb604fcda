"""Samples from a person's own files: an .npz archive or a tree of image files.

What is missing, damaged or of another form raises a `DataError` that names the path.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from PIL import Image

from feddag_flwr.class_names import class_name
from feddag_flwr.data.npz_layout import Layout, Pair, find_layout, find_samples, missing
from feddag_flwr.data.samples import DataError, LabelledSamples, Parts, in_one_line
from feddag_flwr.modalities import Modality, load_modality

MAX_CLASSES = 10_000
GREY_MODES = frozenset({"L", "1"})
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_SUFFIXES = ", ".join(IMAGE_SUFFIXES)
_PART_NAMES = frozenset({"train", "training", "test", "testing", "val", "valid", "validation"})


def read_npz(path: Path, modality: Modality, *, unlabelled: bool = False) -> Parts:
    """Read an .npz archive; pickled content is refused.

    The archive holds samples under the name and in the form that the modality says (``images``),
    and ``labels``, (n,) or (n, 1) integers from 0; optionally ``test_images`` and ``test_labels``
    alike, and ``class_names``, a one-dimensional array of unicode strings, else "0" to the highest
    label. Other common names of the arrays are known too (`feddag_flwr.data.npz_layout`). Where
    `unlabelled` lets it, an archive without any labels is read too, for its training samples.
    """
    with opened_archive(path) as archive:
        layout = find_layout(archive.files, modality.array)
        if unlabelled and layout.train.labels not in archive.files and layout.test is None:
            return _npz_without_labels(path, archive, layout, modality)
        train, test = _npz_part(path, archive, layout.train, modality), None
        if not len(train):
            what = f"{modality.array} ({layout.train.samples!r} has length 0)"
            raise DataError(f"{path}: no train {what}")
        if layout.test is not None:
            test = _npz_part(path, archive, layout.test, modality)
            _check_test(path, layout.test.samples, test, layout.train.samples, train, modality)
        highest = max(int(part.labels.max()) for part in (train, test) if part is not None)
        return Parts(train, test, npz_class_names(path, archive, layout.class_names, highest))


def _npz_without_labels(path: Path, archive: NpzFile, layout: Layout, modality: Modality) -> Parts:
    key = layout.train.samples
    stored = array_in(path, archive, key, modality.array)
    samples = modality.accept(stored, f"{path}: {key!r}")
    if not len(samples):
        raise DataError(f"{path}: no train {modality.array} ({key!r} has length 0)")
    return Parts(LabelledSamples.without_labels(samples), None, ())


def npz_layout(path: Path, array: str = "images") -> Layout:
    """Return which arrays of an archive `read_npz` reads."""
    with opened_archive(path) as archive:
        return find_layout(archive.files, array)


class NpzImages(NamedTuple):
    """Images of an archive, which need not say what they show."""

    images: NDArray[Any]  # (n, channels, height, width), uint8, or float32 in [0, 1]
    key: str  # array that they come from
    labels: NDArray[np.int64] | None  # (n,)
    class_names: tuple[str, ...]  # empty without labels


def read_npz_images(path: Path) -> NpzImages:
    """Read the images of an archive as in `read_npz`, of the test part where it has one."""
    modality = load_modality("image")
    with opened_archive(path) as archive:
        pair = find_samples(archive.files)
        if pair.labels not in archive.files:
            stored = array_in(path, archive, pair.samples, modality.array)
            images = modality.accept(stored, f"{path}: {pair.samples!r}")
            return NpzImages(images, pair.samples, None, ())
        part = _npz_part(path, archive, pair, modality)
        highest = int(part.labels.max()) if len(part) else -1
        key = find_layout(archive.files).class_names
        names = npz_class_names(path, archive, key, highest)
        return NpzImages(part.samples, pair.samples, part.labels, names)


@contextmanager
def opened_archive(path: Path) -> Iterator[NpzFile]:
    """Open an archive; whatever NumPy, zipfile or a codec raises for it becomes a DataError."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected an .npz archive")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, NpzFile):
            raise DataError(_unreadable_npz(path, "it is a single array"))
        with archive:
            yield archive
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{path}: does not fit into memory ({in_one_line(error)})") from error
    except Exception as error:  # of many kinds, as bytes can be broken in many places
        raise DataError(_unreadable_npz(path, in_one_line(error))) from error


def _unreadable_npz(path: Path, reason: str) -> str:
    return f"{path}: not a readable .npz archive of plain arrays without pickles ({reason})"


def array_in(path: Path, archive: NpzFile, key: str, array: str) -> NDArray[Any]:
    """Return one array of an archive; `array` is the name of its samples, for the message."""
    if key not in archive.files:
        raise DataError(f"{path}: {missing(key, archive.files, array)}")
    stored = archive[key]
    if not isinstance(stored, np.ndarray):  # NumPy returns the bytes of a member that is none
        raise DataError(_unreadable_npz(path, f"{key!r} is no array"))
    return stored


def _npz_part(path: Path, archive: NpzFile, pair: Pair, modality: Modality) -> LabelledSamples:
    stored = array_in(path, archive, pair.samples, modality.array)
    labels = array_in(path, archive, pair.labels, modality.array)
    samples = modality.accept(stored, f"{path}: {pair.samples!r}")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise DataError(
            f"{path}: {pair.labels!r} is {labels.dtype} of shape {labels.shape}; "
            "expected integers of shape (n,)"
        )
    if len(labels) != len(samples):
        raise DataError(
            f"{path}: {len(samples)} {pair.samples!r} but {len(labels)} {pair.labels!r}"
        )
    if len(labels) and (labels.min() < 0 or labels.max() >= MAX_CLASSES):
        raise DataError(
            f"{path}: {pair.labels!r} run from {labels.min()} to {labels.max()}; "
            f"expected 0 to {MAX_CLASSES - 1} at most"
        )
    return LabelledSamples(samples, labels.astype(np.int64))


def _check_test(
    path: Path,
    test_key: str,
    test: LabelledSamples,
    train_key: str,
    train: LabelledSamples,
    modality: Modality,
) -> None:
    """Refuse an empty test part, and one whose samples differ from those to train on."""
    if not len(test):
        raise DataError(f"{path}: {test_key!r} has length 0; leave it out or fill it")
    shapes = test.samples.shape[1:], train.samples.shape[1:]
    if shapes[0] != shapes[1] or test.samples.dtype != train.samples.dtype:
        test_words, train_words = (
            f"{modality.in_words(modality.spec(part.samples))}, {part.samples.dtype}"
            for part in (test, train)
        )
        raise DataError(
            f"{path}: {test_key!r} are {test_words} but {train_key!r} are {train_words}; "
            "expected the same shape and type"
        )


def npz_class_names(path: Path, archive: NpzFile, key: str | None, highest: int) -> tuple[str, ...]:
    """Return the names of classes that an archive has, at least up to the `highest` label."""
    if key is None:
        return tuple(str(label) for label in range(highest + 1))
    stored = array_in(path, archive, key, key)
    if stored.dtype.kind != "U" or stored.ndim != 1:
        raise DataError(
            f"{path}: {key!r} is {stored.dtype} of shape {stored.shape}; "
            "expected unicode strings of shape (classes,)"
        )
    names = tuple(class_name(str(name)) for name in stored)
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(
            f"{path}: {key!r} has duplicates ({repeated[0]!r}); expected each name once"
        )
    if highest >= len(names):
        raise DataError(
            f"{path}: label {highest} is out of range for {len(names)} {key!r}; "
            f"expected 0 to {len(names) - 1}"
        )
    return names


class Listing(NamedTuple):
    """The image files of one part of a tree, and their labels."""

    files: list[Path]
    labels: list[int]


def read_image_folder(root: Path) -> Parts:
    """Read ``root/train/CLASS/**`` and ``root/test/CLASS/**``, or ``root/CLASS/**`` alone.

    Files end in .png, .jpg or .jpeg, at any depth below the folder of their class; hidden and
    other files are passed over. Images stay grey (one channel) when all files of both parts are,
    otherwise all become RGB. Class names are those of the folders in Unicode's form NFC, sorted.
    """
    train, test, class_names = list_image_folder(root)
    images = _read_images(root, train.files + (test.files if test else []))
    count = len(train.files)
    return Parts(
        LabelledSamples(images[:count], np.array(train.labels, dtype=np.int64)),
        LabelledSamples(images[count:], np.array(test.labels, dtype=np.int64)) if test else None,
        class_names,
    )


def read_loose_images(root: Path) -> Parts:
    """Read the images that lie in a folder itself, in no folder of a class: they have no labels."""
    images = _read_images(root, loose_images(root))
    return Parts(LabelledSamples.without_labels(images), None, ())


def loose_images(root: Path) -> list[Path]:
    """List the images in a folder that has no sub-folders; none where it has some."""
    _check_folder(root)
    return [] if subfolders(root) else images_below(root)


def list_image_folder(root: Path) -> tuple[Listing, Listing | None, tuple[str, ...]]:
    """List the train and test files that `read_image_folder` reads, in its order, and class names.

    No file is opened; without ``test`` there is no test listing.
    """
    _check_folder(root)
    split = (root / "train").is_dir()
    train_root = root / "train" if split else root
    class_names = tuple(sorted({class_name(folder.name) for folder in subfolders(train_root)}))
    if not class_names:
        raise DataError(
            f"{train_root}: no train images; expected one sub-folder a class with {_SUFFIXES} files"
        )
    if not split:
        _check_no_parts(root)
    train = _list_files(train_root, class_names)
    for label in sorted(set(range(len(class_names))) - set(train.labels)):
        raise DataError(
            f"{train_root / class_names[label]}: no train images; expected {_SUFFIXES} files in "
            "every class folder"
        )
    test = None
    if split and (root / "test").is_dir():
        test = _list_files(root / "test", class_names)
        if not test.files:
            raise DataError(f"{root / 'test'}: no test images; fill the folder or remove it")
    return train, test, class_names


def _check_folder(root: Path) -> None:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected a folder of images")


def _check_no_parts(root: Path) -> None:
    """Refuse folders Train and Test, or training and testing: they would be taken for classes."""
    for folder in subfolders(root):
        if folder.name.lower() in _PART_NAMES and subfolders(folder):
            raise DataError(
                f"{folder}: a folder of that name would be a class; parts are called "
                "'train' and 'test' here"
            )


def read_domain_folders(root: Path) -> Parts:
    """Read ``root/DOMAIN/CLASS/**`` (scenario domains); files as in `read_image_folder`.

    Labels are domain * C + class, domains and classes sorted by name; a domain may lack a class.
    There is no test part.
    """
    _check_folder(root)
    domains = subfolders(root)
    if not domains:
        raise DataError(f"{root}: no domains; expected folders DOMAIN/CLASS with images")
    class_names = sorted(
        {class_name(folder.name) for domain in domains for folder in subfolders(domain)}
    )
    files: list[Path] = []
    labels: list[int] = []
    for index, domain in enumerate(domains):
        listing = _list_files(domain, class_names)
        if not listing.files:
            raise DataError(
                f"{domain}: no images; expected one sub-folder a class with {_SUFFIXES} files"
            )
        files.extend(listing.files)
        labels.extend(index * len(class_names) + label for label in listing.labels)
    if empty := set(range(len(class_names))) - {label % len(class_names) for label in labels}:
        raise DataError(f"{root}: class {class_names[min(empty)]!r} has no images in any domain")
    images = _read_images(root, files)
    return Parts(
        LabelledSamples(images, np.array(labels, dtype=np.int64)),
        None,
        tuple(class_names),
        tuple(domain.name for domain in domains),
    )


def subfolders(root: Path) -> list[Path]:
    """Return the sub-folders of `root` that are not hidden, sorted by name."""
    try:
        folders = [path for path in root.iterdir() if path.is_dir() and not _hidden(path.name)]
    except OSError as error:
        raise DataError(f"{root}: cannot be listed ({error.strerror})") from error
    return sorted(folders, key=lambda folder: folder.name)


def files_below(root: Path) -> list[Path]:
    """Return all files in a folder and its sub-folders that are not hidden, sorted.

    Links to folders are followed, each folder once.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be listed ({error.strerror})") from error

    below: list[Path] = []
    seen: set[str] = set()
    for folder, inner, files in os.walk(root, followlinks=True, onerror=refuse):
        place = os.path.realpath(folder)
        if place in seen:
            inner.clear()
            continue
        seen.add(place)
        inner[:] = sorted(name for name in inner if not _hidden(name))
        below += [Path(folder, name) for name in files]
    return sorted(below)


def images_below(root: Path) -> list[Path]:
    """Return those of `files_below` that are read as images: neither hidden nor of other kinds."""
    return [
        file
        for file in files_below(root)
        if file.suffix.lower() in IMAGE_SUFFIXES and not _hidden(file.name)
    ]


def _hidden(name: str) -> bool:
    return name.startswith(".")


def _list_files(root: Path, class_names: Sequence[str]) -> Listing:
    listing = Listing([], [])
    for folder in subfolders(root):
        name = class_name(folder.name)
        if name not in class_names:
            raise DataError(
                f"{folder}: class {name!r} has no train images; "
                f"expected one of {', '.join(class_names)}"
            )
        files = images_below(folder)
        listing.files.extend(files)
        listing.labels.extend([class_names.index(name)] * len(files))
    return listing


@contextmanager
def opened_image(file: Path) -> Iterator[Image.Image]:
    """Open an image file; whatever Pillow raises while it is read becomes a DataError."""
    try:
        with Image.open(file) as image:
            yield image
    except DataError:
        raise
    except Exception as error:  # Pillow lets through what its readers stumble over
        raise DataError(f"{file}: not a readable image ({in_one_line(error)})") from error


def _read_images(root: Path, files: Sequence[Path]) -> NDArray[np.uint8]:
    """Decode all files into one array, after a first pass over their headers."""
    with opened_image(files[0]) as image:
        width, height = image.size
    grey = True
    for file in files:
        with opened_image(file) as image:
            _check_depth(file, image)
            grey = grey and image.mode in GREY_MODES
            if image.size != (width, height):
                raise DataError(
                    f"{file}: {image.width} x {image.height} pixels (width x height), but "
                    f"{files[0]} has {width} x {height}; expected images of one size"
                )
    try:
        images = np.empty((len(files), 1 if grey else 3, height, width), dtype=np.uint8)
    except MemoryError as error:
        raise DataError(
            f"{root}: {len(files):,} images of {width} x {height} pixels do not fit into memory"
        ) from error
    for index, file in enumerate(files):
        with opened_image(file) as image:
            images[index] = _pixels(image, grey=grey)
    return images


def _check_depth(file: Path, image: Image.Image) -> None:
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{file}: pixels of mode {image.mode!r}; expected 8 bits a channel")


def _pixels(image: Image.Image, *, grey: bool) -> NDArray[np.uint8]:
    """Decode an opened image to (channels, height, width)."""
    pixels = np.asarray(image.convert("L" if grey else "RGB"))
    return pixels[np.newaxis] if grey else pixels.transpose(2, 0, 1)


def read_image(file: Path, image_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Read one image for a model that takes images of one shape (channels, height, width).

    A grey image will do for a model of three channels, as in training; a coloured one will not for
    a model of one.
    """
    channels, height, width = image_shape
    if channels not in {1, 3}:
        raise DataError(f"{file}: the model takes {channels} channels, which image files have not")
    wanted = f"expected {width} x {height}, {'grey' if channels == 1 else 'colour'}"
    with opened_image(file) as image:
        _check_depth(file, image)
        if image.size != (width, height):
            raise DataError(
                f"{file}: {image.width} x {image.height} pixels (width x height); {wanted}"
            )
        if channels == 1 and image.mode not in GREY_MODES:
            raise DataError(f"{file}: pixels of mode {image.mode!r}; {wanted}")
        return _pixels(image, grey=channels == 1)
