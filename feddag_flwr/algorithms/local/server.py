"""Every client by itself: what a federation has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from feddag_flwr.algorithms.algorithm import Algorithm


class LocalOnly(Algorithm):
    """One model a client, trained on that client's data alone, without any exchange.

    Exact: no client's update reaches another. A client trains in the rounds it is drawn for, as in
    every other algorithm, so that local work is the same. Adapted: the server keeps each client's
    model between its turns, for simulated clients have no memory; none of that is counted as
    traffic. A client unseen in training has no model.
    """

    counts_traffic = False

    def begin(self) -> None:
        """Give every client a cluster of its own, with the common random start."""
        names = list(self.state.clients)
        start = self.random_start()
        self.state.set_clusters(names, range(len(names)), [dict(start) for _ in names])

    def place_held_out(self, server_round: int, names: list[str]) -> dict[str, int]:
        """Leave them without a model: nobody shares one."""
        del server_round, names
        return {}

    def place_newcomers(
        self, server_round: int, names: list[str], replies: Mapping[str, Any]
    ) -> dict[str, int]:
        """Give each newcomer a cluster of its own."""
        del server_round, replies
        first = self.state.num_clusters
        start = self.random_start()
        self.state.models += [dict(start) for _ in names]
        return {name: first + index for index, name in enumerate(names)}
