"""A folder of images, file by file: what stops it from being read, and what is passed over."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from feddag_flwr.data.files import IMAGE_SUFFIXES, UNREADABLE, list_image_folder
from feddag_flwr.data.samples import DataError
from feddag_flwr.data_check.words import listed, several

GREY_MODES = {"L", "1"}


def folder_faults(root: Path) -> list[str]:
    """Name all files for which a folder cannot be read, not the first alone."""
    try:
        files = _files(root)
    except DataError as error:
        return [str(error)]
    broken, deep = [], []
    sizes: dict[tuple[int, int], list[Path]] = defaultdict(list)
    for file in files:
        try:
            with Image.open(file) as image:
                sizes[image.size].append(file)
                if image.mode.startswith(("I", "F")):
                    deep.append(file)
                image.load()
        except UNREADABLE:
            broken.append(file)
    faults = []
    if broken:
        faults.append(f"{several(len(broken), 'file')} cannot be read: {_named(broken, root)}")
    if deep:
        faults.append(
            f"{several(len(deep), 'file')} with more than 8 bits a channel, which cannot be read: "
            + _named(deep, root)
        )
    if len(sizes) > 1:
        common = max(sizes, key=lambda size: len(sizes[size]))
        others = "; ".join(
            f"{width} x {height}: {_named(found, root)}"
            for (width, height), found in sorted(sizes.items())
            if (width, height) != common
        )
        faults.append(
            f"images of {len(sizes)} sizes, must be one; most ({len(sizes[common])}) are "
            f"{common[0]} x {common[1]} pixels (width x height), the others {others}"
        )
    return faults


def folder_notes(root: Path) -> list[str]:
    """Say which files are passed over, and whether grey and coloured images are mixed."""
    try:
        files = _files(root)
    except DataError:
        return []
    known = set(files)
    suffixes = Counter(
        path.suffix.lower() or "no suffix"
        for folder in {file.parent for file in files}
        for path in folder.iterdir()
        if path.is_file() and path not in known
    )
    notes = []
    if suffixes:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(suffixes.items()))
        notes.append(
            f"{several(sum(suffixes.values()), 'file')} passed over ({kinds}); "
            f"read are {', '.join(IMAGE_SUFFIXES)} files that are not hidden"
        )
    grey = [file for file in files if _mode(file) in GREY_MODES]
    if 0 < len(grey) < len(files):
        notes.append(
            f"{len(grey)} of {len(files)} files are grey, the others not: all become RGB, and the "
            f"client has three channels; grey are {_named(grey, root)}"
        )
    return notes


def _files(root: Path) -> list[Path]:
    train, test, _ = list_image_folder(root)
    return train.files + (test.files if test else [])


def _mode(file: Path) -> str:
    try:
        with Image.open(file) as image:
            return image.mode
    except UNREADABLE:
        return ""


def _named(files: Iterable[Path], root: Path) -> str:
    return listed([str(file.relative_to(root)) for file in files])
