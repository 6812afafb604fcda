"""Clients that join while the federation trains (settings newcomer-share, newcomer-round)."""

from __future__ import annotations

from functools import lru_cache

from feddag_flwr.data.client import NodeConfig, partition_name, read_partition_id, read_text
from feddag_flwr.data.images import DataError
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings


class NotYetJoined(DataError):  # noqa: N818 - a state of the client, not a fault of its data
    """The client is not there yet: a request came before the round in which it joins."""


def late_clients(settings: Settings) -> frozenset[int]:
    """Return the partitions that join in ``newcomer-round``: ``newcomer-share`` of all, by seed."""
    return _draw(settings.newcomer_share, settings.num_clients, settings.seed)


def check_joined(settings: Settings, node_config: NodeConfig, server_round: int) -> None:
    """Refuse to answer before the round in which this client joins.

    Parameters
    ----------
    settings : Settings
        ``newcomer-share``, ``newcomer-round`` and ``seed``.
    node_config : mapping
        Flower's node config, with the partition.
    server_round : int
        The round of the request, 0 before the first.

    Raises
    ------
    NotYetJoined
        Says from which round on the client is there.
    DataError
        The node config names no partition.
    """
    if not settings.newcomer_share or server_round >= settings.newcomer_round:
        return
    partition = read_partition_id(settings, node_config)
    if partition in late_clients(settings):
        own_name = partition_name(partition, settings.num_clients)
        name = read_text(node_config, "client-name") or own_name
        raise NotYetJoined(f"client {name!r} joins in round {settings.newcomer_round}")


@lru_cache(maxsize=4)
def _draw(share: float, clients: int, seed: int) -> frozenset[int]:
    order = generator(seed, "draw-newcomers").permutation(clients)
    return frozenset(order[: round(share * clients)].tolist())
