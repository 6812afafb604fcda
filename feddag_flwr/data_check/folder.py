"""A folder of images, looked at by its owner: what cannot be read, and what is passed over."""

from collections.abc import Iterator
from pathlib import Path

from feddag_flwr.data.folders import FolderOfClasses
from feddag_flwr.data.images.words import listed
from feddag_flwr.data_check.words import several


def unreadable(folder: FolderOfClasses) -> Iterator[str]:
    """Name the files that cannot be read, once the folder was."""
    bad = [folder.images.files[place] for place in sorted(folder.images.bad)]
    if bad:
        yield f"{several(len(bad), 'file')} cannot be read: {_named(bad, folder.root)}"


def folder_notes(folder: FolderOfClasses) -> Iterator[str]:
    """Say which files are passed over, which classes are empty, and whether colours are mixed."""
    yield from folder.passed_over()
    yield from folder.empty_classes()
    survey = folder.images.survey
    if 0 < survey.grey < survey.readable:
        yield (
            f"{survey.grey} of {survey.readable} files are grey, the others not: all become RGB, "
            "and the client has three channels"
        )


def _named(files: list[Path], root: Path) -> str:
    return listed([str(file.relative_to(root)) for file in files])
