"""FedAvg within the true groups."""

from __future__ import annotations

from feddag_flwr.checkpoints import AlgorithmState
from feddag_flwr.models.flat import get_parts
from feddag_flwr.strategies.client_registry import FederationError
from feddag_flwr.strategies.clustered import ClusteredStrategy


class Oracle(ClusteredStrategy):
    """One single-encoder model for each true group of the scenario, trained by FedAvg.

    Not an algorithm for real data, where nobody knows the groups, and no upper bound either: it
    starts from the common random model, FedDAG* from the mean of its members' warmed-up encoders. A
    client unseen in training joins its true group too.
    """

    def form_clusters(self) -> None:
        """Put the clients into their true groups.

        Raises
        ------
        FederationError
            The scenario has no true groups.
        """
        names = list(self.state.clients)
        without = [name for name in names if name not in self.true_groups]
        if without:
            raise FederationError(
                f"algorithm = 'oracle': scenario = {self.settings.scenario!r} as set has no true "
                f"groups (client {without[0]})"
            )
        groups = sorted({self.true_groups[name] for name in names})
        self._cluster_of = {group: cluster for cluster, group in enumerate(groups)}
        labels = [self._cluster_of[self.true_groups[name]] for name in names]
        start = get_parts(self.initial_model(dual=False))
        self.state.set_clusters(names, labels, [dict(start) for _ in groups])

    def state_dict(self) -> AlgorithmState:
        """Keep the groups, in the order of their clusters."""
        return AlgorithmState(notes={"groups": list(self._cluster_of)})

    def load_state_dict(self, memory: AlgorithmState) -> None:
        """Take the groups back."""
        self._cluster_of = {group: cluster for cluster, group in enumerate(memory.notes["groups"])}

    def place_held_out(self, server_round: int, names: list[str]) -> dict[str, int]:
        """Put each client into its true group, if it has one that training has seen."""
        del server_round
        groups = {name: self.true_groups.get(name) for name in names}
        return {
            name: self._cluster_of[group]
            for name, group in groups.items()
            if group in self._cluster_of
        }
