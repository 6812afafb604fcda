"""The scenarios: which data a client has (setting ``scenario``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.files import subfolders
from feddag_flwr.data.holdout import with_test_part
from feddag_flwr.data.images import DataError, LabelledImages, Source
from feddag_flwr.data.partition import (
    assign_groups,
    classes_per_group,
    client_indices,
    deal_classes,
    label_skew_counts,
    lda_counts,
)
from feddag_flwr.data.sources import load_source, read_own
from feddag_flwr.settings import Settings

NodeConfig = Mapping[str, bool | int | float | str]


@dataclass(frozen=True, eq=False)
class ClientData:
    """The data of one client.

    Attributes
    ----------
    name : str
        The client's name, the same in every round.
    train, test : LabelledImages
        Its parts, neither empty.
    class_names : tuple of str
        Name of each label; of the whole source, or of the client's own data (scenario own).
    true_group : int or None
        Group that the scenario put the client in; for evaluation only, never for training.
    """

    name: str
    train: LabelledImages
    test: LabelledImages
    class_names: tuple[str, ...]
    true_group: int | None


def load_client_data(settings: Settings, node_config: NodeConfig) -> ClientData:
    """Load the data of the client that runs on this node.

    Parameters
    ----------
    settings : Settings
        The run's settings.
    node_config : mapping
        Flower's node config: ``partition-id`` and ``num-partitions`` in simulation; in deployment
        ``partition-id`` or, for scenario own, ``data-path``. ``client-name`` is optional.

    Returns
    -------
    ClientData

    Raises
    ------
    DataError
        When the node config, the data or the split is not as it must be.
    """
    if settings.scenario == "own":
        data = _own_data(settings, node_config)
    elif "data-path" in node_config:
        raise DataError(
            f"node config data-path = {node_config['data-path']!r}: only scenario = 'own' takes "
            f"it, but scenario = {settings.scenario!r}"
        )
    else:
        data = _split_data(settings, node_config)
    for part, images in (("train", data.train), ("test", data.test)):
        if not len(images):
            raise DataError(
                f"client {data.name!r}: no {part} images of the classes it holds; "
                "expected at least one"
            )
    return data


def _partition_id(settings: Settings, node_config: NodeConfig) -> int:
    partition_id = node_config.get("partition-id")
    if not isinstance(partition_id, int) or isinstance(partition_id, bool):
        raise DataError(
            f"node config partition-id = {partition_id!r}: expected an integer from 0 to "
            f"{settings.num_clients - 1}"
            + (" (or data-path for scenario = 'own')" if settings.scenario == "own" else "")
        )
    num_partitions = node_config.get("num-partitions", settings.num_clients)
    if num_partitions != settings.num_clients:
        raise DataError(
            f"the federation has {num_partitions} nodes (num-partitions), but num-clients = "
            f"{settings.num_clients}; set both to the same number"
        )
    if not 0 <= partition_id < settings.num_clients:
        raise DataError(
            f"node config partition-id = {partition_id}: expected 0 to "
            f"{settings.num_clients - 1} (num-clients = {settings.num_clients})"
        )
    return partition_id


def _text(node_config: NodeConfig, key: str) -> str | None:
    value = node_config.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise DataError(f"node config {key} = {value!r}: expected a string that is not empty")
    return value


def _split_data(settings: Settings, node_config: NodeConfig) -> ClientData:
    """Take one client's part of a common source (scenarios I and III)."""
    partition_id = _partition_id(settings, node_config)
    width = len(str(settings.num_clients - 1))
    name = _text(node_config, "client-name") or f"client-{partition_id:0{width}d}"
    source = load_source(settings)
    split = _split(source, settings)
    indices = client_indices(source.train.labels, split.counts, partition_id, settings.seed)
    held = split.counts[partition_id] > 0
    return ClientData(
        name=name,
        train=source.train.select(indices),
        test=source.test.select(np.flatnonzero(held[source.test.labels])),
        class_names=source.class_names,
        true_group=None if split.groups is None else int(split.groups[partition_id]),
    )


@dataclass(frozen=True, eq=False)
class _Split:
    """What all clients have in common: counts of shape (N, C) and, if any, groups of shape (N,)."""

    counts: NDArray[np.int64]
    groups: NDArray[np.int64] | None


def _split(source: Source, settings: Settings) -> _Split:
    sizes = np.bincount(source.train.labels, minlength=len(source.class_names))
    return _split_of_sizes(tuple(sizes.tolist()), source.class_names, _SplitSettings.of(settings))


@dataclass(frozen=True)
class _SplitSettings:
    """The settings that a split depends on; the key under which it is kept."""

    scenario: str
    num_clients: int
    label_skew: float
    client_groups: int
    dirichlet_alpha: float
    min_class_samples: int
    seed: int

    @classmethod
    def of(cls, settings: Settings) -> _SplitSettings:
        return cls(**{name: getattr(settings, name) for name in cls.__dataclass_fields__})


@lru_cache(maxsize=4)
def _split_of_sizes(
    sizes: tuple[int, ...], class_names: tuple[str, ...], wanted: _SplitSettings
) -> _Split:
    if wanted.scenario == "lda":
        counts = lda_counts(
            sizes,
            num_clients=wanted.num_clients,
            alpha=wanted.dirichlet_alpha,
            floor=wanted.min_class_samples,
            seed=wanted.seed,
        )
        return _Split(counts, None)
    groups = assign_groups(wanted.num_clients, wanted.client_groups, wanted.seed)
    per_group = classes_per_group(len(sizes), wanted.label_skew)
    counts = label_skew_counts(
        sizes,
        class_names,
        groups=groups,
        group_classes=deal_classes(len(sizes), wanted.client_groups, per_group, wanted.seed),
        alpha=wanted.dirichlet_alpha,
        floor=wanted.min_class_samples,
        seed=wanted.seed,
    )
    return _Split(counts, groups)


def _own_data(settings: Settings, node_config: NodeConfig) -> ClientData:
    """Read the client's own folder or archive (scenario own)."""
    given = _text(node_config, "data-path")
    path = Path(given).expanduser() if given else _own_path(settings, node_config)
    path = path.absolute()
    name = path.stem if settings.source == "npz" else path.name
    name = _text(node_config, "client-name") or name
    return _read_own_data(settings.source, str(path), name, settings.seed, settings.test_fraction)


def _own_path(settings: Settings, node_config: NodeConfig) -> Path:
    """Pick the folder or archive of the partition, in order of names."""
    partition_id = _partition_id(settings, node_config)
    what = ".npz files" if settings.source == "npz" else "sub-folders"
    root = Path(settings.data_dir).expanduser().absolute()
    if not settings.data_dir or not root.is_dir():
        raise DataError(
            f"data-dir = {settings.data_dir!r}: no such folder ({root}); scenario 'own' expects "
            f"one of its {what} for each client, or data-path in the node config"
        )
    if settings.source == "npz":
        paths = sorted(
            (path for path in root.glob("*.npz") if not path.name.startswith(".")),
            key=lambda path: path.stem,
        )
    else:
        paths = subfolders(root)
    if len(paths) != settings.num_clients:
        raise DataError(
            f"data-dir = {str(root)!r} has {len(paths)} {what}, but num-clients = "
            f"{settings.num_clients}; expected one for each client"
        )
    return paths[partition_id]


@lru_cache(maxsize=8)
def _read_own_data(kind: str, path: str, name: str, seed: int, test_fraction: float) -> ClientData:
    try:
        parts = read_own(kind, path)
        train, test = with_test_part(parts, test_fraction, seed, origin=path, client=name)
    except DataError as error:
        raise DataError(f"client {name!r}: {error}") from error
    return ClientData(name, train, test, parts.class_names, None)
