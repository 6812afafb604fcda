"""Clients that join while the federation trains (settings newcomer-share, newcomer-round)."""

from functools import lru_cache

from feddag_flwr.data.client import NodeConfig, read_partition_id
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings


def late_clients(settings: Settings) -> frozenset[int]:
    """Return the partitions that join in ``newcomer-round``: ``newcomer-share`` of all, by seed."""
    return _draw(settings.data.newcomer_share, settings.run.num_clients, settings.run.seed)


def joining_round(settings: Settings, node_config: NodeConfig) -> int:
    """Return the round in which this client joins; 0 for one that is there from the start."""
    if not settings.data.newcomer_share:
        return 0
    late = read_partition_id(settings, node_config) in late_clients(settings)
    return settings.data.newcomer_round if late else 0


def comes_unlabelled(settings: Settings, partition_id: int) -> bool:
    """Tell whether this partition joins late and without labels."""
    return settings.data.newcomers_unlabelled and partition_id in late_clients(settings)


@lru_cache(maxsize=4)
def _draw(share: float, clients: int, seed: int) -> frozenset[int]:
    order = generator(seed, "draw-newcomers").permutation(clients)
    return frozenset(order[: round(share * clients)].tolist())
