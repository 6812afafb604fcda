"""Scenario own: each client's own folder, archive or table, which may change on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from feddag_flwr.data.by_code.client import load_by_code, outline_by_code
from feddag_flwr.data.by_code.loading import is_reference
from feddag_flwr.data.client import ClientData, NodeConfig, read_partition_id, read_text
from feddag_flwr.data.datasets import read_own, reading_of
from feddag_flwr.data.folders import FolderOfClasses, files_below, subfolders
from feddag_flwr.data.holdout import held_back_indices, stratified_test_indices, with_test_part
from feddag_flwr.data.images.form import ImageForm
from feddag_flwr.data.images.preparation import Reading
from feddag_flwr.data.outline import Outline
from feddag_flwr.data.samples import DataError, Parts
from feddag_flwr.data.tables import TableOptions, client_names, table_files
from feddag_flwr.modalities.base import SampleSpec
from feddag_flwr.settings import Settings

# Path, time of the last change in nanoseconds, bytes.
_FileState = tuple[str, int, int]


class Source(NamedTuple):
    """A client's own files as they are now, and how they are read.

    Attributes
    ----------
    whose : str
        Whose rows they are, of a table that holds those of many clients; else empty.
    unlabelled : bool
        Whether they may lack labels.
    state : frozenset
        Path, time of change and size of each file: they are read anew when it changes.
    """

    kind: str
    path: Path
    name: str
    modality: str
    options: TableOptions
    whose: str
    seed: int
    test_fraction: float
    unlabelled: bool
    reading: Reading
    state: frozenset[_FileState]

    @classmethod
    def of(cls, settings: Settings, node_config: NodeConfig) -> Source:
        """Find the files of ``data-path``, or of a partition's place in ``data-dir``."""
        given = read_text(node_config, "data-path")
        named = read_text(node_config, "client-name")
        options = TableOptions.of(settings.data)
        whose = named or ""
        if given:
            path = Path(given).expanduser()
        elif options.client and settings.data.dataset == "table":
            path, whose = _own_rows(settings, node_config, options)
            named = named or whose
        else:
            path = _own_path(settings, node_config)
        path = path.absolute()
        return cls(
            settings.data.dataset,
            path,
            named or default_name(settings.data.dataset, path),
            settings.data.modality,
            options,
            whose if options.client else "",
            settings.run.seed,
            settings.data.test_fraction,
            settings.clustering.unlabelled == "place",
            reading_of(settings, read_text(node_config, "cache-path") or ""),
            frozenset(_file_states(path)),  # before reading: what changes meanwhile counts
        )

    def own_spec(self) -> SampleSpec | None:
        """Return what the samples have in common while no federation asks for something else."""
        if self.kind == "image-folder":
            with _named(self.name):
                return _listed(self).images.own_form.spec
        return _read(self, None).spec


def load_own_data(
    settings: Settings, node_config: NodeConfig, spec: SampleSpec | None = None
) -> ClientData:
    """Read the client's own data, from ``data-path`` or its partition's place in ``data-dir``.

    A process reads files once, and anew when one came, went, or has another size or time of
    change. Where a test part is held out, more samples mean another draw. Images are brought to
    the federation's `spec` where it is known.
    """
    if is_reference(settings.data.dataset):
        return load_by_code(settings, node_config, spec)
    source = Source.of(settings, node_config)
    if spec is None or source.modality != "image" or spec == source.own_spec():
        return _read(source, None)
    return _read(source, spec)


def outline_own_data(settings: Settings, node_config: NodeConfig) -> Outline | None:
    """Return what is known before many images are decoded; None where the data is read at once.

    Counts are those of the files whose heads can be read.
    """
    if settings.data.scenario == "own" and is_reference(settings.data.dataset):
        return outline_by_code(settings, node_config)
    if settings.data.scenario != "own" or settings.data.dataset != "image-folder":
        return None
    source = Source.of(settings, node_config)
    with _named(source.name):
        folder = _listed(source)
        form = folder.images.own_form
        if not folder.images.is_large(form):
            return None
        train, test = _sizes(folder, source, settings.data.validation_share)
        left_out = folder.files_left_out
        return Outline(source.name, folder.class_names, form.spec, train, test, left_out)


def _sizes(folder: FolderOfClasses, source: Source, validation_share: float) -> tuple[int, int]:
    """Count what will be trained on and tested, as far as files can be read."""
    labels = np.array(folder.readable(folder.train).labels, dtype=np.int64)
    seed, client, test = source.seed, source.name, 0
    if folder.test is not None:
        test = len(folder.readable(folder.test).files)
    elif folder.class_names:
        held_out = stratified_test_indices(labels, source.test_fraction, seed, client=client)
        labels, test = np.delete(labels, held_out), len(held_out)
    held_back = held_back_indices(labels, validation_share, seed, client=client)
    return len(labels) - len(held_back), test


def _own_rows(
    settings: Settings, node_config: NodeConfig, options: TableOptions
) -> tuple[Path, str]:
    """Return the table of all clients, and whose rows are the partition's, in order of names."""
    partition_id = read_partition_id(settings, node_config)
    path = Path(settings.data.data_dir).expanduser().absolute()
    names = client_names(path, options)
    if len(names) != settings.run.num_clients:
        raise DataError(
            f"{path}: column {options.client!r} (client-column) names {len(names)} clients, but "
            f"num-clients = {settings.run.num_clients}; expected as many"
        )
    return path, names[partition_id]


def default_name(dataset: str, path: Path) -> str:
    """Return the name of a client that its node config does not name: that of its files."""
    return path.name if dataset == "image-folder" or path.is_dir() else path.stem


def _own_path(settings: Settings, node_config: NodeConfig) -> Path:
    """Pick the folder or archive of the partition, in order of names."""
    partition_id = read_partition_id(settings, node_config)
    what = {"npz": ".npz files", "table": "tables"}.get(settings.data.dataset, "sub-folders")
    root = Path(settings.data.data_dir).expanduser().absolute()
    if not settings.data.data_dir or not root.is_dir():
        raise DataError(
            f"data-dir = {settings.data.data_dir!r}: no such folder ({root}); scenario 'own' "
            f"expects one of its {what} for each client, or data-path in the node config"
        )
    if settings.data.dataset == "npz":
        paths = sorted(
            (path for path in root.glob("*.npz") if not path.name.startswith(".")),
            key=lambda path: path.stem,
        )
    elif settings.data.dataset == "table":
        paths = table_files(root)
    else:
        paths = subfolders(root)
    if len(paths) != settings.run.num_clients:
        raise DataError(
            f"data-dir = {str(root)!r} has {len(paths)} {what}, but num-clients = "
            f"{settings.run.num_clients}; expected one for each client"
        )
    return paths[partition_id]


def _file_states(path: Path) -> Iterator[_FileState]:
    """Yield path, time of change and size of a file, or of all files below a folder."""
    for file in files_below(path) if path.is_dir() else [path]:
        try:
            status = file.stat()
        except FileNotFoundError:  # gone since it was listed
            continue
        yield str(file), status.st_mtime_ns, status.st_size


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Say in errors of the data whose it is."""
    try:
        yield
    except DataError as error:
        raise error.of(f"client {name!r}") from error


@lru_cache(maxsize=8)
def _listed(source: Source) -> FolderOfClasses:
    """List a client's folder of images, once in each state."""
    return FolderOfClasses(source.path, source.reading, unlabelled=source.unlabelled)


@lru_cache(maxsize=8)
def _read(source: Source, spec: SampleSpec | None) -> ClientData:
    """Read a client's files, once in each state and for each spec."""
    with _named(source.name):
        if source.kind == "image-folder":
            parts = _listed(source).read_and_tell(None if spec is None else ImageForm.of(spec))
        else:
            parts = read_own(
                source.kind,
                str(source.path),
                source.modality,
                source.options,
                source.whose,
                reading=source.reading,
                spec=spec,
                unlabelled=source.unlabelled,
            )
        return as_client(parts, source.name, source.path, source.seed, source.test_fraction)


def as_client(parts: Parts, name: str, path: Path, seed: int, test_fraction: float) -> ClientData:
    """Return what was read as a client's data, with a test part held out where there is none."""
    if not parts.class_names:
        train, test = parts.train, parts.train.select(np.arange(0))
    else:
        train, test = with_test_part(parts, test_fraction, seed, origin=str(path), client=name)
    return ClientData(
        name,
        train,
        test,
        parts.class_names,
        None,
        spec=parts.spec,
        files_left_out=parts.files_left_out,
        test_drawn=parts.test is None,
    )
