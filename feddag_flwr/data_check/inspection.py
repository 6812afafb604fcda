"""A client's own data, read and split as the client will, or the faults for which it cannot be."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from feddag_flwr.client.introduction import introduce
from feddag_flwr.data.by_code.client import load_with_origins
from feddag_flwr.data.by_code.loading import is_reference
from feddag_flwr.data.classes import in_classes
from feddag_flwr.data.client import ClientData
from feddag_flwr.data.datasets import read_own, reading_of
from feddag_flwr.data.files import npz_layout
from feddag_flwr.data.folders import FolderOfClasses
from feddag_flwr.data.holdout import hold_back, stratified_test_indices
from feddag_flwr.data.npz_layout import Layout
from feddag_flwr.data.own import as_client, default_name
from feddag_flwr.data.samples import DataError, Parts, in_one_line
from feddag_flwr.data.settings import class_list
from feddag_flwr.data.tables import TableOptions, column_names, row_names
from feddag_flwr.data_check.columns import unknown_columns
from feddag_flwr.data_check.findings import find_weaknesses
from feddag_flwr.data_check.folder import folder_notes, unreadable
from feddag_flwr.data_check.kinds import CODE, FOLDER, NPZ, TABLE, kind_of
from feddag_flwr.data_check.seen import SeenData, as_seen
from feddag_flwr.data_check.words import listed, several
from feddag_flwr.modalities import load_modality
from feddag_flwr.privacy.budget import check_installed
from feddag_flwr.profile import DIRECTIONS
from feddag_flwr.records import Description, RecordError
from feddag_flwr.registry import name_list
from feddag_flwr.settings import Settings, SettingsError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CODE", "FOLDER", "NPZ", "TABLE", "Inspection", "inspect_data", "kind_of"]

# Arrays that are read beside samples, labels and names of classes.
_READ_TOO = frozenset({"column_names", "lengths", "test_lengths"})


@dataclass(frozen=True, eq=False)
class Inspection:
    """What was found of a client's data."""

    name: str
    path: Path  # of its data
    kind: str  # value of the setting ``dataset``: npz, image-folder, table or code
    data: ClientData | None = None  # as the client will use it; None where it could not be read
    split_made: bool = False  # the test part is held out by seed, for the files have none
    faults: list[str] = field(default_factory=list)  # why it would be refused, or could not start
    warnings: list[str] = field(default_factory=list)  # what deserves a look
    changes: list[str] = field(default_factory=list)  # what is done to images of other forms


def inspect_data(path: Path, name: str, settings: Settings) -> Inspection:
    """Read a client's data as the client does, and look for faults and weaknesses.

    `settings` are those of the run, with scenario own and the `kind_of` the path; an empty name
    stands for that of the files.
    """
    if is_reference(settings.data.dataset):
        return _inspect_code(path, name, settings)
    kind = settings.data.dataset
    name = name or default_name(kind, path.absolute())
    reading = reading_of(settings)
    try:
        folder = None
        if kind == FOLDER:  # files that cannot be read are all to be named, not the first alone
            folder = FolderOfClasses(path, reading._replace(skip=True), unlabelled=True)
        parts = folder.read() if folder else _read(path, name, settings)
        data = as_client(parts, name, path, settings.run.seed, settings.data.test_fraction)
    except DataError as error:
        return Inspection(name, path, kind, faults=[str(error)])
    warnings: list[str] = []
    changes: list[str] = []
    faults: list[str] = []
    if folder is not None:
        (warnings if reading.skip else faults).extend(unreadable(folder))
        warnings += folder_notes(folder)
        changes += folder.changes()
    if not data.labelled:
        warnings.append(_no_labels(data))
        return Inspection(name, path, kind, faults=faults, warnings=warnings)
    warnings += find_weaknesses(data, _origins(parts, path, data, settings, folder), settings)
    train, held_back = hold_back(
        data.train, settings.data.validation_share, settings.run.seed, client=name
    )
    data = replace(data, train=train, validation=held_back)
    if kind == TABLE:
        warnings += unknown_columns(column_names(path), settings.data)
    if kind == NPZ:
        array = load_modality(settings.data.modality).array
        warnings += _archive_notes(npz_layout(path, array), data)
    faults += _refusals(data, path, settings)
    return Inspection(name, path, kind, data, parts.test is None, faults, warnings, changes)


def _inspect_code(path: Path, name: str, settings: Settings) -> Inspection:
    """Call a client's own loader as the client does, as the first of all clients."""
    node_config: dict[str, int | str] = {"partition-id": 0}
    if name:
        node_config["client-name"] = name
    try:
        data, origins = load_with_origins(settings, node_config)
    except DataError as error:
        return Inspection(name, path, CODE, faults=[str(error)])
    made = bool(origins[1]) and origins[1][0].startswith("train")
    warnings = find_weaknesses(data, origins, settings)
    faults = _refusals(data, path, settings)
    return Inspection(data.name, path, CODE, data, made, faults, warnings)


def _read(path: Path, name: str, settings: Settings) -> Parts:
    data, options = settings.data, TableOptions.of(settings.data)
    return read_own(
        data.dataset,
        str(path),
        data.modality,
        options,
        name if options.client else "",
        reading=reading_of(settings),
        unlabelled=True,
    )


def _no_labels(data: ClientData) -> str:
    return (
        f"no labels: can be placed, cannot train ({several(len(data.train), 'image')}; the run "
        "needs unlabelled = 'place'); the server would learn the name, the number of images, "
        f"moments of the pixels, and {DIRECTIONS} principal vectors of all images together"
    )


def _archive_notes(layout: Layout, data: ClientData) -> list[str]:
    notes = []
    if passed_over := [name for name in layout.passed_over if name not in _READ_TOO]:
        read = [*layout.train, *(layout.test or ())]
        notes.append(
            f"{several(len(passed_over), 'array')} passed over: "
            f"{listed(passed_over)}; read are {', '.join(read)}"
        )
    if layout.class_names is None and all(name.isdecimal() for name in data.class_names):
        notes.append(
            "the archive has no 'class_names': its classes are called by their numbers, and "
            f"class {data.class_names[-1]!r} is the same as any other client's"
        )
    return notes


def _origins(
    parts: Parts,
    path: Path,
    data: ClientData,
    settings: Settings,
    folder: FolderOfClasses | None,
) -> tuple[list[str], list[str]]:
    """Name each image of the training and the test part as its owner knows it."""
    if folder is not None:
        train = folder.readable(folder.train).files
        test = folder.readable(folder.test).files if folder.test else []
        names = [str(file.relative_to(path)) for file in train]
        given = [str(file.relative_to(path)) for file in test]
    elif settings.data.dataset == TABLE:
        options = TableOptions.of(settings.data)
        names, given = row_names(path, options, data.name if options.client else "")
    else:
        layout = npz_layout(path, load_modality(settings.data.modality).array)
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


def _untrainable(encoder: "nn.Module", seen: SeenData, settings: Settings) -> list[str]:
    """Say why an encoder cannot be trained privately, where it is to be."""
    if not settings.privacy.training_on:
        return []
    from feddag_flwr.models.errors import ModelError
    from feddag_flwr.models.freezing import freeze_encoder
    from feddag_flwr.models.sample_by_sample import check_sample_by_sample

    freeze_encoder(encoder, name_list(settings.training.frozen_layers))
    example = seen.modality.example(seen.spec, 2)
    try:
        check_sample_by_sample(settings.training.model, encoder, example)
    except ModelError as error:
        return [str(error)]
    return []


def _kind_in_words(seen: SeenData) -> str:
    if seen.modality.noun != "image":
        return seen.modality.in_words(seen.spec)
    _, height, width = seen.spec.shape
    return f"images of {width} x {height} pixels (width x height)"


def _refusals(data: ClientData, path: Path, settings: Settings) -> list[str]:
    """Say why the federation would refuse this client, or the client fail."""
    from feddag_flwr.models.errors import ImageShapeError
    from feddag_flwr.models.registry import build_encoder  # PyTorch: seconds

    faults = []
    seen = as_seen(data, settings)
    try:
        encoder = build_encoder(
            settings.training.model,
            seen.spec.shape,
            modality=settings.data.modality,
            details=seen.spec.details,
            normalisation=settings.training.normalisation_layer,
        )
    except ImageShapeError as error:
        faults.append(
            f"{path}: {_kind_in_words(seen)} cannot be trained on: "
            f"{in_one_line(error.__cause__ or error)}"
        )
    else:
        faults += _untrainable(encoder, seen, settings)
    try:
        check_installed(settings.privacy)
        if settings.privacy.on:
            data.check_parts_given(settings.privacy.wanted_by)
    except (DataError, SettingsError) as error:
        faults.append(str(error))
    try:
        Description.decode(
            introduce(data, settings).encode(),
            settings.deployment.max_client_samples,
            settings.data.modality,
        )
    except RecordError as error:
        faults.append(f"the server would refuse this client: {error}")
    wanted = class_list(settings.data.class_names)
    if wanted:
        try:
            in_classes(data, wanted)
        except DataError as error:
            faults.append(str(error))
    return faults
