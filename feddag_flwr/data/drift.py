"""Clients whose data changes while the federation trains (settings drift-share, drift-round)."""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from feddag_flwr.data.plan import Plan
from feddag_flwr.data.samples import DataError
from feddag_flwr.seeds import generator
from feddag_flwr.settings import Settings


def part_in_round(settings: Settings, plan: Plan, client: int, server_round: int) -> int:
    """Return the partition whose part a client has in a round: its own until it drifts.

    From ``drift-round`` on, ``drift-share`` of the clients, drawn by seed, have each other's parts.
    They stand in a ring, ordered by true group and number, which is turned by the size of the
    largest group among them (by half where no groups are known): so everybody gets a part of
    another group, unless one group has more than half of them, which then keeps as few as it must.
    `DataError` where all clients drawn are of one group: nobody's data would change.
    """
    if settings.data.drift_looks != "none" or not _has_begun(settings, server_round):
        return client
    return drifted_parts(plan, settings.data.drift_share, settings.run.seed).get(client, client)


def _has_begun(settings: Settings, server_round: int) -> bool:
    return bool(settings.data.drift_share) and server_round >= settings.data.drift_round


def looks_in_round(settings: Settings, client: int, server_round: int) -> str:
    """Return what has become of a client's images in a round (``drift-looks``)."""
    if not _has_begun(settings, server_round):
        return "none"
    clients, share = settings.run.num_clients, settings.data.drift_share
    drawn = drawn_to_drift(clients, share, settings.run.seed)
    return settings.data.drift_looks if client in drawn else "none"


def drawn_to_drift(clients: int, share: float, seed: int) -> NDArray[np.int64]:
    """Draw the clients whose data changes: ascending numbers."""
    order = generator(seed, "draw-drifting").permutation(clients)
    return np.sort(order[: round(share * clients)])


@lru_cache(maxsize=4)
def drifted_parts(plan: Plan, share: float, seed: int) -> Mapping[int, int]:
    """Return the part that each drifting client gets, see `part_in_round`."""
    clients = len(plan.counts)
    drawn = drawn_to_drift(clients, share, seed)
    if plan.true_groups is None:
        ring, turn = drawn, len(drawn) // 2
    else:
        groups = plan.true_groups[drawn]
        ring, turn = drawn[np.argsort(groups, kind="stable")], int(np.bincount(groups).max())
    if turn % len(ring) == 0:
        raise DataError(
            f"drift-share = {share}: the {len(ring)} clients drawn by seed {seed} are of one "
            "group; expected clients of two groups at least, that can swap their data"
        )
    return dict(zip(ring.tolist(), np.roll(ring, -turn).tolist(), strict=True))
