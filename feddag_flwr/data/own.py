"""Scenario own: each client's own folder or archive, which may change while the run goes on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from feddag_flwr.data.client import ClientData, NodeConfig, read_partition_id, read_text
from feddag_flwr.data.datasets import read_own
from feddag_flwr.data.files import files_below, subfolders
from feddag_flwr.data.holdout import with_test_part
from feddag_flwr.data.samples import DataError, Parts
from feddag_flwr.settings import Settings

# Path, time of the last change in nanoseconds, bytes.
_FileState = tuple[str, int, int]


def load_own_data(settings: Settings, node_config: NodeConfig) -> ClientData:
    """Read the client's own data, from ``data-path`` or its partition's place in ``data-dir``.

    A process reads files once, and anew when one came, went, or has another size or time of
    change. Where a test part is held out, more samples mean another draw.

    Raises
    ------
    DataError
        When the node config or the data is not as it must be.
    """
    given = read_text(node_config, "data-path")
    path = Path(given).expanduser() if given else _own_path(settings, node_config)
    path = path.absolute()
    name = read_text(node_config, "client-name") or default_name(settings.data.dataset, path)
    return _read(
        _Wanted(
            settings.data.dataset,
            path,
            name,
            settings.data.modality,
            settings.run.seed,
            settings.data.test_fraction,
        )
    )


def default_name(dataset: str, path: Path) -> str:
    """Return the name of a client that its node config does not name: that of its files."""
    return path.stem if dataset == "npz" else path.name


def _own_path(settings: Settings, node_config: NodeConfig) -> Path:
    """Pick the folder or archive of the partition, in order of names."""
    partition_id = read_partition_id(settings, node_config)
    what = ".npz files" if settings.data.dataset == "npz" else "sub-folders"
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
    else:
        paths = subfolders(root)
    if len(paths) != settings.run.num_clients:
        raise DataError(
            f"data-dir = {str(root)!r} has {len(paths)} {what}, but num-clients = "
            f"{settings.run.num_clients}; expected one for each client"
        )
    return paths[partition_id]


class _Wanted(NamedTuple):
    """What a client's data depends on besides its files; the key under which it is kept."""

    kind: str
    path: Path
    name: str
    modality: str
    seed: int
    test_fraction: float


# The clients read last, with the state that their files were in.
_known: OrderedDict[_Wanted, tuple[frozenset[_FileState], ClientData]] = OrderedDict()
_MOST_KNOWN = 8


def _read(wanted: _Wanted) -> ClientData:
    state = frozenset(_file_states(wanted.path))  # before reading: what changes meanwhile counts
    found = _known.pop(wanted, None)
    if found is None or found[0] != state:
        found = state, _read_files(wanted)
    _known[wanted] = found
    while len(_known) > _MOST_KNOWN:
        _known.popitem(last=False)
    return found[1]


def _file_states(path: Path) -> Iterator[_FileState]:
    """Yield path, time of change and size of a file, or of all files below a folder."""
    for file in files_below(path) if path.is_dir() else [path]:
        try:
            found = file.stat()
        except FileNotFoundError:  # gone since it was listed
            continue
        yield str(file), found.st_mtime_ns, found.st_size


def _read_files(wanted: _Wanted) -> ClientData:
    try:
        parts = read_own(wanted.kind, str(wanted.path), wanted.modality)
        return as_client(parts, wanted.name, wanted.path, wanted.seed, wanted.test_fraction)
    except DataError as error:
        raise DataError(f"client {wanted.name!r}: {error}") from error


def as_client(parts: Parts, name: str, path: Path, seed: int, test_fraction: float) -> ClientData:
    """Return what was read as a client's data, with a test part held out where there is none.

    Raises
    ------
    DataError
        None can be held out; the message begins with `path`.
    """
    train, test = with_test_part(parts, test_fraction, seed, origin=str(path), client=name)
    return ClientData(name, train, test, parts.class_names, None)
