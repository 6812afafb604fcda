"""Scenario own: each client's own folder, archive or table, which may change on the way."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from feddag_flwr.data.client import ClientData, NodeConfig, read_partition_id, read_text
from feddag_flwr.data.datasets import read_own
from feddag_flwr.data.files import files_below, subfolders
from feddag_flwr.data.holdout import with_test_part
from feddag_flwr.data.samples import DataError, Parts
from feddag_flwr.data.tables import TableOptions, client_names, table_files
from feddag_flwr.settings import Settings

# Path, time of the last change in nanoseconds, bytes.
_FileState = tuple[str, int, int]


def load_own_data(settings: Settings, node_config: NodeConfig) -> ClientData:
    """Read the client's own data, from ``data-path`` or its partition's place in ``data-dir``.

    A process reads files once, and anew when one came, went, or has another size or time of
    change. Where a test part is held out, more samples mean another draw.
    """
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
    return _read(
        settings.data.dataset,
        path,
        named or default_name(settings.data.dataset, path),
        settings.data.modality,
        options,
        whose if options.client else "",
        settings.run.seed,
        settings.data.test_fraction,
        settings.clustering.unlabelled == "place",
        frozenset(_file_states(path)),  # before reading: what changes meanwhile counts
    )


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


@lru_cache(maxsize=8)
def _read(
    kind: str,
    path: Path,
    name: str,
    modality: str,
    options: TableOptions,
    whose: str,
    seed: int,
    test_fraction: float,
    unlabelled: bool,  # whether it may be
    state: frozenset[_FileState],
) -> ClientData:
    """Read a client's files, once in each state."""
    try:
        parts = read_own(kind, str(path), modality, options, whose, unlabelled=unlabelled)
        return as_client(parts, name, path, seed, test_fraction)
    except DataError as error:
        raise DataError(f"client {name!r}: {error}") from error


def as_client(parts: Parts, name: str, path: Path, seed: int, test_fraction: float) -> ClientData:
    """Return what was read as a client's data, with a test part held out where there is none."""
    if not parts.class_names:
        return ClientData(name, parts.train, parts.train.select(np.arange(0)), (), None)
    train, test = with_test_part(parts, test_fraction, seed, origin=str(path), client=name)
    return ClientData(name, train, test, parts.class_names, None)
