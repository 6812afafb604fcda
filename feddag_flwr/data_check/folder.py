"""A folder of images, file by file: what stops it from being read, and what is passed over."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from feddag_flwr.data.files import (
    GREY_MODES,
    IMAGE_SUFFIXES,
    files_below,
    list_image_folder,
    opened_image,
)
from feddag_flwr.data.samples import DataError
from feddag_flwr.data_check.words import listed, several


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
            with opened_image(file) as image:
                image.load()
                sizes[image.size].append(file)
                if image.mode.startswith(("I", "F")):
                    deep.append(file)
        except DataError:
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
            f"{width} x {height}: {_named(of_size, root)}"
            for (width, height), of_size in sorted(sizes.items())
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
        rest = sorted(set(files_below(root)) - set(files))
    except DataError:
        return []
    notes = []
    if rest:
        suffixes = Counter(file.suffix.lower() or "no suffix" for file in rest)
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(suffixes.items()))
        notes.append(
            f"{several(len(rest), 'file')} passed over ({kinds}): {_named(rest, root)}; read are "
            f"{', '.join(IMAGE_SUFFIXES)} files that are not hidden, in folders of classes, which "
            "lie in 'train' and 'test' where there is a 'train'"
        )
    modes = {file: mode for file in files if (mode := _mode(file))}
    grey = [file for file, mode in modes.items() if mode in GREY_MODES]
    if 0 < len(grey) < len(modes):
        notes.append(
            f"{len(grey)} of {len(modes)} files are grey, the others not: all become RGB, and the "
            f"client has three channels; grey are {_named(grey, root)}"
        )
    return notes


def _files(root: Path) -> list[Path]:
    train, test, _ = list_image_folder(root)
    return train.files + (test.files if test else [])


def _mode(file: Path) -> str:
    """Return Pillow's mode of a file; empty where it cannot be read, or not be used."""
    try:
        with opened_image(file) as image:
            return "" if image.mode.startswith(("I", "F")) else image.mode
    except DataError:
        return ""


def _named(files: Iterable[Path], root: Path) -> str:
    return listed([str(file.relative_to(root)) for file in files])
