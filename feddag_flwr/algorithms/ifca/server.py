"""IFCA: every client trains the model that fits it best."""

from __future__ import annotations

from feddag_flwr.algorithms.algorithm import Algorithm, RoundReplies
from feddag_flwr.algorithms.ifca.messages import ChoiceReply, ChoiceTrainRequest


class IFCA(Algorithm):
    """Clients choose among K models by training loss, in every round anew.

    Source: Ghosh et al. 2020, "An Efficient Framework for Clustered Federated Learning" (NeurIPS),
    Algorithm 1, option II (model averaging). K is ``num-clusters``, which the method must be told.

    Exact: K random starts that differ; every participant receives all K models and trains the one
    of lowest mean loss on its training data; a cluster that nobody chose keeps its model; a client
    unseen in training joins the cluster of lowest loss. Adapted: models are averaged by samples, as
    in every algorithm here (option II: evenly, with data sets of equal size); before an evaluation
    every client chooses by training loss (in the paper a test client takes the lowest loss on what
    it is judged by); one start and no restarts. Until a client has chosen, it is in cluster 0.

    Bytes: K models to a participant and one back; K models to each client before an evaluation, and
    the chosen one once more, which a deployed client would not need.
    """

    def begin(self) -> None:
        """Draw K different starts; no client has a cluster of its own choice yet."""
        self.start_together(
            [self.random_start(k) for k in range(self.settings.clustering.num_clusters)]
        )

    def train_request(self, server_round: int, name: str) -> ChoiceTrainRequest:
        """Send all K models."""
        header, models = self.context.header(name, server_round), self.state.models
        candidates = tuple(dict(model) for model in models)
        return ChoiceTrainRequest(header, candidates, self.local_training(name))

    def update(self, round_replies: RoundReplies) -> None:
        """Move every participant to the cluster that it chose, then average within clusters."""
        for name, reply in round_replies.replies.items():
            if isinstance(reply, ChoiceReply):
                self.state.assignments[name] = reply.choice
        self.average_clusters(round_replies)

    def prepare_evaluation(self, server_round: int, names: list[str]) -> None:
        """Let all clients choose; one without a valid reply stays where it is."""
        self.state.assignments |= self.lowest_loss(server_round, names)
