"""What a user's own loader of data is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from feddag_flwr.data.client import NodeConfig, partition_name, read_partition_id, read_text
from feddag_flwr.settings import Settings


@dataclass(frozen=True)
class LoadContext:
    """Whose data is asked for, as the node and the run's settings say it.

    Attributes
    ----------
    client_name : str
        Node config ``client-name``, else that of the partition: ``client-3``.
    partition : int or None
        Number of the client from 0 on, in a simulation; on a node that names none, None.
    num_clients : int
        Setting ``num-clients``.
    data_dir : str
        Setting ``data-dir``.
    data_path : str
        Node config ``data-path``; empty where there is none.
    seed : int
        Setting ``seed``.
    node_config : mapping
        All that the node says.
    """

    client_name: str
    partition: int | None
    num_clients: int
    data_dir: str
    data_path: str
    seed: int
    node_config: Mapping[str, bool | int | float | str] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, settings: Settings, node_config: NodeConfig) -> LoadContext:
        """Read a node config; a `DataError` where it names neither a client nor a partition."""
        named, path = read_text(node_config, "client-name"), read_text(node_config, "data-path")
        partition = None
        if "partition-id" in node_config or not named:
            partition = read_partition_id(settings, node_config)
        clients = settings.run.num_clients
        name = named or partition_name(partition or 0, clients)
        directory, seed = settings.data.data_dir, settings.run.seed
        return cls(name, partition, clients, directory, path or "", seed, dict(node_config))
