"""IFCA: every client trains the model that fits it best."""

from __future__ import annotations

from feddag_flwr.algorithms.algorithm import Algorithm, RoundReplies
from feddag_flwr.algorithms.ifca.messages import ChoiceReply, ChoiceTrainRequest
from feddag_flwr.models.flat import get_parts


class IFCA(Algorithm):
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

    def begin(self) -> None:
        """Draw K different starts; no client has a cluster of its own choice yet."""
        names = list(self.state.clients)
        starts = range(self.settings.clustering.num_clusters)
        models = [
            get_parts(self.context.initial_model(dual=False, number=start)) for start in starts
        ]
        self.state.set_clusters(names, [0] * len(names), models)

    def train_request(self, server_round: int, name: str) -> ChoiceTrainRequest:
        """Send all K models."""
        header, models = self.context.header(name, server_round), self.state.models
        candidates = tuple(dict(model) for model in models)
        return ChoiceTrainRequest(header, candidates, self.local_training(name))

    def update(self, found: RoundReplies) -> None:
        """Move every participant to the cluster that it chose, then average within clusters."""
        for name, reply in found.replies.items():
            if isinstance(reply, ChoiceReply):
                self.state.assignments[name] = reply.choice
        self.average_clusters(found)

    def prepare_evaluation(self, server_round: int, names: list[str]) -> None:
        """Let all clients choose; one without a valid reply stays where it is."""
        losses = self.candidate_losses(server_round, names, self.state.models)
        for name, each in losses.items():
            self.state.assignments[name] = int(each.losses.argmin())
