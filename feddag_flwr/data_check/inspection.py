"""A client's own data, read and split as the client will, or the faults for which it cannot be."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from feddag_flwr.data.classes import in_classes
from feddag_flwr.data.client import ClientData
from feddag_flwr.data.datasets import read_own
from feddag_flwr.data.files import list_image_folder, npz_layout
from feddag_flwr.data.holdout import stratified_test_indices
from feddag_flwr.data.npz_layout import Layout
from feddag_flwr.data.own import as_client, default_name
from feddag_flwr.data.pixels import pixel_moments
from feddag_flwr.data.samples import DataError, Parts, in_one_line
from feddag_flwr.data.settings import class_list
from feddag_flwr.data_check.findings import find_weaknesses
from feddag_flwr.data_check.folder import folder_faults, folder_notes
from feddag_flwr.data_check.words import listed, several
from feddag_flwr.profile import DIRECTIONS
from feddag_flwr.records import Description, RecordError
from feddag_flwr.settings import Settings

NPZ, FOLDER = "npz", "image-folder"


@dataclass(frozen=True, eq=False)
class Inspection:
    """What was found of a client's data."""

    name: str
    path: Path  # of its data
    kind: str  # value of the setting ``dataset``: npz or image-folder
    data: ClientData | None = None  # as the client will use it; None where it could not be read
    split_made: bool = False  # the test part is held out by seed, for the files have none
    faults: list[str] = field(default_factory=list)  # why it would be refused, or could not start
    warnings: list[str] = field(default_factory=list)  # what deserves a look


def kind_of(path: Path) -> str:
    """Tell from a path which setting ``dataset`` reads it; a `DataError` where none does."""
    if path.is_dir():
        return FOLDER
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.suffix != ".npz":
        raise DataError(f"{path}: neither an .npz archive nor a folder of images")
    return NPZ


def inspect_data(path: Path, name: str, settings: Settings) -> Inspection:
    """Read a client's data as the client does, and look for faults and weaknesses.

    `settings` are those of the run, with scenario own and the `kind_of` the path; an empty name
    stands for that of the files.
    """
    kind = settings.data.dataset
    name = name or default_name(kind, path.absolute())
    warnings = folder_notes(path) if kind == FOLDER else []
    try:
        parts = read_own(kind, str(path), settings.data.modality, unlabelled=True)
        data = as_client(parts, name, path, settings.run.seed, settings.data.test_fraction)
    except DataError as error:
        faults = (folder_faults(path) if kind == FOLDER else []) or [str(error)]
        return Inspection(name, path, kind, faults=faults, warnings=warnings)
    if not data.labelled:
        return Inspection(name, path, kind, warnings=[*warnings, _no_labels(data)])
    warnings += find_weaknesses(data, _origins(parts, path, data, settings), settings)
    if kind == NPZ:
        warnings += _archive_notes(npz_layout(path), data)
    faults = _refusals(data, path, settings)
    return Inspection(name, path, kind, data, parts.test is None, faults, warnings)


def _no_labels(data: ClientData) -> str:
    return (
        f"no labels: can be placed, cannot train ({several(len(data.train), 'image')}; the run "
        "needs unlabelled = 'place'); the server would learn the name, the number of images, "
        f"moments of the pixels, and {DIRECTIONS} principal vectors of all images together"
    )


def _archive_notes(layout: Layout, data: ClientData) -> list[str]:
    notes = []
    if layout.passed_over:
        read = [*layout.train, *(layout.test or ())]
        notes.append(
            f"{several(len(layout.passed_over), 'array')} passed over: "
            f"{listed(layout.passed_over)}; read are {', '.join(read)}"
        )
    if layout.class_names is None:
        notes.append(
            "the archive has no 'class_names': its classes are called by their numbers, and "
            f"class {data.class_names[-1]!r} is the same as any other client's"
        )
    return notes


def _origins(
    parts: Parts, path: Path, data: ClientData, settings: Settings
) -> tuple[list[str], list[str]]:
    """Name each image of the training and the test part as its owner knows it."""
    if settings.data.dataset == FOLDER:
        train, test, _ = list_image_folder(path)
        names = [str(file.relative_to(path)) for file in train.files]
        given = [str(file.relative_to(path)) for file in test.files] if test else []
    else:
        layout = npz_layout(path)
        names = [f"{layout.train.samples}[{index}]" for index in range(len(parts.train))]
        key = layout.test.samples if layout.test else ""
        given = [f"{key}[{index}]" for index in range(len(parts.test or ()))]
    if parts.test is not None:
        return names, given
    held_out = stratified_test_indices(
        parts.train.labels, settings.data.test_fraction, settings.run.seed, client=data.name
    )
    kept = np.setdiff1d(np.arange(len(parts.train)), held_out)
    return [names[index] for index in kept], [names[index] for index in held_out]


def describe(data: ClientData) -> Description:
    """Return how the client will introduce itself."""
    images = data.train.samples
    return Description(
        data.name,
        data.class_names,
        images.shape[1:],
        len(data.train),
        len(data.test),
        pixel_moments(images),
        data.true_group,
    )


def _refusals(data: ClientData, path: Path, settings: Settings) -> list[str]:
    """Say why the federation would refuse this client, or the client fail."""
    from feddag_flwr.models.registry import ImageShapeError, build_encoder  # PyTorch: seconds

    faults = []
    channels, height, width = data.train.samples.shape[1:]
    try:
        build_encoder(settings.training.model, (channels, height, width))
    except ImageShapeError as error:
        faults.append(
            f"{path}: images of {width} x {height} pixels (width x height) cannot be trained on: "
            f"{in_one_line(error.__cause__ or error)}"
        )
    try:
        Description.decode(describe(data).encode(), settings.deployment.max_client_samples)
    except RecordError as error:
        faults.append(f"the server would refuse this client: {error}")
    wanted = class_list(settings.data.class_names)
    if wanted:
        try:
            in_classes(data, wanted)
        except DataError as error:
            faults.append(str(error))
    return faults
