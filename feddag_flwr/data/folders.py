"""Images from a person's own folders, a folder a class.

What is missing, damaged or of another form raises a `DataError` that names the path.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from feddag_flwr.class_names import class_name
from feddag_flwr.data.images.decoding import IMAGE_SUFFIXES
from feddag_flwr.data.images.form import ImageForm
from feddag_flwr.data.images.preparation import ImageFiles, Reading
from feddag_flwr.data.images.words import bad_in_words, changes_in_words, listed
from feddag_flwr.data.samples import UNLABELLED, DataError, LabelledSamples, Parts

logger = logging.getLogger("flwr")

AS_FOUND = Reading()
_SUFFIXES = ", ".join(IMAGE_SUFFIXES)
_PART_NAMES = frozenset({"train", "training", "test", "testing", "val", "valid", "validation"})


class Listing(NamedTuple):
    """The image files of one part of a tree, and their labels."""

    files: list[Path]
    labels: list[int]


def read_image_folder(
    root: Path, reading: Reading = AS_FOUND, form: ImageForm | None = None
) -> Parts:
    """Read ``root/train/CLASS/**`` and ``root/test/CLASS/**``, or ``root/CLASS/**`` alone.

    Files end in one of `IMAGE_SUFFIXES`, at any depth below the folder of their class; hidden and
    other files are passed over. Images are brought to a `form`, by default the one that most have,
    and stay grey (one channel) when all files of both parts are, otherwise all become RGB. Class
    names are those of the folders in Unicode's form NFC, sorted. The log tells what is changed or
    left out.
    """
    return FolderOfClasses(root, reading).read_and_tell(form)


class FolderOfClasses:
    """A folder of images, listed, and decoded once it is asked for.

    Attributes
    ----------
    train, test : Listing
        Their files; without a part ``test`` that is None.
    class_names : tuple of str
        None where the images have no labels: `unlabelled` lets them lie in the folder itself, in no
        folder of a class.
    images : ImageFiles
        Files of both parts.
    """

    def __init__(self, root: Path, reading: Reading, *, unlabelled: bool = False) -> None:
        self.root = root
        self.train, self.test, self.class_names = (
            unlabelled and _list_loose_images(root)
        ) or list_image_folder(root)
        files = self.train.files + (self.test.files if self.test else [])
        self.images = ImageFiles(root, files, reading)

    def read(self, form: ImageForm | None = None) -> Parts:
        """Decode the images, in a `form` or their own; those that cannot be read are left out."""
        form = self.images.own_form if form is None else form
        count = len(self.train.files)
        train = self._prepared(self.train, slice(0, count), form)
        test = self._prepared(self.test, slice(count, None), form) if self.test else None
        if not len(train):
            raise DataError(f"{self.root}: no train image can be read")
        if test is not None and not len(test):
            raise DataError(f"{self.root}: no test image can be read")
        left_out = self.files_left_out
        return Parts(train, test, self.class_names, spec=form.spec, files_left_out=left_out)

    def read_and_tell(self, form: ImageForm | None = None) -> Parts:
        """Decode the images as `read` does; the log tells what is changed or left out."""
        parts = self.read(form)
        for line in (*self.changes(form), *self.passed_over()):
            logger.info("%s: %s", self.root, line)
        for line in (*bad_in_words(self.images), *self.empty_classes()):
            logger.warning("%s: %s", self.root, line)
        return parts

    def readable(self, listing: Listing) -> Listing:
        """Return those files of a part that can be read, as far as that is known."""
        self.images.survey  # noqa: B018 - looks at the heads
        bad = {self.images.files[place] for place in self.images.bad}
        pairs = zip(listing.files, listing.labels, strict=True)
        good = [(file, label) for file, label in pairs if file not in bad]
        return Listing([file for file, _ in good], [label for _, label in good])

    def changes(self, form: ImageForm | None = None) -> Iterator[str]:
        """Say what becomes of images of other sizes, and of more than 8 bits a channel."""
        yield from changes_in_words(self.images.survey, form or self.images.own_form)

    def empty_classes(self) -> Iterator[str]:
        """Name the classes that have no train images."""
        held = set(self.train.labels)
        bare = [name for label, name in enumerate(self.class_names) if label not in held]
        if bare:
            yield f"no train images of {listed([repr(name) for name in bare])}"

    def passed_over(self) -> Iterator[str]:
        """Say which files are no images, or hidden, or in no folder of a class."""
        if rest := self._rest:
            suffixes = Counter(file.suffix.lower() or "no suffix" for file in rest)
            kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(suffixes.items()))
            named = listed([str(file.relative_to(self.root)) for file in rest])
            files = "1 file" if len(rest) == 1 else f"{len(rest):,} files"
            yield (
                f"{files} passed over ({kinds}): {named}; read are {_SUFFIXES} files that are not "
                "hidden, in folders of classes, which lie in 'train' and 'test' where there is a "
                "'train'"
            )

    @property
    def files_left_out(self) -> int:
        """Count files that cannot be read, as far as that is known, and images of no class."""
        self.images.survey  # noqa: B018 - looks at the heads
        return len(self.images.bad) + sum(map(_is_image, self._rest))

    @cached_property
    def _rest(self) -> list[Path]:
        """Files that are not read."""
        read = set(self.images.files)
        return [file for file in files_below(self.root) if file not in read]

    def _prepared(self, listing: Listing, part: slice, form: ImageForm) -> LabelledSamples:
        prepared = self.images.prepare(form, part, "test" if part.start else "train")
        labels = [listing.labels[place - part.start] for place in prepared.places]
        return LabelledSamples(prepared.pixels, np.array(labels, dtype=np.int64))


def list_image_folder(root: Path) -> tuple[Listing, Listing | None, tuple[str, ...]]:
    """List the train and test files that `read_image_folder` reads, in its order, and class names.

    No file is opened; without ``test`` there is no test listing. A class may lack images.
    """
    _check_folder(root)
    split = (root / "train").is_dir()
    train_root, test_root = root / "train" if split else root, root / "test"
    tested = split and test_root.is_dir()
    folders = subfolders(train_root) + (subfolders(test_root) if tested else [])
    class_names = tuple(sorted({class_name(folder.name) for folder in folders}))
    if not split:
        _check_no_parts(root)
    train = _list_files(train_root, class_names)
    if not train.files:
        raise DataError(
            f"{train_root}: no train images; expected one sub-folder a class with {_SUFFIXES} files"
        )
    test = None
    if tested:
        test = _list_files(test_root, class_names)
        if not test.files:
            raise DataError(f"{test_root}: no test images; fill the folder or remove it")
    return train, test, class_names


def _list_loose_images(root: Path) -> tuple[Listing, None, tuple[str, ...]] | None:
    """List the images in a folder that has no sub-folders; None where there are none such."""
    _check_folder(root)
    files = [] if subfolders(root) else images_below(root)
    return (Listing(files, [UNLABELLED] * len(files)), None, ()) if files else None


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


def read_domain_folders(root: Path, reading: Reading = AS_FOUND) -> Parts:
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
    images = ImageFiles(root, files, reading)
    form = images.own_form
    prepared = images.prepare(form, slice(0, len(files)), "domains")
    for line in (*changes_in_words(images.survey, form), *bad_in_words(images)):
        logger.warning("%s: %s", root, line)
    kept = np.array(labels, dtype=np.int64)[prepared.places]
    domain_names = tuple(domain.name for domain in domains)
    return Parts(
        LabelledSamples(prepared.pixels, kept), None, tuple(class_names), domain_names, form.spec
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
    return [file for file in files_below(root) if _is_image(file)]


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not _hidden(file.name)


def _hidden(name: str) -> bool:
    return name.startswith(".")


def _list_files(root: Path, class_names: Sequence[str]) -> Listing:
    listing = Listing([], [])
    for folder in subfolders(root):
        files = images_below(folder)
        listing.files.extend(files)
        listing.labels.extend([class_names.index(class_name(folder.name))] * len(files))
    return listing
