"""FedAvg: one cluster, no profile."""

from __future__ import annotations

from feddag_flwr.algorithms.algorithm import Algorithm


class FedAvg(Algorithm):
    """Federated averaging with one single-encoder model for all clients.

    Source: McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from
    Decentralized Data", Algorithm 1. Exact: the data-weighted mean of the participants' weights.
    Adapted: clients are drawn by the setting ``participation``.
    """

    def begin(self) -> None:
        """Put every client into one cluster with a random model."""
        self.start_together([self.random_start()])
