"""FedAvg within the true groups."""

from __future__ import annotations

from feddag_flwr.algorithms.algorithm import Algorithm
from feddag_flwr.checkpoints import AlgorithmState
from feddag_flwr.federation.errors import FederationError


class Oracle(Algorithm):
    """One single-encoder model for each true group of the scenario, trained by FedAvg.

    Not an algorithm for real data, where nobody knows the groups, and no upper bound either: it
    starts from the common random model, FedDAG* from the mean of its members' warmed-up encoders. A
    client unseen in training joins its true group too.
    """

    def begin(self) -> None:
        """Put the clients into their true groups; `FederationError` if the scenario has none."""
        names = list(self.state.clients)
        without = [name for name in names if name not in self.context.true_groups]
        if without:
            raise FederationError(
                f"algorithm = 'oracle': scenario = {self.settings.data.scenario!r} as set has "
                f"no true groups (client {without[0]})"
            )
        groups = sorted({self.context.true_groups[name] for name in names})
        self._cluster_of = {group: cluster for cluster, group in enumerate(groups)}
        labels = [self._cluster_of[self.context.true_groups[name]] for name in names]
        start = self.random_start()
        self.state.set_clusters(names, labels, [dict(start) for _ in groups])

    def state_dict(self) -> AlgorithmState:
        """Keep the groups, in the order of their clusters."""
        return AlgorithmState(notes={"groups": list(self._cluster_of)})

    def load_state_dict(self, kept: AlgorithmState) -> None:
        """Take the groups back."""
        self._cluster_of = {group: cluster for cluster, group in enumerate(kept.notes["groups"])}

    def place_held_out(self, server_round: int, names: list[str]) -> dict[str, int]:
        """Put each client into its true group, if it has one that training has seen."""
        del server_round
        groups = {name: self.context.true_groups.get(name) for name in names}
        return {
            name: self._cluster_of[group]
            for name, group in groups.items()
            if group in self._cluster_of
        }
