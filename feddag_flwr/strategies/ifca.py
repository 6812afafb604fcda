"""IFCA on the clustered base: every client trains the model that fits it best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from feddag_flwr.models.flat import get_parts
from feddag_flwr.records import Model, TrainReply
from feddag_flwr.strategies.clustered import ClusteredStrategy


class IFCA(ClusteredStrategy):
    """Clients choose among K models by training loss, in every round anew.

    Source: Ghosh et al. 2020, "An Efficient Framework for Clustered Federated Learning" (NeurIPS),
    Algorithm 1, option II (model averaging). K is ``num-clusters``, which the method must be told;
    the paper's experiments use the true number, 4 for rotated MNIST and 2 for rotated CIFAR-10.

    Exact: K random starts that differ; every participant receives all K models, estimates its
    cluster by the lowest mean loss on its training data, and trains that model alone; a cluster
    that nobody chose keeps its model; a client unseen in training joins the cluster of lowest loss.
    Adapted: models are averaged by samples, as in every algorithm here (the paper's option II
    weights clients evenly, with data sets of equal size); before an evaluation every client finds
    its cluster by training loss and is judged by that model alone (in the paper a test client takes
    the lowest loss on what it is judged by, which would show test data to the algorithm); one start
    and no restarts. Until a client has chosen, it counts to cluster 0.

    Bytes: training sends K models to a participant and one back; the choice before an evaluation
    sends K models to each client. The server sends the chosen one once more to have it judged,
    which a deployed client would not need.
    """

    def form_clusters(self) -> None:
        """Draw K different starts; no client has a cluster of its own choice yet."""
        names = list(self.state.clients)
        starts = range(self.settings.num_clusters)
        models = [get_parts(self.initial_model(dual=False, number=start)) for start in starts]
        self.state.set_clusters(names, [0] * len(names), models)

    def candidates_for(self, name: str) -> Sequence[Model]:
        """Send all K models."""
        del name
        return self.state.models

    def aggregate(self, server_round: int, replies: Mapping[str, TrainReply]) -> None:
        """Move every participant to the cluster that it chose, then average within clusters."""
        for name, reply in replies.items():
            if reply.choice is not None:
                self.state.assignments[name] = reply.choice
        super().aggregate(server_round, replies)

    def before_evaluation(self, server_round: int, names: list[str]) -> None:
        """Let all clients choose; one without a valid reply stays where it is."""
        found = self.candidate_losses(server_round, names, self.state.models)
        for name, measured in found.items():
            self.state.assignments[name] = int(measured.losses.argmin())
